/**
 * What node-rdkafka has no call for: a topic's settings, the cluster's name, and groups: which, of whom, and their end. A few
 * requests of Kafka's own protocol (https://kafka.apache.org/protocol, each in the oldest version that Kafka 2.1 to 4.x answers), one connection each, with the same TLS and SASL as the rest.
 */
import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';
import { connect as connectPlain, isIP, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';
import { HeadwaterError, codeOf, messageOf } from '../../shared/errors.ts';
import { Reader, Writer } from './kafka-wire.ts';
import { distrust } from '../../shared/net/distrust.ts';

export interface AdminAccess {
  tls?: ConnectionOptions;
  sasl?:
    | { mechanism: 'PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512'; user: string; password: string }
    | { mechanism: 'OAUTHBEARER'; token: () => string };
}

const TIMEOUT_MS = 10_000;
/** What is asked here has answers of some kilobytes; of a cluster's topics, of some megabytes. */
const ANSWER_BYTES_MAX = 100 * 1024 * 1024;
/** Brokers that are looked for where they say that they are, each for so long. */
const PLACES_MAX = 3;
const PLACE_MS = 2000;
const TOPIC = 2;
const METADATA = [3, 2] as const;
const DESCRIBE_CONFIGS = [32, 1] as const;
const DESCRIBE_GROUPS = [15, 0] as const;
const LIST_GROUPS = [16, 0] as const;
const FIND_COORDINATOR = [10, 1] as const;
const DELETE_GROUPS = [42, 1] as const;
const API_VERSIONS = [18, 0] as const;
const SASL_HANDSHAKE = [17, 1] as const;
const SASL_AUTHENTICATE = [36, 0] as const;
/** Error codes of the protocol. */
const NON_EMPTY_GROUP = 68;
const GROUP_ID_NOT_FOUND = 69;

/** A request and its version; of flexible ones the head has an end as well. */
type Request = readonly [key: number, version: number, isFlexible?: true];

/** One connection, one request at a time. */
class Wire {
  private readonly socket: Socket;
  private received = Buffer.alloc(0);
  private wake: (() => void) | undefined;
  private failure: Error | undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Silent()));
    socket.on('data', (bytes) => {
      this.received = Buffer.concat([this.received, bytes]);
      if (this.received.length >= 4 && this.received.readUInt32BE(0) > ANSWER_BYTES_MAX)
        socket.destroy(new NoKafka(this.received));
      this.wake?.();
    });
    socket.on('error', (error) => this.fail(error));
    socket.on('close', () => this.fail(new Error('the broker closed the connection')));
  }

  private fail(error: Error): void {
    this.failure ??= error;
    this.wake?.();
  }

  async request([key, version, isFlexible]: Request, body: Buffer): Promise<Reader> {
    const head = new Writer().int(2, key).int(2, version).int(4, 1).text('headwater');
    if (isFlexible) head.end();
    this.socket.write(new Writer().bytes(Buffer.concat([head.done(), body])).done());
    for (;;) {
      const length = this.received.length < 4 ? undefined : this.received.readInt32BE(0);
      if (length !== undefined && this.received.length >= 4 + length) {
        const answer = this.received.subarray(8, 4 + length);
        this.received = this.received.subarray(4 + length);
        return new Reader(answer);
      }
      if (this.failure !== undefined) throw this.failure;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }

  close(): void {
    this.socket.destroy();
  }
}

/** The broker takes the mechanism and not who asks. */
class Refused extends Error {}

/** Nothing comes. */
class Silent extends Error {
  constructor() {
    super(`no answer in ${TIMEOUT_MS} ms`);
  }
}

/** Whoever answers speaks something else. */
class NoKafka extends Error {
  constructor(said: Buffer) {
    const isTls = said[0] === 0x15 && said[1] === 0x03;
    const isHttp = said.toString('latin1', 0, 4) === 'HTTP';
    super(
      isTls
        ? 'it speaks TLS: set kafka.tls'
        : `it speaks ${isHttp ? 'HTTP' : 'something else'}, and not as Kafka does: another server has this address`,
    );
  }
}

/** What waiting for a connection that works does not tell, by the system's code. */
const UNREACHED: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there (ECONNREFUSED): start Kafka, or mend the address in --log',
  ENOTFOUND:
    'no machine is known here by that name (ENOTFOUND): mend the name in --log, or make it known',
  EAI_AGAIN:
    'its name cannot be looked up now (EAI_AGAIN): the name service of this machine does not answer, or mend the name in --log',
  EHOSTUNREACH: 'no way leads there from here (EHOSTUNREACH)',
  ENETUNREACH: 'no way leads there from here (ENETUNREACH)',
  ETIMEDOUT: 'nobody answers there (ETIMEDOUT)',
};

async function authenticate(wire: Wire, sasl: NonNullable<AdminAccess['sasl']>): Promise<void> {
  const handshake = await wire.request(SASL_HANDSHAKE, new Writer().text(sasl.mechanism).done());
  if (handshake.int(2) !== 0) throw new Error(`the broker does not take SASL ${sasl.mechanism}`);
  const say = async (text: string): Promise<string> => {
    const answer = await wire.request(
      SASL_AUTHENTICATE,
      new Writer().bytes(Buffer.from(text)).done(),
    );
    const code = answer.int(2);
    const message = answer.text();
    if (code !== 0) throw new Refused(message === '' ? 'the credentials are refused' : message);
    return answer.bytes().toString('utf8');
  };
  if (sasl.mechanism === 'PLAIN') await say(`\0${sasl.user}\0${sasl.password}`);
  else if (sasl.mechanism === 'OAUTHBEARER')
    await say(`n,,\x01auth=Bearer ${sasl.token()}\x01\x01`);
  else await scram(sasl, say);
}

/** RFC 5802. */
async function scram(
  { mechanism, user, password }: { mechanism: string; user: string; password: string },
  say: (text: string) => Promise<string>,
): Promise<void> {
  const [hash, length] =
    mechanism === 'SCRAM-SHA-256' ? (['sha256', 32] as const) : (['sha512', 64] as const);
  const nonce = randomBytes(18).toString('base64');
  const first = `n=${user.replaceAll('=', '=3D').replaceAll(',', '=2C')},r=${nonce}`;
  const challenge = await say(`n,,${first}`);
  const parts = new Map(
    challenge.split(',').map((part) => [part.slice(0, 1), part.slice(2)] as const),
  );
  const combined = parts.get('r') ?? '';
  if (!combined.startsWith(nonce)) throw new Error('the broker answered with a foreign nonce');
  const salt = Buffer.from(parts.get('s') ?? '', 'base64');
  const salted = pbkdf2Sync(password, salt, Number(parts.get('i')), length, hash);
  const clientKey = createHmac(hash, salted).update('Client Key').digest();
  const stored = createHash(hash).update(clientKey).digest();
  const bare = `c=biws,r=${combined}`;
  const signature = createHmac(hash, stored).update(`${first},${challenge},${bare}`).digest();
  const proof = Buffer.from(clientKey.map((byte, at) => byte ^ (signature[at] ?? 0)));
  await say(`${bare},p=${proof.toString('base64')}`);
}

async function open(address: string, access: AdminAccess): Promise<Wire> {
  const [, host = '', port = ''] = /^\[?([^\]]*)\]?:(\d+)$/.exec(address) ?? [];
  const target = { host, port: Number(port) };
  const wire = new Wire(
    access.tls === undefined
      ? connectPlain(target)
      : connectTls({ ...target, ...(isIP(host) === 0 ? { servername: host } : {}), ...access.tls }),
  );
  try {
    if (access.sasl !== undefined) await authenticate(wire, access.sasl);
  } catch (error) {
    wire.close();
    throw error;
  }
  return wire;
}

/** Asks the first of the brokers that answers. Throws LOG_UNAVAILABLE. */
export async function ask<T>(
  brokers: string,
  access: AdminAccess,
  work: (wire: Wire) => Promise<T>,
): Promise<T> {
  let failure: unknown;
  for (const address of brokers.split(',')) {
    let wire: Wire | undefined;
    try {
      wire = await open(address.trim(), access);
      return await work(wire);
    } catch (error) {
      failure = error;
    } finally {
      wire?.close();
    }
  }
  throw new HeadwaterError(
    'LOG_UNAVAILABLE',
    `Kafka at ${brokers}: ${distrust(failure) ?? messageOf(failure)}`,
    {
      cause: failure,
    },
  );
}

/** Why the brokers do not answer, or not where they say that they are, where librdkafka does not say it; '' if they do. */
export async function reasonOf(brokers: string, access: AdminAccess): Promise<string> {
  try {
    const places = await ask(brokers, access, async (wire) => {
      await wire.request(API_VERSIONS, Buffer.alloc(0));
      return (await metadataOf(wire)).places;
    });
    return await notThere(brokers, places);
  } catch (error) {
    return distrust(error) ?? messageOf((error as { cause?: unknown }).cause ?? error);
  }
}

/**
 * Looks at who is there, certificate and password before librdkafka does, which takes its whole time limit for what is wrong
 * with them and says little. Throws LOG_UNAVAILABLE when nobody is reached, or it is no Kafka, or no broker's certificate is
 * believed, or the last one that was asked refuses the credentials.
 */
export async function checkAccess(brokers: string, access: AdminAccess): Promise<void> {
  try {
    await ask(brokers, access, async (wire) => await wire.request(API_VERSIONS, Buffer.alloc(0)));
  } catch (error) {
    const { cause } = error as { cause?: unknown };
    const why = distrust(error) ?? reasonFor(cause);
    if (why === undefined) return; // The connection itself tells.
    const text = `no Kafka broker answers at ${brokers}: ${why}`;
    throw new HeadwaterError('LOG_UNAVAILABLE', text, { cause: error });
  }
}

function reasonFor(cause: unknown): string | undefined {
  if (cause instanceof Refused)
    return `${cause.message}: mend kafka.user and what kafka.passwordFile (kafka.tokenFile) holds; at a start the file is read again at each try`;
  if (cause instanceof NoKafka || cause instanceof Silent) return cause.message;
  return UNREACHED[codeOf(cause)];
}

/** Where each broker says that it is, HOST:PORT, and the cluster's id. */
async function metadataOf(wire: Wire): Promise<{ places: string[]; cluster: string }> {
  const answer = await wire.request(METADATA, new Writer().int(4, 0).done());
  const places = answer.list(() => {
    answer.int(4);
    const place = `${answer.text()}:${answer.int(4)}`;
    answer.text();
    return place;
  });
  return { places, cluster: answer.text() };
}

/** Why none of the places is reached where brokers say that they are, of those where nobody was asked; '' where one is. */
export async function notThere(brokers: string, places: readonly string[]): Promise<string> {
  const own = new Set(brokers.split(',').map((each) => each.trim()));
  if (places.length === 0 || places.some((each) => own.has(each))) return '';
  let why = '';
  for (const place of places.slice(0, PLACES_MAX)) {
    why = await reached(place);
    if (why === '') return '';
  }
  return `Kafka answers at ${brokers} and says that its brokers are at ${places.join(', ')}, where none is reached from here (${why}): mend advertised.listeners of the broker, or make that name known here`;
}

/** '' if somebody takes a connection there, else why not. */
const reached = (place: string): Promise<string> =>
  new Promise((resolve) => {
    const [, host = '', port = ''] = /^\[?([^\]]*)\]?:(\d+)$/.exec(place) ?? [];
    const socket = connectPlain({ host, port: Number(port) });
    const end = (text: string): void => {
      socket.destroy();
      resolve(text);
    };
    socket.setTimeout(PLACE_MS, () => end(`nothing within ${PLACE_MS / 1000} s`));
    socket.on('error', (error) => end(messageOf(error)));
    socket.on('connect', () => end(''));
  });

/** The cluster's id: one that was wiped has another. Throws LOG_UNAVAILABLE. */
export async function clusterOf(brokers: string, access: AdminAccess): Promise<string> {
  return await ask(brokers, access, async (wire) => (await metadataOf(wire)).cluster);
}

/** Setting → value of each topic; one that is not there, or may not be looked at, is left out. Throws LOG_UNAVAILABLE. */
export async function topicSettings(
  brokers: string,
  access: AdminAccess,
  topics: readonly string[],
): Promise<Map<string, Map<string, string>>> {
  return await ask(brokers, access, async (wire) => {
    const body = new Writer().int(4, topics.length);
    for (const topic of topics) body.int(1, TOPIC).text(topic).int(4, -1);
    const answer = await wire.request(DESCRIBE_CONFIGS, body.int(1, 0).done());
    answer.int(4);
    const found = new Map<string, Map<string, string>>();
    answer.list(() => {
      const code = answer.int(2);
      answer.text();
      answer.int(1);
      const name = answer.text();
      const settings = new Map<string, string>();
      answer.list(() => {
        settings.set(answer.text(), answer.text());
        answer.int(1); // Read-only.
        answer.int(1); // Where it comes from.
        answer.int(1); // Sensitive.
        answer.list(() => [answer.text(), answer.text(), answer.int(1)]);
      });
      if (code === 0) found.set(name, settings);
    });
    return found;
  });
}

/** Of the groups whose coordinator this broker is: each member's client id and address. Throws LOG_UNAVAILABLE. */
export async function membersAt(
  broker: string,
  access: AdminAccess,
  groups: readonly string[],
): Promise<{ group: string; client: string; host: string }[]> {
  return await ask(broker, access, async (wire) => {
    const body = new Writer().int(4, groups.length);
    for (const group of groups) body.text(group);
    const answer = await wire.request(DESCRIBE_GROUPS, body.done());
    const found = answer.list(() => {
      const code = answer.int(2);
      const group = answer.text();
      for (let at = 0; at < 3; at++) answer.text(); // State, and how it shares out its partitions.
      const members = answer.list(() => {
        answer.text();
        const member = { group, client: answer.text(), host: answer.text() };
        answer.bytes();
        answer.bytes();
        return member;
      });
      return code === 0 ? members : [];
    });
    return found.flat();
  });
}

/** Names of the groups whose coordinator this broker is. Throws LOG_UNAVAILABLE. */
export async function groupsAt(broker: string, access: AdminAccess): Promise<string[]> {
  return await ask(broker, access, async (wire) => {
    const answer = await wire.request(LIST_GROUPS, Buffer.alloc(0));
    const code = answer.int(2);
    if (code !== 0) throw new Error(`its groups cannot be listed (${code})`);
    return answer.list(() => [answer.text(), answer.text()]).map(([group = '']) => group);
  });
}

/** Ends a group without members; one that is not there is no error. Throws LOG_UNAVAILABLE. */
export async function deleteGroup(
  brokers: string,
  access: AdminAccess,
  group: string,
): Promise<void> {
  const coordinator = await ask(brokers, access, async (wire) => {
    const answer = await wire.request(FIND_COORDINATOR, new Writer().text(group).int(1, 0).done());
    answer.int(4);
    const code = answer.int(2);
    const message = answer.text();
    if (code !== 0) throw new Error(`group ${group} has no coordinator: ${message} (${code})`);
    answer.int(4);
    return `${answer.text()}:${answer.int(4)}`;
  });
  await ask(coordinator, access, async (wire) => {
    const answer = await wire.request(DELETE_GROUPS, new Writer().int(4, 1).text(group).done());
    answer.int(4);
    answer.list(() => {
      answer.text();
      const code = answer.int(2);
      if (code === NON_EMPTY_GROUP) throw new Error(`group ${group} has members`);
      if (code !== 0 && code !== GROUP_ID_NOT_FOUND)
        throw new Error(`group ${group} cannot be deleted (${code})`);
    });
  });
}

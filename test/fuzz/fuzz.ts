/**
 * A seeded fuzzer of the gateway's MQTT side: damaged conversations over real sockets, against the gateway as a device has
 * it. It fails for a crash, an unhandled rejection (the process ends by itself), memory that grows, a well-behaved client
 * that is not served, and a false acknowledgement: one for a message that was not sent, or that is not on disk afterwards.
 *
 * What was sent is read by somebody else's parser (mqtt-packet); what is on disk by the buffer's own reader, after the end.
 */
import { connect } from 'node:net';
import { parser as createParser, type Packet } from 'mqtt-packet';
import { openBuffer } from '../../gateway/buffer/open.ts';
import { GatewayClock } from '../../gateway/buffer/clock.ts';
import { realEnv } from '../../shared/env/env.ts';
import { KIND_RECORDS, checkFrame, readRecords } from '../../shared/frame/frame.ts';
import { Alive, MIB, rssBytes } from '../support/hostile.ts';
import { runLoad } from '../support/load.ts';
import { crowding, startDevice, temporaryFolder } from '../support/process.ts';
import { rng } from '../support/seed.ts';
import { wrongAnswer } from './answers.ts';
import { conversation } from './mutate.ts';

export interface FuzzOptions {
  connections: number;
  seed: number;
  onProgress?: (done: number) => void;
}

export interface FuzzResult {
  connections: number;
  seconds: number;
  accepted: number;
  acknowledged: number;
  /** RSS of the gateway at work after the fuzzing, the least that was seen, less that before it, bytes. */
  grownBytes: number;
  problems: string[];
}

const CONCURRENT = 100;
/** After the last byte that came: then the answer is taken to be whole. */
const QUIET_MS = 40;
/** Before the first byte: what is cut off is never answered. */
const FIRST_MS = 250;
const LONGEST_MS = 2000;
const PUBACK = 0x40;
const PUBREC = 0x50;
const QUIET_CHECK = 10_000;

interface Outcome {
  accepted: boolean;
  acknowledged: Acknowledged[];
  sent: Sent;
  problem: string | undefined;
}

interface Acknowledged {
  payload: string;
  /** Of QoS 2: the packet id, which an earlier connection of the same session may have used [MQTT-4.3.3-2]. */
  id: number | undefined;
}

interface Sent {
  /** PUBLISH packets: packet id → payloads. */
  publishes: Map<number, string[]>;
  /** The client id of a session that outlives its connection. */
  session: string | undefined;
  /** The other parser stopped: what came behind is not known. */
  isCutOff: boolean;
  isVersion5: boolean;
}

/** What was sent, as another parser reads it. */
function sentIn(parts: Buffer[], version: 4 | 5): Sent {
  const sent = new Map<number, string[]>();
  let session: string | undefined;
  let isVersion5 = false;
  const parser = createParser({ protocolVersion: version });
  parser.on('packet', (packet: Packet) => {
    if (packet.cmd === 'connect') {
      isVersion5 ||= packet.protocolVersion === 5;
      const lasts =
        version === 5
          ? (packet.properties?.sessionExpiryInterval ?? 0) > 0
          : packet.clean === false;
      if (lasts) session ??= packet.clientId;
    }
    if (packet.cmd !== 'publish' || packet.messageId === undefined) return;
    const list = sent.get(packet.messageId) ?? [];
    list.push(Buffer.from(packet.payload as Buffer).toString('hex'));
    sent.set(packet.messageId, list);
  });
  let broken = false;
  parser.on('error', () => {
    broken = true;
  });
  for (const part of parts) {
    if (broken) break;
    try {
      parser.parse(part);
    } catch {
      broken = true;
    }
  }
  return { publishes: sent, session, isCutOff: broken, isVersion5 };
}

/** Packets of a server are short: their types and, of acknowledgements, ids. */
function acknowledgementsIn(received: Buffer): { type: number; id: number }[] {
  const found: { type: number; id: number }[] = [];
  for (let at = 0; at + 1 < received.length; ) {
    const type = (received[at] as number) & 0xf0;
    let length = 0;
    let scale = 1;
    let offset = at + 1;
    for (; offset < received.length; offset++, scale *= 128) {
      const byte = received[offset] as number; // Within the loop's bound.
      length += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
    }
    offset++;
    // A reason of 0x80 or more says that it was not taken (MQTT 5, 3.4.2.1).
    const reason = length > 2 ? (received[offset + 2] ?? 0) : 0;
    if ((type === PUBACK || type === PUBREC) && offset + 2 <= received.length && reason < 0x80)
      found.push({ type, id: received.readUInt16BE(offset) });
    at = offset + length;
  }
  return found;
}

function talk(port: number, parts: Buffer[], localAddress: string): Promise<Buffer> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1', localAddress, noDelay: true });
    const received: Buffer[] = [];
    let quiet: NodeJS.Timeout | undefined;
    const slower = crowding();
    const longest = setTimeout(() => end(), LONGEST_MS * slower);
    const end = (): void => {
      clearTimeout(quiet);
      clearTimeout(longest);
      socket.removeAllListeners();
      socket.on('error', () => undefined); // It is over.
      socket.resetAndDestroy();
      resolve(Buffer.concat(received));
    };
    const wait = (ms: number): void => {
      clearTimeout(quiet);
      quiet = setTimeout(end, ms * slower);
    };
    socket.on('connect', () => {
      for (const part of parts) socket.write(part);
      wait(FIRST_MS);
    });
    socket.on('data', (chunk: Buffer) => {
      received.push(chunk);
      wait(QUIET_MS);
    });
    socket.on('error', end);
    socket.on('close', end);
  });
}

async function attempt(port: number, seed: number, index: number): Promise<Outcome> {
  const next = rng(seed * 1_000_003 + index);
  const version = index % 5 < 2 ? 5 : 4;
  const parts = conversation(next, `${seed}.${index}`, version);
  // From many addresses, so that ports do not run out.
  const received = await talk(port, parts, `127.0.1.${1 + (index % 200)}`);
  const accepted = received[0] === 0x20 && received[3] === 0;
  const sent = sentIn(parts, version);
  const acknowledged: Acknowledged[] = [];
  // A CONNECT that was damaged may have been one of 3.1.1, or of none: what it is answered is not of version 5 then.
  const wrong = version === 5 && accepted && sent.isVersion5 ? wrongAnswer(received) : undefined;
  if (wrong !== undefined) {
    const problem = `connection ${index}: ${wrong}: ${Buffer.concat(parts).toString('hex')} was answered with ${received.toString('hex')}`;
    return { accepted, acknowledged, sent, problem };
  }
  for (const { type, id } of acknowledgementsIn(received)) {
    const payloads = sent.publishes.get(id);
    // mqtt-packet takes some of what is right in version 5 for wrong, and reads no further.
    if (payloads === undefined && version === 5 && sent.isCutOff) continue;
    if (!accepted || payloads === undefined) {
      const problem = `connection ${index}: ${type === PUBACK ? 'PUBACK' : 'PUBREC'} ${id} for nothing that was sent: ${Buffer.concat(parts).toString('hex')} was answered with ${received.toString('hex')}`;
      return { accepted, acknowledged, sent, problem };
    }
    acknowledged.push({ payload: payloads[0] as string, id: type === PUBREC ? id : undefined });
  }
  return { accepted, acknowledged, sent, problem: undefined };
}

async function payloadsOnDisk(folder: string): Promise<Set<string>> {
  const env = realEnv();
  const buffer = await openBuffer<never>(
    env,
    {
      folder,
      gateway: 'reader',
      diskBytesMax: 2 ** 40,
      reserveBytes: MIB,
      frameBytes: 64 * 1024,
      pendingBytesMax: 2 * MIB,
      cacheBytes: 2 * MIB,
      compress: true,
      historyBytesMax: 2 ** 40,
      policy: 'block',
      clock: new GatewayClock(env, true),
    },
    {
      onDurable: () => undefined,
      onFrame: () => undefined,
      onRelief: () => undefined,
      onNotice: () => undefined,
    },
  );
  const found = new Set<string>();
  for (let from: Buffer | undefined; ; ) {
    const frames = await buffer.read(from, 16 * MIB);
    if (frames.length === 0) break;
    from = frames.at(-1)?.end;
    for (const { frame } of frames) {
      const header = checkFrame(frame);
      if (header.kind !== KIND_RECORDS) continue;
      for (const { payload } of readRecords(frame, header)) found.add(payload.toString('hex'));
    }
  }
  await buffer.close();
  return found;
}

export async function fuzz({ connections, seed, onProgress }: FuzzOptions): Promise<FuzzResult> {
  const folder = temporaryFolder();
  const gateway = await startDevice(['--data', folder], {
    HEADWATER_LIMITS_CONNECTS_PER_MINUTE: '1000000',
    // What it may keep for those who are away, and of retained messages, is little: what grows beside them is a leak.
    HEADWATER_LIMITS_OFFLINE_BYTES_MAX: '1048576',
    HEADWATER_LIMITS_RETAINED_BYTES_MAX: '1048576',
  });
  const port = gateway.port('mqtt');
  const work = async (messages: number): Promise<void> => {
    await runLoad({
      host: '127.0.0.1',
      port,
      connections: 10,
      messages,
      window: 200,
      topic: (connection) => `warm/${connection}`,
      payload: (index) => `{"value":${index},"text":"${'x'.repeat(200)}"}`,
    });
  };
  await work(50_000);
  const baseline = rssBytes(gateway.pid);
  const problems: string[] = [];
  const acknowledged = new Set<string>();
  // Session and packet id → payloads; and which of these an acknowledged payload may have been a repeat of.
  const exchanges = new Map<string, string[]>();
  const exchangeOf = new Map<string, string>();
  let accepted = 0;
  let exit: number | undefined;
  void gateway.exited.then((code) => {
    exit = code;
  });
  const began = performance.now();
  let index = 0;
  const worker = async (): Promise<void> => {
    while (index < connections && exit === undefined && problems.length < 20) {
      const mine = index++;
      const outcome = await attempt(port, seed, mine);
      if (outcome.accepted) accepted++;
      if (outcome.problem !== undefined) problems.push(outcome.problem);
      const { session, publishes } = outcome.sent;
      if (session !== undefined)
        for (const [id, payloads] of publishes) {
          const exchange = `${id} ${session}`;
          exchanges.set(exchange, [...(exchanges.get(exchange) ?? []), ...payloads]);
        }
      for (const { payload, id } of outcome.acknowledged) {
        acknowledged.add(payload);
        if (session !== undefined && id !== undefined) exchangeOf.set(payload, `${id} ${session}`);
      }
      if (mine % QUIET_CHECK === QUIET_CHECK - 1) onProgress?.(mine + 1);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENT }, worker));
  const seconds = (performance.now() - began) / 1000;
  if (exit !== undefined)
    problems.push(`the gateway ended with ${exit}: ${gateway.output().slice(-2000)}`);
  else await new Alive(gateway).check('after the fuzzing');
  // An idle process collects no garbage: it works as it did before the baseline was taken.
  const deadline = performance.now() + 20_000;
  let grownBytes = exit === undefined ? rssBytes(gateway.pid) - baseline : 0;
  while (exit === undefined && grownBytes > 32 * MIB && performance.now() < deadline) {
    await work(10_000);
    grownBytes = Math.min(grownBytes, rssBytes(gateway.pid) - baseline);
  }
  const code = await gateway.kill();
  if (exit === undefined && code !== 0) problems.push(`it did not stop as it should: ${code}`);
  if (/ error gateway (bug|broker):/.test(gateway.output()))
    problems.push(
      gateway
        .output()
        .split('\n')
        .filter((line) => / error gateway /.test(line))
        .slice(0, 5)
        .join('\n'),
    );
  const stored = await payloadsOnDisk(folder);
  const repeats = (payload: string): string[] => exchanges.get(exchangeOf.get(payload) ?? '') ?? [];
  for (const payload of acknowledged)
    if (!stored.has(payload) && !repeats(payload).some((each) => stored.has(each)))
      problems.push(`acknowledged and not on disk: ${payload}`);
  return {
    connections: index,
    seconds,
    accepted,
    acknowledged: acknowledged.size,
    grownBytes,
    problems,
  };
}

/** Where devices have to show a certificate, nobody gets anything without a good one, however the handshake goes. */
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { passwordLine } from '../../shared/config/secrets.ts';
import { Authority, selfSigned, type Pair } from '../support/certificates.ts';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { connectPacket } from '../support/hostile.ts';
import { temporaryFolder } from '../support/process.ts';

const PORTS = ['mqtts', 'wss'] as const;
type Port = (typeof PORTS)[number];
const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;
const UPGRADE =
  'GET /mqtt HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n';
const PASSWORD = 'correct horse battery';
const CONNACK = [0x20, 2, 0, 0];

const folder = temporaryFolder();
const shown: Record<string, Pair | undefined> = {};
let running: RunningGateway;

/** A client frame that holds a packet, unmasked by a mask of zeros. */
const framed = (packet: Buffer): Buffer =>
  Buffer.concat([Buffer.from([0x82, 0x80 | packet.length, 0, 0, 0, 0]), packet]);

interface Outcome {
  isReused: boolean;
  /** What came back behind the handshakes. */
  answer: number[];
  sessions: Buffer[];
}

/** Shakes hands, says CONNECT with the right password, and takes what comes until it is closed or answered. */
async function come(port: Port, options: ConnectionOptions, user = 'dev'): Promise<Outcome> {
  const socket = connect({
    ...{ host: '127.0.0.1', port: running.addresses[port]?.port ?? 0 },
    ...{ rejectUnauthorized: false, ...options },
  });
  const sessions: Buffer[] = [];
  let bytes = Buffer.alloc(0);
  let isReused = false;
  socket.on('session', (session: Buffer) => sessions.push(session));
  socket.on('error', () => undefined);
  socket.on('secureConnect', () => {
    isReused = socket.isSessionReused();
    if (port === 'wss') socket.write(UPGRADE);
    const packet = connectPacket({ id: `${user}-1`, user, password: PASSWORD });
    socket.write(port === 'wss' ? framed(packet) : packet);
  });
  socket.on('data', (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk]);
    const end = port === 'wss' ? bytes.indexOf('\r\n\r\n') + 4 : 0;
    const answer = bytes.subarray(port === 'wss' ? end + 2 : 0);
    if (end >= (port === 'wss' ? 4 : 0) && answer.length >= 4) socket.end();
  });
  await new Promise((resolve) => socket.once('close', resolve));
  const end = bytes.indexOf('\r\n\r\n');
  const isSwitched = bytes.toString('latin1').startsWith('HTTP/1.1 101');
  const answer =
    port !== 'wss' ? bytes : isSwitched ? bytes.subarray(end + 6, end + 10) : Buffer.alloc(0);
  return { isReused, answer: [...answer], sessions };
}

const shows = (pair: Pair | undefined): ConnectionOptions =>
  pair === undefined ? {} : { cert: readFileSync(pair.cert), key: readFileSync(pair.key) };

beforeAll(async () => {
  const authority = new Authority(join(folder, 'ca'));
  const other = new Authority(join(folder, 'other'));
  const between = new Authority(join(folder, 'between'), 'Between', authority);
  const server = authority.issue({ name: 'server', hosts: ['127.0.0.1'] });
  const behind = between.issue({ name: 'dev' });
  const chain = { cert: join(folder, 'chain.pem'), key: behind.key };
  writeFileSync(chain.cert, readFileSync(behind.cert, 'utf8') + readFileSync(between.cert, 'utf8'));
  const past = { name: 'dev', from: '20200101000000Z', to: '20210101000000Z' };
  const future = { name: 'dev', from: '20380101000000Z' };
  const revoked = authority.issue({ name: 'dev' });
  const leaf = authority.issue({ name: 'dev' });
  const signedByALeaf = new Authority(join(folder, 'leaf'), 'dev', authority);
  Object.assign(shown, {
    good: leaf,
    'good with its chain': chain,
    none: undefined,
    'signed by itself': selfSigned(join(folder, 'self'), '127.0.0.1'),
    'of another authority': other.issue({ name: 'dev' }),
    expired: authority.issue(past),
    'not valid yet': authority.issue(future),
    revoked,
    'for servers alone': authority.issue({ name: 'dev', use: 'serverAuth' }),
    'without its chain': behind,
    'whose authority was revoked': signedByALeaf.issue({ name: 'dev' }),
  });
  authority.revoke({ cert: signedByALeaf.cert, key: '' });
  const lists = join(folder, 'crl.pem');
  writeFileSync(
    lists,
    readFileSync(between.revoke(undefined), 'utf8') +
      readFileSync(authority.revoke(revoked), 'utf8'),
  );
  const passwords = join(folder, 'passwords');
  writeFileSync(passwords, `${await passwordLine('dev', Buffer.from(PASSWORD))}\n`, {
    mode: 0o600,
  });
  running = await runGateway(
    temporaryFolder(),
    { 'tls.clientCertificates': 'required', 'tls.crlFile': lists },
    {
      ...{ 'tls-cert': server.cert, 'tls-key': server.key, 'tls-client-ca': authority.cert },
      ...{ mqtts: '127.0.0.1:0', wss: '127.0.0.1:0', 'password-file': passwords },
    },
  );
});
afterAll(async () => await running.gateway.close());

describe.each(PORTS)('%s', (port) => {
  describe.each(VERSIONS)('%s', (version) => {
    const by = { minVersion: version, maxVersion: version };

    it('lets in who shows a good certificate, and nobody else, whatever password he knows', async () => {
      const outcomes = await Promise.all(
        Object.entries(shown).map(async ([name, pair]): Promise<[string, number[]]> => {
          const { answer } = await come(port, { ...by, ...shows(pair) });
          return [name, answer];
        }),
      );
      for (const [name, answer] of outcomes)
        expect(answer, name).toEqual(name.startsWith('good') ? CONNACK : []);
    });

    it('does not take up a session: neither one without a certificate nor one with a good one', async () => {
      for (const pair of [undefined, shown['good'], shown['expired']]) {
        const first = await come(port, { ...by, ...shows(pair) });
        // Also with nothing in hand but the session.
        for (const session of first.sessions) {
          const again = await come(port, { ...by, session });
          expect(again).toMatchObject({ isReused: false, answer: [] });
        }
      }
    });
  });

  it('does not shake hands again in the middle', async () => {
    const socket: TLSSocket = connect({
      ...{ host: '127.0.0.1', port: running.addresses[port]?.port ?? 0 },
      ...{ rejectUnauthorized: false, maxVersion: 'TLSv1.2', ...shows(shown['good']) },
    });
    await once(socket, 'secureConnect');
    const failed = await new Promise((resolve) => {
      socket.once('error', resolve);
      socket.once('close', resolve);
      socket.renegotiate({}, (error) => resolve(error));
    });
    expect(failed).toBeInstanceOf(Error);
    socket.destroy();
  });
});

it('a certificate is who it is, and no name beside it', async () => {
  const { answer } = await come('mqtts', shows(shown['good']), 'other');
  expect(answer).toEqual([0x20, 2, 0, 5]);
});

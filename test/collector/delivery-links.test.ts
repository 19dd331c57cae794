/** What leaves the collector and the gateway: no secret in clear, and the other side is who it says it is. Real servers. */
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { SMTPServer, type SMTPServerOptions } from 'smtp-server';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { send, type Alert } from '../../collector/stream/delivery/senders.ts';
import { parseDelivery } from '../../collector/stream/delivery/targets.ts';
import { Authority, type Pair } from '../support/certificates.ts';
import { runGateway } from '../support/gateway.ts';
import { temporaryFolder } from '../support/process.ts';

/** Connects to this machine, and is no name of loopback. */
const ELSEWHERE = '0.0.0.0';

const folder = temporaryFolder();
const passwordFile = join(folder, 'password');
let authority: Authority;
beforeAll(() => {
  authority = new Authority(join(folder, 'ca'));
  writeFileSync(passwordFile, 'mail password, long enough', { mode: 0o600 });
});

const alert: Alert = {
  rule: 'hot',
  status: 'firing',
  time: '2026-01-01T00:00:00Z',
  reason: 'above',
  message: 'hot',
  tags: {},
  id: 'x',
};

let smtp: SMTPServer | undefined;
afterEach(async () => {
  await new Promise<void>((resolve) => (smtp === undefined ? resolve() : smtp.close(resolve)));
  smtp = undefined;
});

/** A mail server that writes down the passwords it gets. */
async function mailServer(
  options: SMTPServerOptions,
): Promise<{ port: number; passwords: string[]; mails: string[] }> {
  const passwords: string[] = [];
  const mails: string[] = [];
  const server = new SMTPServer({
    logger: false,
    authOptional: true,
    allowInsecureAuth: true,
    ...options,
    onAuth: ({ password }, _session, done) => {
      passwords.push(password ?? '');
      done(null, { user: 'x' });
    },
    onData: (stream, _session, done) => {
      stream.on('data', (chunk: Buffer) => mails.push(chunk.toString()));
      stream.on('end', () => done());
    },
  });
  smtp = server;
  server.on('error', () => undefined); // A refused handshake is what is looked for.
  await new Promise<void>((resolve) => server.listen(0, ELSEWHERE, () => resolve()));
  return { port: (server.server.address() as { port: number }).port, passwords, mails };
}

function mailTo(port: number, more = ''): Parameters<typeof send>[0] {
  const [target] = parseDelivery(
    `deliver: [{ name: m, mail: "smtp://${ELSEWHERE}:${port}", from: a@x, to: [b@x], user: u, passwordFile: ${passwordFile}${more} }]`,
    'rules.yaml',
  ).targets;
  if (target === undefined) throw new Error('no target');
  return target;
}

const files = ({ cert, key }: Pair): SMTPServerOptions => ({
  cert: readFileSync(cert),
  key: readFileSync(key),
});

describe('no secret in clear beyond loopback unless somebody asked for it', () => {
  it('a mail server whose STARTTLS was stripped does not get the password', async () => {
    const { port, passwords } = await mailServer({
      hideSTARTTLS: true,
      disabledCommands: ['STARTTLS'],
    });
    await expect(send(mailTo(port), alert)).rejects.toThrow(/alerts wait for mail/);
    expect(passwords).toEqual([]);
    // Unless somebody insists.
    await send(mailTo(port, ', allowPlaintext: true'), alert);
    expect(passwords).toHaveLength(1);
  });

  it.each([
    [
      'webhook: "http://example.org/x", authorizationFile: /f',
      /send its authorization to example.org in clear/,
    ],
    [
      'mqtt: "mqtt://example.org", topic: t, user: u, passwordFile: /f',
      /send its password to example.org in clear/,
    ],
  ])('a target { %s } is refused, and taken with allowPlaintext', (text, message) => {
    const entry = (more: string): string => `deliver: [{ name: a, ${text}${more} }]`;
    expect(() => parseDelivery(entry(''), 'rules.yaml')).toThrow(message);
    expect(parseDelivery(entry(', allowPlaintext: true'), 'rules.yaml').targets).toHaveLength(1);
    expect(
      parseDelivery(entry('').replaceAll('example.org', '127.0.0.1'), 'rules.yaml').targets,
    ).toHaveLength(1);
  });

  it('an uplink secret does not go over mqtt:// to another machine', async () => {
    const flags = { collector: `mqtt://${ELSEWHERE}:9`, 'uplink-secret-file': passwordFile };
    await expect(runGateway(temporaryFolder(), {}, flags)).rejects.toThrow(
      /would send the uplink secret to 0\.0\.0\.0 in clear: use mqtts:.*--allow-plaintext/,
    );
    const insisted = await runGateway(temporaryFolder(), { allowPlaintext: 'true' }, flags);
    expect(insisted.notices.some(({ event }) => event === 'plaintext')).toBe(true);
    await insisted.gateway.close();
  });
});

describe('an MQTT server that goes away keeps no alert waiting', () => {
  it.each([
    ['before its CONNACK', []],
    ['before its PUBACK', [Buffer.from([0x20, 2, 0, 0])]],
  ])('%s', async (_when, answers) => {
    const server = createServer((socket) => {
      const left = [...answers];
      socket.on('error', () => undefined);
      socket.on('data', () => {
        const answer = left.shift();
        if (answer === undefined) socket.destroy();
        else socket.write(answer);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const [target] = parseDelivery(
      `deliver: [{ name: a, mqtt: "mqtt://127.0.0.1:${port}", topic: t }]`,
      'rules.yaml',
    ).targets;
    if (target === undefined) throw new Error('no target');
    await expect(send(target, alert)).rejects.toMatchObject({ code: 'UNREACHABLE' });
    await new Promise((resolve) => server.close(resolve));
  });
});

describe("the other side's certificate is checked", () => {
  it.each([
    ['of its name and authority', { hosts: [ELSEWHERE] }, undefined],
    ['of a wrong name', { hosts: ['10.9.9.9'] }, /not in the cert|altnames/],
    [
      'that has expired',
      { hosts: [ELSEWHERE], from: '20200101000000Z', to: '20240101000000Z' },
      /expired/,
    ],
    ['of a foreign authority', 'foreign', /self.signed|unable to|issuer/],
  ])('mail: one %s', async (_what, kind, message) => {
    const pair =
      typeof kind === 'string'
        ? new Authority(join(folder, 'other'), 'Other').issue({ name: 'm', hosts: [ELSEWHERE] })
        : authority.issue({ name: 'm', ...kind });
    const { port, passwords, mails } = await mailServer(files(pair));
    const sending = send(mailTo(port, `, caFile: ${authority.cert}`), alert);
    if (message === undefined) {
      await sending;
      expect(mails.join('')).toContain('[firing] hot');
      return;
    }
    await expect(sending).rejects.toThrow(message);
    expect(passwords).toEqual([]);
  });
});

/** What a newcomer does wrong: each mistake has a sentence of its own, at the command and on the server's console. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { passwordLine } from '../../shared/config/secrets.ts';
import { Authority } from '../support/certificates.ts';
import { encodeConnect, encodePublish } from '../support/load.ts';
import {
  ROOT,
  run,
  startCollector,
  startGateway,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';
import { settled } from '../support/reconcile.ts';

describe('stumbles', () => {
  let collector: Headwater;
  let gateway: Headwater;
  /** With users, and by TLS as well. */
  let locked: Headwater;
  let authority: Authority;
  beforeAll(async () => {
    authority = new Authority(join(temporaryFolder(), 'ca'));
    const own = authority.issue({ name: 'edge', hosts: ['127.0.0.1'] });
    const users = join(temporaryFolder(), 'users');
    writeFileSync(users, `${await passwordLine('sensor', Buffer.from('correct horse'))}\n`, {
      mode: 0o600,
    });
    collector = await startCollector();
    [gateway, locked] = await Promise.all([
      startGateway(collector.address['uplink'], ['--id', 'gw']),
      startGateway(undefined, [
        ...['--password-file', users, '--mqtts', '127.0.0.1:0'],
        ...['--tls-cert', own.cert, '--tls-key', own.key],
      ]),
    ]);
  });
  afterAll(async () => {
    await Promise.all([gateway.kill(), locked.kill()]);
    await collector.kill();
  });
  const at = (server: Headwater, name: string): string => server.address[name] ?? '';
  const publish = (address: string, more: string[] = [], environment = {}) =>
    run(['publish', 'a/b', '1', '--mqtt', address, ...more], environment);

  it('a reader that stops reading ends a command with much to say, quietly (query | head -1)', async () => {
    const sent = await run([
      ...['simulate', '--sensors', '50', '--every', '1s', '--start', 'now-5m', '--count', '8000'],
      ...['--mqtt', at(gateway, 'mqtt')],
    ]);
    expect(sent.code, sent.output).toBe(0);
    await settled(at(gateway, 'http'), at(collector, 'http'));
    const piped = (command: string): string => {
      const { stdout, stderr } = spawnSync(
        'bash',
        [
          '-c',
          `${process.execPath} cli/bin.mjs ${command} | head -1 | cut -c1-20; echo "\${PIPESTATUS[0]}"`,
        ],
        { cwd: ROOT, encoding: 'utf8', timeout: 30_000 },
      );
      expect(stderr).toBe('');
      return stdout;
    };
    const { stdout } = await run(['query', '--http', at(collector, 'http')]);
    expect(stdout.length).toBeGreaterThan(1_000_000);
    expect(piped(`query --http ${at(collector, 'http')}`)).toBe('time,measurement,fie\n0\n');
    expect(piped('simulate --print --for 365d --start 2026-11-01T00:00:00Z')).toBe(
      '2026-11-01T00:00:00.\n0\n',
    );
  });

  it('publish: user, password, certificate, and each port that is for something else', async () => {
    const right = { HEADWATER_MQTT_PASSWORD: 'correct horse' };
    const [mqtt, mqtts] = [at(locked, 'mqtt'), `mqtts://${at(locked, 'mqtts')}`];
    const user = ['--user', 'sensor'];
    const said: Awaited<ReturnType<typeof publish>>[] = await Promise.all([
      publish(mqtt, user, right),
      publish(mqtts, [...user, '--ca', authority.cert], right),
      publish(mqtt),
      publish(mqtt, user, { HEADWATER_MQTT_PASSWORD: 'wrong' }),
      publish(mqtts, user, right),
      publish(mqtts, [...user, '--ca', '/nosuch.pem'], right),
      publish(at(locked, 'mqtts')),
      publish(`mqtts://${mqtt}`),
      publish(at(gateway, 'http')),
      publish(at(collector, 'uplink')),
    ]);
    said.push(await publish('nosuch.invalid:1883'), await publish(`ws://${at(gateway, 'mqtt')}`));
    const [, , , , , missing] = said;
    const outputs = said.map(({ output }) => output).join('');
    expect(
      said.map(({ code }) => code),
      outputs,
    ).toEqual([0, 0, ...Array<number>(10).fill(1)]);
    for (const [index, sentence] of [
      [2, /wants a user name and a password/],
      [3, /refuses user 'sensor': name or password are wrong/],
      [4, /signed by an authority that is (?:not )?known here|--ca FILE/],
      [6, /may be a TLS port \(mqtts:/],
      [7, /does not speak TLS: use mqtt:/],
      [8, /may be an HTTP port/],
      [9, /may be a collector's uplink, .* devices connect to a gateway/],
      [10, /there is no machine called nosuch\.invalid/],
      [11, /does not speak MQTT over WebSocket: use mqtt:/],
    ] as const)
      expect(said[index]?.output).toMatch(sentence);
    expect(missing?.output).toContain('/nosuch.pem');
    for (const { output } of said) expect(output.trim().split('\n')).toHaveLength(1);
  });

  it('query: a gateway’s port, an MQTT port, nobody', async () => {
    const ask = (...args: string[]) => run(['query', ...args]);
    const gatewayHttp = at(gateway, 'http');
    for (const [args, sentence] of [
      [['--http', gatewayHttp], /is a gateway, not a collector/],
      [['--latest', '--http', gatewayHttp], /is a gateway, not a collector/],
      [['--http', at(gateway, 'mqtt')], /is not HTTP/],
      [['--http', `https://${at(collector, 'http')}`], /does not speak TLS/],
      [['--http', '127.0.0.1:1'], /no collector answers at 127\.0\.0\.1:1/],
    ] as const) {
      const { code, output } = await ask(...args);
      expect(code).toBe(1);
      expect(output).toMatch(sentence);
    }
    expect((await run(['ledger', '--http', gatewayHttp])).output).toMatch(/is a gateway, not/);
  });

  it('the console says, seldom, who was refused and why: a login, a version of MQTT, a wrong port, a topic', async () => {
    const { port } = locked;
    const lines = (server: Headwater, event: string): string[] =>
      server
        .output()
        .split('\n')
        .filter((line) => line.includes(event));
    // From the tests above: three wrong logins or more, one line for each reason.
    await publish(at(locked, 'mqtt'), ['--user', 'sensor'], { HEADWATER_MQTT_PASSWORD: 'no' });
    await until('a line', () => locked.output().includes('wrong credentials') || undefined);
    const logins = lines(locked, 'login_refused').filter((line) => line.includes('credentials'));
    expect(logins).toHaveLength(1);
    expect(logins[0]).toMatch(
      /client 'headwater-publish-\d+' .*at 127\.0\.0\.1 was refused: wrong credentials/,
    );
    const send = (to: number, bytes: number[]): Promise<void> =>
      new Promise((resolve, reject) => {
        const socket = connect(to, '127.0.0.1', () => socket.write(Buffer.from(bytes)));
        socket.on('error', reject).on('close', () => resolve());
        socket.resume();
      });
    const connectOf = (version: number): number[] => [
      ...[0x10, 13, 0, 4, 0x4d, 0x51, 0x54, 0x54, version, 2, 0, 60, 0, 1, 0x61],
    ];
    const { port: uplinkPort } = collector;
    const notAllowed = [...encodePublish('$SYS/x', '1', 1, 1)];
    const request = [...Buffer.from(`GET / HTTP/1.1\r\nuser-agent: ${'x'.repeat(99)}\r\n\r\n`)];
    for (let each = 0; each < 3; each++) {
      await send(port('mqtt'), connectOf(6));
      await send(port('mqtt'), request);
      await send(gateway.port('mqtt'), [...encodeConnect('odd'), ...notAllowed]);
      await send(uplinkPort('uplink'), connectOf(5));
    }
    await until('the version', () => locked.output().includes('protocol version 6') || undefined);
    await until('the uplink', () => collector.output().includes('protocol version 5') || undefined);
    const odd = "client 'odd' at 127.0.0.1 was refused: topics below $SYS/ are the broker's own";
    await until('the topic', () => gateway.output().includes(odd) || undefined);
    expect(gateway.output().split(odd)).toHaveLength(2);
    for (const text of ['protocol version 6; spoken here: 3', 'is not MQTT: it may be HTTP'])
      expect(locked.output().split(text)).toHaveLength(2);
    expect(collector.output().split('devices connect to a gateway, by default')).toHaveLength(2);
  });
});

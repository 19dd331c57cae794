import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { STORE_CONTRACT_VERSION } from '../../collector/store/store.ts';
import {
  startCollector,
  startGateway,
  ROOT,
  run,
  start,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';
import { getJson, settled } from '../support/reconcile.ts';

describe('commands', () => {
  let collector: Headwater;
  let gateway: Headwater;
  beforeAll(async () => {
    collector = await startCollector();
    gateway = await startGateway(collector.address['uplink'], ['--id', 'gw']);
  });
  afterAll(async () => {
    await gateway.kill();
    await collector.kill();
  });
  const mqtt = (): string => gateway.address['mqtt'] ?? '';
  const http = (): string => collector.address['http'] ?? '';
  const shown = (): Promise<void> => settled(gateway.address['http'] ?? '', http());

  it('publish and query: what goes in comes out', async () => {
    expect(
      await run([
        'publish',
        'home/kitchen/climate',
        '{"temperature":21.5,"note":"a, b"}',
        '--mqtt',
        mqtt(),
      ]),
    ).toMatchObject({ code: 0, stdout: 'acknowledged\n' });
    await shown();
    const { stdout } = await run(['query', '--measurement', 'climate', '--http', http()]);
    expect(stdout).toMatch(/^time,measurement,field,tags,value\n/);
    expect(stdout).toMatch(/Z,climate,temperature,topic=home\/kitchen\/climate gateway=gw,21\.5\n/);
    expect(stdout).toMatch(/climate,note_text,[^\n]*,"a, b"\n/);
    expect((await run(['query', '--series', '--http', http()])).stdout).toMatch(
      /^climate,temperature,/m,
    );
    expect(
      (await run(['query', '--latest', '--tag', 'gateway=gw', '--json', '--http', http()])).stdout,
    ).toMatch(/"value":21\.5/);
    const wrong = await run(['query', '--fn', 'average', '--http', http()]);
    expect(wrong).toMatchObject({ code: 1 });
    expect(wrong.output).toMatch(/fn=average is not one of mean/);
  });

  it('--version, help COMMAND, and a word that is nearly a command or a flag', async () => {
    expect((await run(['--version'])).stdout).toMatch(/^headwater \d+\.\d+\.\d+ \(Node /);
    expect((await run(['help', 'tail'])).stdout).toMatch(/^Usage: headwater tail/);
    const command = await run(['quarantin']);
    expect(command.code).toBe(2);
    expect(command.output).toMatch(/'quarantin' is no command \(did you mean 'quarantine'\?\)/);
    const flag = await run(['query', '--mesurement', 'x']);
    expect(flag.code).toBe(2);
    expect(flag.output).toMatch(/'--mesurement' \(did you mean '--measurement'\?\)/);
    expect((await run([])).code).toBe(2);
  });

  it('publish says at once what no gateway can take, and never ends without a word', async () => {
    for (const topic of ['', 'a/#', '+/b', 'x'.repeat(70_000)]) {
      const { code, output } = await run(['publish', topic, 'x', '--mqtt', mqtt()]);
      expect(code, topic.slice(0, 10)).toBe(2);
      expect(output).toMatch(/cannot be published to: /);
    }
    const refused = await run(['publish', '$SYS/broker', 'x', '--mqtt', mqtt()]);
    expect(refused.code).toBe(1);
    expect(refused.output).toMatch(/not acknowledged: the gateway closed the connection/);
    const wrong = await run(['publish', 'a', 'x', '--mqtt', http()]);
    expect(wrong.code).toBe(1);
    expect(wrong.output).toMatch(/may be an HTTP port|is an HTTP port|not MQTT/);
    const nobody = await run(['publish', 'a', 'x', '--mqtt', '127.0.0.1:1']);
    expect(nobody.output).toMatch(/no gateway answers at 127\.0\.0\.1:1/);
    const closes = createServer((socket) => socket.on('data', () => socket.destroy()));
    await new Promise<void>((resolve) => closes.listen(0, '127.0.0.1', resolve));
    const { port } = closes.address() as AddressInfo;
    const closed = await run(['publish', 'a', 'x', '--mqtt', `127.0.0.1:${port}`]);
    closes.close();
    expect(closed.code).toBe(1);
    expect(closed.output).toMatch(/says nothing that is MQTT/);
  });

  it('query says when nothing matches, and what a wrong port is', async () => {
    const none = await run(['query', '--measurement', 'nosuch', '--http', http()]);
    expect(none).toMatchObject({ code: 0, stdout: 'time,measurement,field,tags,value\n' });
    expect(none.output).toMatch(/nothing matches/);
    const onMqtt = await run(['query', '--http', mqtt()]);
    expect(onMqtt.code).toBe(1);
    expect(onMqtt.output).toMatch(/is not HTTP/);
  });

  it('tail shows what arrives while it runs, filtered, and ends after --count', async () => {
    const child = start(process.execPath, [
      'cli/bin.mjs',
      'tail',
      '--measurement',
      'tailed',
      '--count',
      '2',
      '--http',
      http(),
    ]);
    let sent = 0;
    await until('two lines', async () => {
      await run(['publish', 'tail/x/other', '7', '--mqtt', mqtt()]);
      await run(['publish', 'tail/x/tailed', String(sent++), '--mqtt', mqtt()]);
      return child.stdout().split('\n').length > 2 || undefined;
    });
    expect(await child.exited).toBe(0);
    const lines = child.stdout().trim().split('\n');
    expect(lines).toHaveLength(2);
    for (const line of lines) expect(line).toMatch(/^\d{4}-\S+Z {2}tailed {2}value=\d+ {2}/);
  });

  it('simulate publishes a fleet, whose readings tail shows by topic and gateway, as JSON', async () => {
    const tail = start(process.execPath, [
      ...['cli/bin.mjs', 'tail', '--topic', 'fleet/+/door', '--gateway', 'gw', '--json'],
      ...['--count', '3', '--http', http()],
    ]);
    await until('three readings', async () => {
      const { code, stdout, output } = await run([
        ...['simulate', '--sensors', '10', '--every', '1s', '--topic', 'fleet/{sensor}/{kind}'],
        ...['--start', 'now-10s', '--count', '50', '--clients', '2', '--mqtt', mqtt()],
      ]);
      expect(code, output).toBe(0);
      expect(stdout).toMatch(/^50 messages acknowledged in /);
      return tail.stdout().split('\n').length > 3 || undefined;
    });
    expect(await tail.exited).toBe(0);
    for (const line of tail.stdout().trim().split('\n'))
      expect(JSON.parse(line)).toMatchObject({
        gateway: 'gw',
        measurement: 'door',
        fields: { state_text: expect.stringMatching(/^(open|closed)$/) as string },
      });
    const nobody = await run(['simulate', '--count', '1', '--mqtt', '127.0.0.1:1']);
    expect(nobody).toMatchObject({ code: 1 });
    expect(nobody.output).toMatch(/no gateway answers at 127\.0\.0\.1:1/);
    for (const [wrong, sentence] of [
      [['--kinds', 'cat'], /'cat' is not one of climate/],
      [['--sensors', '0'], /--sensors 0 is not a number from 1 to 100000/],
      [['--every', 'soon'], /--every=soon is not a duration/],
      [['--outages', '2'], /--outages 2 is not a share/],
      [['--print'], /--print has no end/],
    ] as const) {
      const { code, output } = await run(['simulate', ...wrong]);
      expect(code, output).toBe(2);
      expect(output).toMatch(sentence);
    }
  });

  it('replay publishes a gzipped CSV as its devices; numbers as written, empty values left out', async () => {
    const file = join(temporaryFolder(), 'rows.csv.gz');
    const rows = Array.from(
      { length: 500 },
      (_, i) =>
        `d${i % 3},2024-01-01T00:00:${String(i % 60).padStart(2, '0')},${i}.50,${i % 2 === 0 ? '' : '"x, ""y"""'}`,
    );
    writeFileSync(file, gzipSync(`device,timestamp,value,note\n${rows.join('\n')}\n`));
    const { code, stdout } = await run([
      'replay',
      file,
      '--topic',
      'replayed/{device}/rows',
      '--mqtt',
      mqtt(),
    ]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^500 rows acknowledged in /);
    await shown();
    const counts = await run([
      'query',
      '--measurement',
      'rows',
      '--field',
      'value',
      '--fn',
      'count',
      '--http',
      http(),
    ]);
    expect(
      counts.stdout
        .trim()
        .split('\n')
        .slice(1)
        .map((line) => Number(line.split(',').at(-1))),
    ).toEqual([167, 167, 166]);
    expect(
      (
        await run([
          'query',
          '--measurement',
          'rows',
          '--field',
          'note_text',
          '--fn',
          'last',
          '--http',
          http(),
        ])
      ).stdout,
    ).toContain('"x, ""y"""');
  });

  it('replay ends non-zero when the gateway goes away, and for a bad file', async () => {
    const folder = temporaryFolder();
    const file = join(folder, 'long.csv');
    writeFileSync(
      file,
      `device,timestamp,v\n${Array.from({ length: 2000 }, (_, i) => `d,${new Date(1.7e12 + i * 1000).toISOString()},${i}`).join('\n')}\n`,
    );
    const other = await startGateway(undefined);
    const child = start(process.execPath, [
      'cli/bin.mjs',
      'replay',
      file,
      '--topic',
      'a/{device}',
      '--time',
      'timestamp',
      '--speed',
      '100',
      '--mqtt',
      other.address['mqtt'] ?? '',
    ]);
    await until('some rows', async () => {
      const { waitingMessages } = await getJson<{ waitingMessages: number }>(
        `http://${other.address['http']}/api/v1/buffer`,
      );
      return waitingMessages > 0 || undefined;
    });
    await other.kill('SIGKILL');
    expect(await child.exited).toBe(1);
    expect(child.output()).toMatch(
      /\d+ of \d+ rows were acknowledged, then: the gateway closed the connection/,
    );
    writeFileSync(file, 'a,b\n1,2\n3\n');
    expect((await run(['replay', file, '--topic', 't', '--mqtt', mqtt()])).output).toMatch(
      /row 2 has 1 fields, the header has 2/,
    );
    writeFileSync(file, 'a,b\n1,2\n');
    expect((await run(['replay', file, '--topic', '{c}', '--mqtt', mqtt()])).output).toMatch(
      /no column 'c'; it has a, b/,
    );
  });

  it('password makes a line that lets its user in', async () => {
    const made = spawnSync(process.execPath, ['cli/bin.mjs', 'password', 'sensor'], {
      cwd: ROOT,
      input: 'correct horse\n',
      encoding: 'utf8',
    });
    expect(made.status).toBe(0);
    const file = join(temporaryFolder(), 'passwords');
    writeFileSync(file, made.stdout, { mode: 0o600 });
    const locked = await startGateway(undefined, ['--password-file', file]);
    const args = ['publish', 'a', '1', '--mqtt', locked.address['mqtt'] ?? ''];
    expect((await run(args)).output).toMatch(/Not authorized/);
    expect(
      await run(args, { HEADWATER_MQTT_USER: 'sensor', HEADWATER_MQTT_PASSWORD: 'correct horse' }),
    ).toMatchObject({ code: 0 });
    await locked.kill();
  });

  it('a collector with a token asks for it, its page and health do not', async () => {
    const file = join(temporaryFolder(), 'token');
    writeFileSync(file, 'a-token-of-this-test\n', { mode: 0o600 });
    const locked = await startCollector(['--token-file', file]);
    const base = `http://${locked.address['http']}`;
    const status = async (path: string, headers: Record<string, string> = {}): Promise<number> =>
      (await fetch(`${base}${path}`, { headers })).status;
    expect([
      await status('/'),
      await status('/readyz'),
      await status('/api/v1/series'),
      await status('/metrics'),
    ]).toEqual([200, 200, 401, 401]);
    expect(await status('/api/v1/series', { authorization: 'Bearer a-token-of-this-test' })).toBe(
      200,
    );
    expect(await status('/api/v1/series', { authorization: 'Bearer a-token-of-that-test' })).toBe(
      401,
    );
    expect(
      await run(['query', '--http', locked.address['http'] ?? ''], {
        HEADWATER_TOKEN: 'a-token-of-this-test',
      }),
    ).toMatchObject({ code: 0 });
    await locked.kill();
  });

  it('a store from a package that somebody else wrote is loaded, one of another contract refused', async () => {
    const folder = temporaryFolder();
    const install = (version: number): void => {
      const at = join(folder, 'node_modules', 'their-store');
      mkdirSync(at, { recursive: true });
      writeFileSync(
        join(at, 'package.json'),
        '{"name":"their-store","version":"1.0.0","type":"module","exports":"./index.js"}',
      );
      writeFileSync(
        join(at, 'index.js'),
        `const points = [];
const create = () => ({
  kind: 'their-store',
  open: async () => {}, close: async () => {}, warnings: () => ['theirs'], identity: async () => 'theirs', marks: async () => new Map(),
  supports: { progress: false, remove: 'none', aggregates: false },
  apply: async (changes) => { for (const { put } of changes) if (put !== undefined) points.push(put); return []; },
  series: async () => [], query: async function* () {},
  latest: async () => points.map(({ measurement, tags, timeMs }) => ({ measurement, field: 'value', tags, time: timeMs, value: 1 })),
});
export default {
  [Symbol.for('headwater.adapter')]: true,
  kind: 'store', contract: ${version}, name: 'their-store', about: '', options: {}, supports: {}, create,
};`,
      );
    };
    install(STORE_CONTRACT_VERSION);
    const bin = join(ROOT, 'cli/bin.mjs');
    const args = [
      'collector',
      '--data',
      join(folder, 'c'),
      '--http',
      '127.0.0.1:0',
      '--uplink',
      '127.0.0.1:0',
      '--store',
      'their-store',
    ];
    const child = start(process.execPath, [bin, ...args], {}, folder);
    const line = await until(
      'ready',
      () => /^ready http=(\S+) uplink=(\S+)$/m.exec(child.stdout()) ?? undefined,
    );
    const other = await startGateway(line[2]);
    await run(['publish', 'a/their', '1', '--mqtt', other.address['mqtt'] ?? '']);
    await until(
      'the point in their store',
      async () =>
        ((await (await fetch(`http://${line[1]}/api/v1/latest`)).json()) as { series: unknown[] })
          .series.length === 1 || undefined,
    );
    await other.kill();
    await child.kill();
    install(STORE_CONTRACT_VERSION + 1);
    const refused = start(process.execPath, [bin, ...args], {}, folder);
    expect(await refused.exited).toBe(1);
    expect(refused.output()).toContain(
      `their-store: the package provides no store of contract version ${STORE_CONTRACT_VERSION}`,
    );
  });
});

/**
 * Streams, batches and the lake as their users meet them: alerts delivered, mistakes in files, servers that are away,
 * and the examples and recipes of the docs, as they stand there.
 */
import { execFile } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  readFileSync,
  readdirSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server as HttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { connectAsync } from 'mqtt';
import { SMTPServer } from 'smtp-server';
import { afterAll, describe, expect, it } from 'vitest';
import { LAKE_PYTHON, startInflux2, startMosquitto, startS3 } from '../services/servers.ts';
import { sharedKafka } from '../services/shared.ts';
import { collectorSettings, ingest, pointsOf, processed, startUp } from '../support/lake.ts';
import {
  ROOT,
  run,
  startCollector,
  startGateway,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';
import { getJson, type Points } from '../support/reconcile.ts';
import { long } from '../support/long.ts';
import { FULL } from '../support/seed.ts';

const exec = promisify(execFile);
const opened: { stop: () => unknown }[] = [];
afterAll(async () => {
  for (const { stop } of opened) await stop();
});
const keep = <T extends Headwater>(server: T): T => {
  opened.push({ stop: () => server.kill() });
  return server;
};

const http = (server: Headwater): string => server.address['http'] ?? '';
const file = (name: string, text: string): string => {
  const path = join(temporaryFolder(), name);
  writeFileSync(path, text);
  return path;
};

const block = (page: string, language: string, index: number): string =>
  [
    ...readFileSync(join(ROOT, 'docs', page), 'utf8').matchAll(
      new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``, 'g'),
    ),
  ][index]?.[1] ?? '';

describe('alerts', () => {
  it('reach a webhook, a mailbox and an MQTT topic, once when they begin and once when they end', async () => {
    const calls: {
      body: { status: string; rule: string; message: string; id: string };
      key: unknown;
      authorization: unknown;
    }[] = [];
    let isDown = true;
    const hook: HttpServer = createServer((request, response) => {
      let text = '';
      request.on('data', (chunk: Buffer) => (text += chunk.toString()));
      request.on('end', () => {
        if (isDown) {
          response.writeHead(503).end();
          return;
        }
        const { headers } = request;
        calls.push({
          body: JSON.parse(text) as (typeof calls)[number]['body'],
          key: headers['idempotency-key'],
          authorization: headers.authorization,
        });
        response.writeHead(204).end();
      });
    });
    await new Promise<void>((resolve) => hook.listen(0, '127.0.0.1', resolve));
    opened.push({ stop: () => hook.close() });
    const mails: string[] = [];
    const smtp = new SMTPServer({
      disabledCommands: ['AUTH', 'STARTTLS'],
      onData: (stream, _session, done) => {
        let text = '';
        stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
        stream.on('end', () => {
          mails.push(text);
          done();
        });
      },
    });
    await new Promise<void>((resolve) => smtp.listen(0, '127.0.0.1', () => resolve()));
    opened.push({ stop: () => new Promise<void>((resolve) => smtp.close(() => resolve())) });
    const broker = await startMosquitto();
    opened.push(broker);
    const listener = await connectAsync(`mqtt://${broker.address}`);
    const heard: string[] = [];
    listener.on('message', (_topic, payload) => heard.push(payload.toString()));
    await listener.subscribeAsync('alerts/site', { qos: 1 });

    const secret = file('authorization', 'Bearer of-news\n');
    const port = (server: { address: () => unknown }): number =>
      (server.address() as AddressInfo).port;
    await exec('chmod', ['600', secret]);
    const rules = file(
      'rules.yaml',
      `rules:
  - { name: hot, from: { measurement: climate, field: temperature }, alert: { above: 30, clear: 28 } }
  - { name: cold, from: { measurement: climate, field: temperature }, alert: { below: 0 } }
deliver:
  - { name: hook, webhook: 'http://127.0.0.1:${port(hook)}/x', authorizationFile: ${secret} }
  - { name: mail, mail: 'smtp://127.0.0.1:${port(smtp.server)}', from: h@example.org, to: [a@example.org], rules: [hot] }
  - { name: site, mqtt: 'mqtt://${broker.address}', topic: alerts/site }
`,
    );
    const data = temporaryFolder();
    const settings = collectorSettings({ 'stream.rules': rules, 'lake.flushSeconds': 1 });
    let collector = await startCollector(['--data', data, '--config', settings]);
    for (const temperature of [20, 31, 32, 29, 27, -5]) {
      await ingest(collector, 'home/kitchen/climate', { temperature });
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await until(
      'mails and messages',
      () => (mails.length >= 2 && heard.length >= 3) || undefined,
      20_000,
    );
    expect(calls).toEqual([]);
    expect(collector.output()).toContain("alerts wait for webhook 'hook'");
    isDown = false;
    await until('the webhook', () => calls.length >= 3 || undefined, 20_000);
    await collector.kill();
    collector = keep(await startCollector(['--data', data, '--config', settings]));
    await processed([http(collector)]);
    expect(calls.map(({ body: { rule, status } }) => `${rule} ${status}`)).toEqual([
      'hot firing',
      'hot resolved',
      'cold firing',
    ]);
    expect(calls[0]).toMatchObject({
      authorization: 'Bearer of-news',
      body: { message: 'temperature is 31, above 30' },
    });
    expect(new Set(calls.map(({ key }) => key)).size).toBe(3);
    expect(calls.map(({ key }) => key)).toEqual(calls.map(({ body }) => body.id));
    expect(mails).toHaveLength(2);
    expect(mails[0]).toMatch(/^Subject: \[firing\] hot: temperature is 31, above 30\r$/m);
    expect(heard.map((text) => (JSON.parse(text) as { status: string }).status)).toEqual([
      'firing',
      'resolved',
      'firing',
    ]);
    await listener.endAsync();
  });

  it('of silence tell a silent sensor from a gateway that is out of reach', async () => {
    const rules = file(
      'rules.yaml',
      'rules: [{ name: quiet, from: { measurement: room }, alert: { silent: 4s } }]\n',
    );
    const collector = keep(
      await startCollector(['--config', collectorSettings({ 'stream.rules': rules })]),
    );
    const gateways = await Promise.all(
      ['near', 'far'].map((id) => startGateway(collector.address['uplink'], ['--id', id])),
    );
    for (const gateway of gateways) {
      const client = await connectAsync(`mqtt://${gateway.address['mqtt']}`);
      await client.publishAsync('site/room', '{"temperature":20}', { qos: 1 });
      await client.endAsync();
    }
    await until(
      'both readings',
      async () => (await pointsOf(http(collector), 'room')).length === 2 || undefined,
    );
    await gateways[1]?.kill('SIGKILL');
    const reasons = await until(
      'both alerts',
      async () => {
        const { series } = await getJson<Points>(
          `http://${http(collector)}/api/v1/query?measurement=alerts&field=reason_text`,
        );
        return series.length >= 2
          ? Object.fromEntries(
              series.map(({ tags, points }) => [tags['gateway'] ?? '', points[0]?.[1]]),
            )
          : undefined;
      },
      30_000,
    );
    expect(reasons).toEqual({ near: 'sensor_silent', far: 'gateway_unreachable' });
    await gateways[0]?.kill();
  });
});

describe('mistakes and servers that are away', () => {
  it.each([
    [
      'rules',
      'rules: [{ name: a, from: { measurement: m }, window: soon }]',
      /rules\.yaml: rules\[0\] \(a\)\.window: 'soon' is not a duration/,
    ],
    ['rules', 'rules: [', /rules\.yaml: /],
  ])('a wrong file of %s stops the start with one sentence', async (_what, text, message) => {
    const { code, output } = await run([
      'collector',
      '--data',
      temporaryFolder(),
      '--http',
      '127.0.0.1:0',
      '--uplink',
      '127.0.0.1:0',
      '--rules',
      file('rules.yaml', text),
    ]);
    expect(code).toBe(1);
    expect(output).toMatch(message);
    expect(output.trim().split('\n')).toHaveLength(1);
  });

  it.each([
    ['-- every: day\nSELECT 1', /own\.sql: 'every' is not known/],
    ['-- schedule: soon\nSELECT 1', /own\.sql: 'schedule: soon' is not a cron expression/],
    ['DROP TABLE x', /own\.sql: is not a SELECT/],
    ['SELECT {{when}}', /own\.sql: \{\{when\}\} is not known/],
  ])('a wrong job stops the start with one sentence: %s', async (text, message) => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'own.sql'), text);
    const { code, output } = await run([
      'collector',
      '--data',
      temporaryFolder(),
      '--http',
      '127.0.0.1:0',
      '--uplink',
      '127.0.0.1:0',
      '--jobs',
      folder,
    ]);
    expect(code).toBe(1);
    expect(output).toMatch(message);
  });

  it('wrong SQL is one sentence with file and day, and the next job runs; changed rules are taken, wrong ones are not', async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'wrong.sql'), 'SELECT nothing FROM points');
    writeFileSync(join(folder, 'twice.sql'), 'SELECT value FROM points');
    writeFileSync(
      join(folder, 'own.sql'),
      '-- measurement: own\nSELECT any_value(tags) AS tags, sum(value) AS total FROM points GROUP BY series',
    );
    const rules = file('rules.yaml', 'rules: []\n');
    const collector = keep(
      await startCollector([
        '--config',
        collectorSettings({ 'lake.flushSeconds': 1, 'stream.rules': rules, 'batch.jobs': folder }),
      ]),
    );
    for (const time of ['2026-01-05T10:00:00Z', '2026-01-05T11:00:00Z'])
      await ingest(collector, 'site/a/m', { time, value: 21 });
    await processed([http(collector)]);
    const job = (name: string): ReturnType<typeof run> =>
      run(['batch', 'run', name, '--from', '2026-01-05', '--http', http(collector)]);
    const wrong = await job('wrong');
    expect(wrong.code).toBe(1);
    expect(wrong.output).toMatch(/wrong\.sql, 2026-01-05: .*"nothing" not found/);
    expect((await job('twice')).output).toMatch(
      /twice\.sql, 2026-01-05: two rows have the same tags/,
    );
    expect((await job('none')).output).toMatch(/there is no job 'none'; there are /);
    const fine = await job('own');
    expect(fine.output).toContain('2026-01-05: 1 results');
    await until(
      'the result',
      async () =>
        (await pointsOf(http(collector), 'own')).some((text) => text.endsWith(' 42')) || undefined,
    );

    writeFileSync(
      rules,
      'rules: [{ name: a, from: { measurement: m }, derive: { twice: value * } }]\n',
    );
    await until(
      'the mistake to be told',
      () => collector.output().includes('the rules before stay in force') || undefined,
    );
    writeFileSync(
      rules,
      'rules: [{ name: twice_it, from: { measurement: m }, derive: { twice: value * 2 } }]\n',
    );
    await until(
      'the rules to be taken',
      () => collector.output().includes('has changed and is in force') || undefined,
    );
    await ingest(collector, 'site/a/m', { value: 4 });
    await until(
      'the derived reading',
      async () =>
        (await pointsOf(http(collector), 'twice_it')).some((text) => text.endsWith(' 8')) ||
        undefined,
    );
  });

  it('S3 away (for a minute with HEADWATER_FULL=1), or without its bucket: told once, nothing lost, on by itself', async () => {
    const s3 = await startS3();
    opened.push(s3);
    const environment = s3.credentials;
    const settings = collectorSettings({ 'lake.flushSeconds': 1, 'lake.s3Endpoint': s3.endpoint });
    const nowhere = await startCollector(
      ['--config', settings, '--lake', 's3://missing/x'],
      environment,
    );
    await until(
      'it to be told',
      () =>
        nowhere
          .output()
          .includes("there is no bucket 'missing'; create it, and it goes on by itself") ||
        undefined,
    );
    await nowhere.kill();
    const collector = keep(
      await startCollector(['--config', settings, '--lake', `s3://${s3.bucket}/x`], environment),
    );
    const send = async (from: number): Promise<void> => {
      for (let n = from; n < from + 20; n++) await ingest(collector, 'site/a/n', { n });
    };
    const rows = async (): Promise<number> =>
      (await getJson<{ zones: { rows: number }[] }>(`http://${http(collector)}/api/v1/lake`))
        .zones[1]?.rows ?? 0;
    await send(0);
    await until('the first rows', async () => (await rows()) === 20 || undefined, 30_000);
    await s3.kill();
    await send(20);
    await until(
      'it to be told',
      () => /lake_readings_waits.*ECONNREFUSED/.test(collector.output()) || undefined,
      30_000,
    );
    await send(40);
    if (FULL) await new Promise((resolve) => setTimeout(resolve, 60_000));
    await until(
      'all points in the store',
      async () => (await pointsOf(http(collector), 'n')).length === 60 || undefined,
    );
    await s3.restart();
    await until('all rows', async () => (await rows()) === 60 || undefined, 60_000);
    expect(collector.output().match(/lake_readings_waits/g)).toHaveLength(1);
    expect(collector.output()).toContain('lake_readings_resumed');
  });

  it('a full disk under the lake: told, nothing lost, on by itself', async () => {
    const folder = temporaryFolder();
    await exec('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', folder]);
    opened.push({ stop: () => exec('umount', [folder]) });
    const filler = join(folder, 'filler');
    writeFileSync(filler, Buffer.alloc(3 * 1024 * 1024 - 48 * 1024));
    const collector = keep(
      await startCollector([
        '--config',
        collectorSettings({ 'lake.flushSeconds': 1 }),
        '--lake',
        folder,
      ]),
    );
    for (let n = 0; n < 200; n++)
      await ingest(collector, 'site/a/n', {
        n,
        noise_text: Array.from({ length: 40 }, () => Math.random().toString(36)).join(''),
      });
    await until(
      'it to be told',
      () => /lake.*(no space left|ENOSPC)/i.test(collector.output()) || undefined,
      30_000,
    );
    await exec('rm', [filler]);
    await until(
      'all rows',
      async () =>
        (await getJson<{ zones: { rows: number }[] }>(`http://${http(collector)}/api/v1/lake`))
          .zones[1]?.rows === 200 || undefined,
      60_000,
    );
  });

  it('a missing bucket of InfluxDB: told, nothing lost, on by itself', async () => {
    const influx = await startInflux2();
    opened.push(influx);
    const collector = keep(
      await startCollector(['--store', influx.store.replace('/bucket', '/later')], {
        HEADWATER_INFLUXDB_TOKEN: influx.token,
      }).catch((error: unknown) => {
        // A start without its bucket may also be refused in one sentence.
        expect(String(error)).toMatch(/bucket/);
        throw error;
      }),
    );
    await ingest(collector, 'site/a/n', { n: 1 });
    await until('it to be told', () => /bucket/.test(collector.output()) || undefined, 30_000);
    const headers = { authorization: `Token ${influx.token}` };
    const { orgs } = (await (
      await fetch(`http://${influx.address}/api/v2/orgs`, { headers })
    ).json()) as { orgs: { id: string }[] };
    await fetch(`http://${influx.address}/api/v2/buckets`, {
      method: 'POST',
      headers,
      body: JSON.stringify({ name: 'later', orgID: orgs[0]?.id }),
    });
    await until(
      'the reading',
      async () => (await pointsOf(http(collector), 'n')).length === 1 || undefined,
      60_000,
    );
  });
});

describe('examples and recipes of the docs', () => {
  long(
    'the notebook runs: pandas and Spark read the lake, it plots, and its result is in store and lake',
    async () => {
      const folder = temporaryFolder();
      const up = keep(await startUp(folder, { 'lake.flushSeconds': 1 }));
      await until(
        'the sample',
        () => up.stdout().includes('Ctrl-C stops it') || undefined,
        180_000,
      );
      await processed([http(up)]);
      const work = temporaryFolder();
      const notebook = join(work, 'notebook.ipynb');
      copyFileSync(join(ROOT, 'docs/examples/notebook.ipynb'), notebook);
      const picture = join(work, 'lake.png');
      await exec(join(LAKE_PYTHON, '../jupyter-execute'), [notebook], {
        env: {
          ...process.env,
          SPARK_LOCAL_IP: '127.0.0.1',
          JUPYTER_PLATFORM_DIRS: '1',
          HEADWATER_LAKE: join(folder, 'collector/lake'),
          HEADWATER_HTTP: `http://${http(up)}`,
          HEADWATER_PICTURE: picture,
        },
        maxBuffer: 64 << 20,
      });
      expect(statSync(picture).size).toBeGreaterThan(5000);
      const [point = ''] = await until('the result', async () => {
        const found = (await pointsOf(http(up), 'worst_hour')).filter((text) =>
          text.startsWith('p1_median '),
        );
        return found.length > 0 ? found : undefined;
      });
      expect(point).toMatch(/ 1552\d{9} \d/);
    },
  );

  it('the recipes for a server log and a JSON feed store each line and each answer once', async () => {
    const mappings = file('mappings.yaml', block('recipes.md', 'yaml', 0));
    const settings = collectorSettings({ 'lake.flushSeconds': 1 });
    const collector = keep(await startCollector(['--mappings', mappings, '--config', settings]));
    const work = temporaryFolder();
    const line = (path: string, status: number, bytes: number): string =>
      `127.0.0.1 - - [10/Oct/2026:13:55:36 +0000] "GET ${path} HTTP/1.1" ${status} ${bytes} "-" "curl"`;
    writeFileSync(
      join(work, 'access.log'),
      `${[line('/', 200, 2326), line('/x', 404, 12), line('/y', 200, 99)].join('\n')}\n`,
    );
    const feed = createServer((_request, response) =>
      response.end('{"temperature":11.5,"wind":{"speed":4}}'),
    );
    await new Promise<void>((resolve) => feed.listen(0, '127.0.0.1', resolve));
    opened.push({ stop: () => feed.close() });
    const sh = async (script: string): Promise<void> => {
      const here = script.replaceAll('127.0.0.1:8080', http(collector));
      await exec('bash', ['-euo', 'pipefail', '-c', here], {
        cwd: work,
        env: {
          ...process.env,
          FEED_URL: `http://127.0.0.1:${(feed.address() as AddressInfo).port}/`,
        },
      });
    };
    for (let time = 0; time < 2; time++) {
      await sh(block('recipes.md', 'sh', 0));
      await sh(block('recipes.md', 'sh', 1));
    }
    await processed([http(collector)]);
    const access = await pointsOf(http(collector), 'access');
    expect(
      access
        .filter((text) => text.startsWith('bytes '))
        .map((text) => Number(text.split(' ').at(-1)))
        .sort((a, b) => a - b),
    ).toEqual([12, 99, 2326]);
    const weather = await pointsOf(http(collector), 'current');
    expect(weather.some((text) => text.startsWith('temperature ') && text.endsWith(' 11.5'))).toBe(
      true,
    );
    expect(weather.filter((text) => text.startsWith('temperature '))).toHaveLength(1);
  });

  long("Spark's Structured Streaming makes session windows of the topic `readings`", async () => {
    const kafka = await sharedKafka();
    const collector = keep(
      await startCollector(['--log', kafka.log, '--lake', 'none'], kafka.environment),
    );
    const minutes = [0, 1, 2, 30, 31, 200];
    for (const minute of minutes)
      await ingest(collector, 'site/a/m', {
        time: new Date(Date.UTC(2026, 0, 5, 10, minute)).toISOString(),
        value: minute,
      });
    await processed([http(collector)]);
    const output = join(temporaryFolder(), 'sessions');
    const jars = join(LAKE_PYTHON, '../../kafka-jars');
    await exec(
      LAKE_PYTHON,
      [
        join(ROOT, 'docs/examples/sessions.py'),
        kafka.address,
        `${kafka.topicPrefix}readings`,
        output,
        join(temporaryFolder(), 'checkpoint'),
      ],
      {
        env: {
          ...process.env,
          SPARK_LOCAL_IP: '127.0.0.1',
          PYSPARK_SUBMIT_ARGS: `--conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=2 --jars ${readdirSync(
            jars,
          )
            .map((name) => join(jars, name))
            .join(',')} pyspark-shell`,
        },
        maxBuffer: 64 << 20,
      },
    );
    expect(existsSync(output)).toBe(true);
    const sessions = readdirSync(output)
      .filter((name) => name.endsWith('.json'))
      .flatMap((name) => readFileSync(join(output, name), 'utf8').trim().split('\n'))
      .filter((text) => text !== '')
      .map((text) => JSON.parse(text) as { begin: string; count: number })
      .map(({ begin, count }) => `${begin.slice(11, 16)} ${count}`);
    // The last one is not over by the watermark.
    expect(sessions.sort()).toEqual(['10:00 3', '10:30 2']);
  });
});

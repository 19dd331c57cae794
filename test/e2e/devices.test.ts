/**
 * MQTT in, API out: every example of the shipped mappings and every message of the corpus goes through a running gateway
 * and collector, and each value is found where it belongs, and nothing beside them.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectAsync } from 'mqtt';
import { parse } from 'yaml';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { shippedMappings } from '../../collector/decode/mapping/shipped.ts';
import { comparable, corpus, corpusFiles, golden, isOwn, yamlOf } from '../support/corpus.ts';
import { encodePublish } from '../support/load.ts';
import { headwater, run, temporaryFolder, until, type Headwater } from '../support/process.ts';
import { connected } from '../support/raw-mqtt.ts';
import { getJson, settled } from '../support/reconcile.ts';

interface Wanted {
  topic: string;
  payload: Buffer;
  readings: { measurement: string; tags: object; fields: object; time: number | undefined }[];
  /** Reasons in quarantine. */
  aside: string[];
}
interface Row {
  measurement: string;
  field: string;
  tags: Record<string, string>;
  time: number;
  value: unknown;
}

const ZONE = 'Europe/Berlin';

function examples(zone: string | undefined): Wanted[] {
  interface Example {
    topic: string;
    payload?: string;
    hex?: string;
    zone?: string;
    readings: Wanted['readings'];
  }
  return shippedMappings()
    .flatMap(({ text }) => (parse(text) as { examples: Example[] }).examples)
    .filter((each) => each.zone === zone)
    .map(({ topic, payload, hex, readings }) => ({
      topic,
      payload: hex === undefined ? Buffer.from(payload ?? '') : Buffer.from(hex, 'hex'),
      readings,
      aside: [],
    }));
}

/** Items of the quarantine: one for each part that has a place, one for all that have none. */
function asideOf(told: readonly string[], isRestStored: boolean): string[] {
  const after = (pattern: RegExp): string[] =>
    told.flatMap((each) => (pattern.test(each) ? [each.replace(pattern, '')] : []));
  const whole = [
    ...after(/^problem: /),
    ...after(/^left over: /).map((paths) => `leaves out ${paths}`),
  ];
  const rest = isRestStored ? '; the rest of the message is stored' : '';
  return [
    ...after(/^quarantine: /),
    ...after(/^problem at \d+: /),
    ...(whole.length === 0 ? [] : [`${whole.join('; ')}${rest}`]),
  ];
}

/** Messages of the corpus, but those whose mapping would take others' too. */
function messages(zone: string | undefined): Wanted[] {
  return corpusFiles().flatMap((file) => {
    const become = golden(file);
    return corpus(file).flatMap((message, index): Wanted[] => {
      if (message.zone !== zone || !isOwn(message)) return [];
      const all = become[index] ?? [];
      const readings = all.flatMap((each) => {
        if (typeof each === 'string') return [];
        const [measurement, tags, fields, at] = each;
        return [{ measurement, tags, fields, time: at === 'receipt' ? undefined : Date.parse(at) }];
      });
      const aside = asideOf(
        all.filter((each) => typeof each === 'string'),
        readings.length > 0,
      );
      return [{ topic: message.topic, payload: message.payload, readings, aside }];
    });
  });
}

/** A mapping file of what users write, in a folder with their scripts. */
function ownMappings(folder: string): string {
  const entries = corpusFiles()
    .flatMap(corpus)
    .filter((message) => yamlOf(message) !== undefined && isOwn(message))
    .map((message, index) => {
      const script = `own-${index}.js`;
      if (message.script !== undefined) writeFileSync(join(folder, script), message.script);
      return (yamlOf(message) ?? '').replace('mappings:\n', '').replace('own.js', script);
    });
  const path = join(folder, 'own.yaml');
  writeFileSync(path, `mappings:\n${entries.join('')}`);
  return path;
}

const keyOf = (measurement: string, tags: object, field: string): string =>
  JSON.stringify([measurement, Object.entries(tags).sort(), field]);

describe.each([
  ['without a zone', undefined],
  [`where local times are those of ${ZONE}`, ZONE],
])('%s', (_name, zone) => {
  const all = [...examples(zone), ...messages(zone)];
  let server: Headwater;
  let rows: Row[] = [];
  let began = 0;

  beforeAll(async () => {
    const folder = temporaryFolder();
    const mappings = ownMappings(folder);
    const flags = ['mqtt', 'http', 'gateway-http', 'uplink'].flatMap((name) => [
      `--${name}`,
      '127.0.0.1:0',
    ]);
    server = await headwater(
      ['up', '--no-sample', '--data', join(folder, 'data'), '--mappings', mappings, ...flags],
      zone === undefined ? {} : { HEADWATER_DECODE_LOCAL_ZONE: zone },
    );
    began = Date.now();
    const client = await connected(server.port('mqtt'), 'device');
    const before = client.received().length;
    for (const [index, { topic, payload }] of all.entries())
      client.send(encodePublish(topic, payload, 1, index + 1));
    await until('all to be acknowledged', () =>
      client.received().length - before >= 4 * all.length ? true : undefined,
    );
    client.socket.destroy();
    const [gateway, collector] = [server.address['gateway-http'], server.address['http']];
    await settled(gateway ?? '', collector ?? '');
    const exported = await fetch(`http://${collector}/api/v1/export?format=jsonl`);
    rows = (await exported.text())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Row)
      .filter(({ field }) => field !== undefined);
  });
  afterAll(() => server.kill());

  it('each value is there, with its time', () => {
    const found = new Map<string, Row[]>();
    for (const row of rows) {
      const { gateway: _gateway, ...tags } = row.tags;
      const key = keyOf(row.measurement, tags, row.field);
      const known = found.get(key);
      if (known === undefined) found.set(key, [row]);
      else known.push(row);
    }
    const missing: unknown[] = [];
    const isAt = (at: number, time: number | undefined): boolean =>
      time === undefined ? at >= began - 1000 && at <= Date.now() : at === time;
    for (const { topic, readings } of all)
      for (const { measurement, tags, fields, time } of readings)
        for (const [field, value] of Object.entries(fields) as [string, unknown][]) {
          const candidates = found.get(keyOf(measurement, tags, field)) ?? [];
          const at = candidates.findIndex((row) => row.value === value && isAt(row.time, time));
          if (at < 0) missing.push([topic, measurement, tags, field, value, time, candidates]);
          else candidates.splice(at, 1);
        }
    expect(missing).toEqual([]);
    // What was not expected of any message.
    expect([...found.values()].flat()).toEqual([]);
    expect(rows.length).toBeGreaterThan(zone === undefined ? 700 : 100);
  });

  it('what waits in quarantine is what has to, with its reason', async () => {
    const { items } = await getJson<{ items: { topic: string; reason: string }[] }>(
      `http://${server.address['http']}/api/v1/quarantine?limit=1000`,
    );
    const wanted = all.flatMap(({ topic, aside }) => aside.map((reason) => `${topic}: ${reason}`));
    const got = items.map(({ topic, reason }) => `${topic}: ${comparable(reason)}`);
    expect(got.sort()).toEqual(wanted.sort());
  });
});

/** What no line of the corpus can say: properties, scripts, and more than there may be. */
const BEYOND = `mappings:
  - topic: beyond/properties
    measurement: { property: kind }
    tags: { site: { property: site } }
  - topic: beyond/script
    script: own.js
  - topic: beyond/wave
    points:
      - { each: samples.*, measurement: wave, field: g, time: { from: $.start, unit: ms, step: $.dt } }
      - { each: ., measurement: wave, fields: [dt] }
`;
const SCRIPT = `function decodeUplink({ bytes, topic, properties }) {
  console.log('seen', topic);
  return { data: { bad: NaN, good: bytes[0], of: topic.split('/')[1], site: properties.site } };
}`;

describe('a device that nobody knows', () => {
  const folder = temporaryFolder();
  const inForce = join(folder, 'own.yaml');
  const topic = 'tank/t9/up';
  let server: Headwater;
  const series = async (field: string): Promise<unknown[]> =>
    (
      await getJson<{ series: { points: unknown[] }[] }>(
        `http://${server.address['http']}/api/v1/query?field=${field}`,
      )
    ).series.flatMap(({ points }) => points.map((point) => (point as unknown[])[1]));

  beforeAll(async () => {
    writeFileSync(inForce, BEYOND);
    writeFileSync(join(folder, 'own.js'), SCRIPT);
    const flags = ['mqtt', 'http', 'gateway-http', 'uplink'].flatMap((name) => [
      `--${name}`,
      '127.0.0.1:0',
    ]);
    server = await headwater(
      ['up', '--no-sample', '--data', join(folder, 'data'), '--mappings', inForce, ...flags],
      { HEADWATER_DECODE_FIELDS_PER_TOPIC_MAX: '20' },
    );
  });
  afterAll(() => server.kill());

  it('scripts with NaN and a console, user properties, a waveform; too many names and values wait with their cure', async () => {
    const client = await connectAsync(`mqtt://127.0.0.1:${server.port('mqtt')}`, {
      protocolVersion: 5,
    });
    const send = (topic: string, payload: string | Buffer): Promise<unknown> =>
      client.publishAsync(topic, payload, {
        qos: 1,
        properties: { userProperties: { kind: 'climate', site: 'leeds' } },
      });
    const start = Date.now() - 60_000;
    const many = (count: number): string =>
      JSON.stringify(Object.fromEntries(Array.from({ length: count }, (_, at) => [`k${at}`, at])));
    await send('beyond/properties', '{"t":21.5}');
    await send('beyond/script', Buffer.from([45]));
    await send(
      'beyond/wave',
      JSON.stringify({ start, dt: 0.002, samples: Array.from({ length: 1024 }, (_, at) => at) }),
    );
    await send('beyond/names', many(30));
    await send('beyond/values', many(1001));
    await client.endAsync();
    const http = server.address['http'] ?? '';
    await settled(server.address['gateway-http'] ?? '', http);
    const exported = await fetch(`http://${http}/api/v1/export?format=jsonl`);
    const rows = (await exported.text())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Row);
    const found = (measurement: string): unknown[] =>
      rows
        .filter((row) => row.measurement === measurement)
        .map(({ field, tags: { gateway: _gateway, ...tags }, value }) => [field, tags, value]);
    expect(found('climate')).toEqual([['t', { site: 'leeds' }, 21.5]]);
    expect(found('script').sort()).toEqual([
      ['good', {}, 45],
      ['of_text', {}, 'script'],
      ['site_text', {}, 'leeds'],
    ]);
    expect(
      rows
        .filter(({ field }) => field === 'g')
        .map(({ time, value }) => [time - start, value])
        .sort(([one], [other]) => (one as number) - (other as number)),
    ).toEqual(Array.from({ length: 1024 }, (_, at) => [at * 2, at]));
    expect(found('names')).toHaveLength(20);
    const { items } = await getJson<{ items: { topic: string; reason: string }[] }>(
      `http://${http}/api/v1/quarantine`,
    );
    expect(Object.fromEntries(items.map(({ topic: of, reason }) => [of, reason]))).toEqual({
      'beyond/names': expect.stringMatching(/fieldsPerTopicMax.*each: "\{id\}"/),
      'beyond/values': expect.stringMatching(/more than 1000 values.*each: PATH/),
    });
  });

  it('from its payload over a trial to its numbers, those of before too', async () => {
    const client = await connected(server.port('mqtt'), 'tank');
    for (const [index, level] of [239, 240].entries())
      client.send(
        encodePublish(topic, `{"lvl":"${level} mm","lid":"OPEN","n":${index}}`, 1, index + 1),
      );
    const [gateway = '', http = ''] = [server.address['gateway-http'], server.address['http']];
    await until('both to be stored', async () =>
      (await series('lvl_text')).length === 2 ? true : undefined,
    );
    client.socket.destroy();

    const mine = join(folder, 'new.yaml');
    writeFileSync(
      mine,
      'mappings:\n  - topic: tank/{device}/up\n    measurement: tank\n    types: { lvl: quantity }\n    values: { lid: { OPEN: 1, CLOSED: 0 } }\n',
    );
    const trial = await run(
      ['mapping', 'try', mine, '--topic', topic, '--http', http].concat([
        '--gateway-http',
        gateway,
      ]),
    );
    expect([trial.code, trial.stdout]).toEqual([
      0,
      expect.stringMatching(
        /up \{topic="tank\/t9\/up".*lvl_text="240 mm"[^]*tank \{device="t9".*lvl=240 lid=1/,
      ),
    ]);
    // Nothing was written by it.
    expect(await series('lvl')).toEqual([]);

    writeFileSync(inForce, readFileSync(mine));
    await until(
      'the file to be in force',
      () => server.output().includes('is in force') || undefined,
    );
    const replay = await run(['quarantine', 'replay', '--all', '--topic', topic, '--http', http]);
    expect([replay.code, replay.output]).toEqual([0, expect.stringMatching(/2 messages/)]);
    await until('the numbers, and the texts of before to be gone', async () =>
      (await series('lvl')).length === 2 && (await series('lvl_text')).length === 0
        ? true
        : undefined,
    );
    expect((await series('lvl')).sort()).toEqual([239, 240]);
    expect(await series('lid')).toEqual([1, 1]);
  });
});

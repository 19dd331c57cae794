/** Quarantine, a mapping that is mended while the collector runs, and a replay: right time, once, and the old points gone. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectAsync } from 'mqtt';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startInflux1, startInflux2, type Influx } from '../services/servers.ts';
import { sharedKafka, type SharedKafka } from '../services/shared.ts';
import {
  run,
  startCollector,
  startGateway,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';
import { getJson, settled, type Points } from '../support/reconcile.ts';

interface Listing {
  count: number;
  items: { reason: string; topic: string; payload: string }[];
  reasons: { reason: string; count: number }[];
}

describe.each([
  'embedded',
  'influxdb 2',
  'influxdb 1.8',
  'influxdb 2, log kafka',
])('quarantine and replay, store %s', (kind) => {
  const folder = temporaryFolder();
  const mappings = join(folder, 'mappings.yaml');
  let influx: Influx | undefined;
  let kafka: SharedKafka | undefined;
  let collector: Headwater;
  let gateway: Headwater;
  let http: string;

  beforeAll(async () => {
    if (kind.includes('kafka')) kafka = await sharedKafka();
    if (kind.startsWith('influxdb 2')) influx = await startInflux2();
    if (kind === 'influxdb 1.8') influx = await startInflux1();
    writeFileSync(
      mappings,
      'mappings:\n  - topic: press/{machine}/values\n    measurement: press\n    types: { force: number }\n',
    );
    collector = await startCollector(
      [
        ...['--mappings', mappings],
        ...(influx === undefined ? [] : ['--store', influx.store]),
        ...(kafka === undefined ? [] : ['--log', kafka.log]),
      ],
      {
        ...(influx === undefined ? {} : { HEADWATER_INFLUXDB_TOKEN: influx.token }),
        ...kafka?.environment,
      },
    );
    http = `http://${collector.address['http']}`;
    gateway = await startGateway(collector.address['uplink']);
    const client = await connectAsync(`mqtt://127.0.0.1:${gateway.port('mqtt')}`, {
      clientId: 'press-1',
    });
    for (let index = 0; index < 20; index++) {
      const time = Date.UTC(2024, 0, 1, 0, index);
      // Every other message has a comma in its number: the mapping was not made for that.
      const force = index % 2 === 0 ? `${index}.5` : `${index},5`;
      await client.publishAsync('press/7/values', JSON.stringify({ force, time }), { qos: 1 });
    }
    await client.endAsync();
    await settled(gateway.address['http'] as string, collector.address['http'] as string);
  });
  afterAll(async () => {
    await gateway.kill();
    await collector.kill();
    await influx?.stop();
  });

  const points = async (query: string): Promise<Points['series']> =>
    (await getJson<Points>(`${http}/api/v1/query?${query}`)).series;
  const listing = async (query = ''): Promise<Listing> =>
    await getJson<Listing>(`${http}/api/v1/quarantine${query}`);

  it('what the mapping cannot read is listed with its reason, by API and command', async () => {
    // With Kafka the list follows the topic by a moment.
    const answer = await until('all of it to be listed', async () => {
      const now = await listing();
      return now.count === 10 ? now : undefined;
    });
    expect(answer.items[0]).toMatchObject({
      topic: 'press/7/values',
      payload: expect.stringContaining('19,5') as string,
    });
    expect(answer.reasons).toEqual([{ reason: '… is to be a number and is …', count: 10 }]);
    expect((await listing('?topic=other/%23')).items).toEqual([]);
    const { stdout } = await run([
      'quarantine',
      '--http',
      collector.address['http'] as string,
      '--limit',
      '1',
    ]);
    expect(stdout).toMatch(/^10 in quarantine\n {2}10 × /);
    expect((await points('measurement=press'))[0]?.points).toHaveLength(10);
  });

  it('a mapping that is not valid changes nothing; one that is takes effect without a restart', async () => {
    writeFileSync(mappings, 'mappings: [{topic: a, unknown: b}]');
    await until(
      'the error to be said',
      () => /unknown key 'unknown'.*stay in force/.test(collector.output()) || undefined,
    );
    // The comma stays a text, the measurement has another name, the machine is a text of its own.
    writeFileSync(
      mappings,
      'mappings:\n  - topic: press/{press}/values\n    measurement: force\n    fields: { newton: force }\n    units: { newton: N }\n',
    );
    await until(
      'the new mapping',
      () => /has changed and is in force/.test(collector.output()) || undefined,
    );
    const client = await connectAsync(`mqtt://127.0.0.1:${gateway.port('mqtt')}`);
    await client.publishAsync('press/7/values', '{"force":99,"time":1704070800000}', { qos: 1 });
    await client.endAsync();
    await until(
      'a reading of the new mapping',
      async () => (await points('measurement=force&field=newton')).length === 1 || undefined,
    );
  });

  it('replay of what is in quarantine: its readings appear at their right time, and it is resolved', async () => {
    const { stdout, code } = await run([
      'quarantine',
      'replay',
      '--topic',
      'press/#',
      '--http',
      collector.address['http'] as string,
    ]);
    expect([code, stdout]).toEqual([
      0,
      expect.stringMatching(/finished, 10 messages, 10 readings, 0 still in quarantine/),
    ]);
    await until('the readings', async () => {
      const [series] = await points('measurement=force&field=newton_text');
      return series?.points.length === 10 || undefined;
    });
    const [series] = await points('measurement=force&field=newton_text');
    expect(series?.points).toEqual(
      Array.from({ length: 10 }, (_, index) => [
        Date.UTC(2024, 0, 1, 0, 2 * index + 1),
        `${2 * index + 1},5`,
      ]),
    );
    await until('quarantine to be empty', async () => (await listing()).count === 0 || undefined);
    expect(
      (await run(['quarantine', 'replay', '--http', collector.address['http'] as string])).output,
    ).toMatch(/nothing in quarantine matches/);
  });

  it('replay of all: the points of the old mapping are gone from the store, the new ones are there once', async () => {
    const { stdout } = await run([
      'quarantine',
      'replay',
      '--all',
      '--topic',
      'press/#',
      '--http',
      collector.address['http'] as string,
    ]);
    expect(stdout).toMatch(/finished, 21 messages, 21 readings/);
    const counts = async (measurement: string): Promise<string> =>
      (await points(`measurement=${measurement}`))
        .map(({ field, points: list }) => `${field} ${list.length}`)
        .sort()
        .join();
    // What a store has in between is some of both.
    await until(
      'the old points to be gone, and the new ones to be there',
      async () =>
        ((await counts('press')) === '' && (await counts('force')) === 'newton 1,newton_text 20') ||
        undefined,
    );
    const all = await points('measurement=force');
    const { series } = await getJson<Points>(`${http}/api/v1/series`);
    expect(series.find(({ field }) => field === 'newton')?.unit).toBe('N');
    // A second one changes nothing.
    await run(['quarantine', 'replay', '--all', '--http', collector.address['http'] as string]);
    await settled(gateway.address['http'] as string, collector.address['http'] as string);
    expect(await points('measurement=force')).toEqual(all);
    // Those that have ended wait for nothing that arrives afterwards.
    await until('the replays to be forgotten', async () => {
      const { stages } = await getJson<{ stages: { group: string }[] }>(`${http}/api/v1/status`);
      return !stages.some(({ group }) => group.startsWith('headwater-replay-')) || undefined;
    });
  });

  it('bad requests get one clear sentence', async () => {
    const post = async (body: string): Promise<unknown> =>
      await (await fetch(`${http}/api/v1/replay`, { method: 'POST', body })).json();
    expect(await post('{"which":"some"}')).toMatchObject({
      error: {
        code: 'QUERY_INVALID',
        message: expect.stringMatching(/which=some is not one of quarantined, all/) as string,
      },
    });
    expect(await post('{"wich":"all"}')).toMatchObject({
      error: {
        message: expect.stringMatching(/'wich' is not known here; known are which,/) as string,
      },
    });
    expect(await post('[')).toMatchObject({ error: { message: 'the body is not JSON' } });
  });
});

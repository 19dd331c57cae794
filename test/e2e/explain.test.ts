/** From a point back to the bytes as received and forward to what was made of it; who may ask what. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Collector } from '../../collector/collector.ts';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { explain, type Explained } from '../../collector/explain/explain.ts';
import { Origins } from '../../collector/explain/origin.ts';
import type { Asked } from '../../collector/explain/rows.ts';
import { hashOf } from '../../shared/access/tokens.ts';
import { environmentName, loadConfig } from '../../shared/config/spec.ts';
import { realEnv } from '../../shared/env/env.ts';
import { AsOfSite, EPOCH, anchor, messages } from '../support/as-of.ts';
import { temporaryFolder, until } from '../support/process.ts';

const DAY = Date.UTC(2026, 4, 1, 12);
const HALL = `mappings:
  - topic: hall/+/n
    name: hall
    measurement: hall
    tags: {room: "{2}"}
    fields: {n: n}
`;

async function explained(site: AsOfSite, asked: Asked): Promise<Explained[]> {
  const { log, lake, points: store } = site;
  const sources = { log, lake, store, origins: new Origins(log), rules: [], batches: undefined };
  const { points } = await explain(sources, asked, { maySee: () => true, hasRaw: true });
  return points;
}

describe.each([true, false])('explain, in the lake: %s', (withLake) => {
  const site = new AsOfSite(temporaryFolder(), { flushMs: withLake ? 1 : 3_600_000 });
  const identity = { gateway: 'old', epoch: EPOCH, sequence: 2, index: 0 };

  beforeAll(async () => {
    await site.open();
    await site.map(HALL, 'first');
    await site.append([messages(1, 5, { wallMs: DAY, arrivedMs: Date.now() })]);
    await site.settled(withLake);
    const lost = { gateway: 'old', wallMs: 1000, monotonicUs: 2e9, isKnown: false };
    await site.append([messages(1, 3, lost)]);
    await site.append([anchor(4, { gateway: 'old', trueMs: DAY + 50_000, errorMs: 60_000 })]);
    await site.settled(withLake);
    await site.append([anchor(5, { gateway: 'old', trueMs: DAY + 80_000, errorMs: 10 })]);
    await site.settled(withLake);
  });
  afterAll(() => site.close());

  it('a point as one sees it leads to its bytes, client, frame, clock and mapping', async () => {
    const tags = { gateway: 'gw', topic: 'hall/1/n' };
    const asked = { measurement: 'hall', tags: { gateway: 'gw' }, timeMs: DAY + 1000 };
    const [point, ...others] = await explained(site, { ...asked, field: 'n' });
    expect(others).toEqual([]);
    expect(point).toMatchObject({
      identity: { gateway: 'gw', epoch: EPOCH, sequence: 2, index: 0 },
      state: 'present',
      fields: { n: 2 },
      message: { client: 'c', topic: tags.topic, payload: '{"n":2,"t":14}', encoding: 'utf8' },
      frame: { firstSequence: 1, count: 5, boot: '07'.repeat(8) },
      clock: { gave: 'gateway', quality: 'synchronised', offsetMs: 0, anchor: null },
      mapping: { hash: 'first', name: 'hall', gives: true },
      lane: 'live',
      late: true,
      unknown: ['batches do not run in this process'],
    });
    const { row, frame } = point as Explained;
    const parts = [row.lake, row.log, frame?.lake, frame?.log].map((each) => each != null);
    expect(parts).toEqual([withLake, !withLake, withLake, !withLake]);
    expect(await explained(site, { ...asked, field: 'other' })).toEqual([]);
  });

  it('a moved one says which anchor placed it and where it was before; its old place leads to it', async () => {
    const trueMs = DAY + 80_000 + 1_000_000 + 1000;
    const [now] = await explained(site, { identity });
    expect(now).toMatchObject({
      state: 'present',
      time: trueMs,
      clock: { gave: 'anchor', quality: 'unknown', anchor: { errorMs: 10, basis: 'collector' } },
    });
    if (!withLake) return;
    const before = { measurement: 'hall', time: trueMs - 30_000 };
    expect(now?.before).toMatchObject([before]);
    const [old] = await explained(site, { measurement: 'hall', timeMs: trueMs - 30_000 });
    expect(old).toMatchObject({ identity, state: 'moved', now: { time: trueMs } });
    expect(old?.message?.payload).toBe('{"n":2,"t":14}');
  });
});

describe('GET /api/v1/explain', () => {
  let collector: Collector;
  let base: string;
  const call = async (query: string, token = 'all'): Promise<Response> =>
    await fetch(`${base}/api/v1/explain?${query}`, {
      headers: { authorization: `Bearer ${token}` },
    });
  const points = async (query: string, token?: string): Promise<Explained[]> =>
    ((await (await call(query, token)).json()) as { points: Explained[] }).points;

  beforeAll(async () => {
    const folder = temporaryFolder();
    const line = (name: string, reach: string, scope = 'read'): string =>
      `${name}:${scope}:${reach}:${hashOf(name).toString('hex')}`;
    const tokens = join(folder, 'tokens');
    const lines = [
      line('all', '*'),
      line('own', 'here'),
      line('other', 'other'),
      line('write', 'here', 'write'),
    ];
    writeFileSync(tokens, `${lines.join('\n')}\n`, { mode: 0o600 });
    const rules = join(folder, 'rules.yaml');
    writeFileSync(
      rules,
      `rules:
  - name: seconds
    from: { measurement: n, field: n }
    window: 1s
    compute: [count]
  - name: double
    from: { measurement: n }
    derive: { twice: n * 2 }
  - name: high
    from: { measurement: n, field: n }
    alert: { above: 20 }
`,
    );
    const listen = '127.0.0.1:0';
    const flags = { data: join(folder, 'data'), uplink: listen, http: listen };
    const environment = {
      [environmentName('ingest.httpGateway')]: 'here',
      [environmentName('lake.flushSeconds')]: '1',
      [environmentName('stream.rules')]: rules,
    };
    const config = loadConfig(COLLECTOR_CONFIG, {
      flags: { ...flags, 'tokens-file': tokens },
      environment,
    });
    collector = new Collector(realEnv(), config, () => undefined);
    const { http } = await collector.start(undefined);
    base = `http://127.0.0.1:${http?.port}`;
    const body = JSON.stringify({ n: 21 });
    const headers = { authorization: 'Bearer write' };
    const url = `${base}/api/v1/ingest?topic=hall/1/n`;
    expect((await fetch(url, { method: 'POST', body, headers })).status).toBe(204);
  });
  afterAll(() => collector.close());

  it('goes forward to windows, alerts and derived values, and from these back', async () => {
    const found = await until('results', async () => {
      const query = `${base}/api/v1/latest?measurement=n&field=n`;
      const headers = { authorization: 'Bearer all' };
      const latest = (await (await fetch(query, { headers })).json()) as {
        series: { time: number }[];
      };
      const time = latest.series[0]?.time;
      if (time === undefined) return undefined;
      const [point] = await points(`measurement=n&field=n&time=${time}`);
      const results = point?.forward?.results ?? [];
      return results.every(({ fields }) => fields !== null) && results.length === 3
        ? point
        : undefined;
    });
    const results = found.forward?.results ?? [];
    expect(results.map(({ kind, rule }) => `${kind} ${rule}`).sort()).toEqual([
      'alert high',
      'derive double',
      'window seconds',
    ]);
    const window = results.find(({ kind }) => kind === 'window');
    expect(window?.fields).toEqual({ n_count: 1 });
    const derived = results.find(({ kind }) => kind === 'derive');
    expect(derived?.fields).toEqual({ twice: 42 });
    for (const { measurement, time } of results) {
      const [result] = await points(`measurement=${measurement}&time=${time}`);
      expect(result?.kind).toBe('stream');
      expect(result?.backward?.inputs).toMatchObject([found.identity]);
    }
  });

  it('another gateway’s token sees nothing, and bytes are for who may read raw', async () => {
    const [all] = await until('the point', async () => {
      const list = await points('gateway=here&epoch=x&sequence=0');
      expect(list).toEqual([]);
      const headers = { authorization: 'Bearer all' };
      const latest = await fetch(`${base}/api/v1/latest?measurement=n`, { headers });
      const { series } = (await latest.json()) as { series: { time: number }[] };
      const some = await points(`measurement=n&time=${series[0]?.time ?? 0}`);
      return some.length > 0 ? some : undefined;
    });
    const { gateway, epoch, sequence } = (all as Explained).identity;
    const query = `gateway=${gateway}&epoch=${epoch}&sequence=${sequence}`;
    expect((all as Explained).message?.payload).toBe('{"n":21}');
    const [own] = await points(query, 'own');
    expect(own?.message).toMatchObject({ topic: 'hall/1/n', payload: null, bytes: 8 });
    expect((await call(query, 'other')).status).toBe(403);
    expect(await points(`measurement=n&time=${(all as Explained).time}`, 'other')).toEqual([]);
    expect((await call(`measurement=n&time=1&tag.gateway=here`, 'other')).status).toBe(403);
    expect((await fetch(`${base}/api/v1/explain?${query}`)).status).toBe(401);
    expect((await call(query, 'nobody')).status).toBe(401);
  });

  it.each([
    ['', /which point/],
    ['measurement=n', /which point/],
    ['time=1', /which point/],
    ['measurement=n&time=yesterday', /time/],
    ['gateway=a&epoch=b', /together/],
    ['gateway=a&epoch=b&sequence=-1', /sequence/],
    ['gateway=a&epoch=b&sequence=1&time=1', /not by both/],
    ['measurement=n&time=1&index=0', /index/],
    ['measurement=n&time=1&more=1', /not known here/],
  ])('?%s is refused in a sentence', async (query, why) => {
    const response = await call(query);
    expect(response.status).toBe(400);
    expect(((await response.json()) as { error: { message: string } }).error.message).toMatch(why);
  });

  it.each([
    `measurement=${encodeURIComponent("n' OR 1=1 --")}&time=1`,
    `gateway=${encodeURIComponent("'); DROP TABLE x; --")}&epoch=${encodeURIComponent('../..')}&sequence=9007199254740991`,
    `measurement=n&time=1&tag.${encodeURIComponent("a'b")}=${encodeURIComponent("'")}`,
  ])('?%s finds nothing and harms nothing', async (query) => {
    expect(await points(query)).toEqual([]);
  });
});

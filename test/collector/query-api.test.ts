/** `/query` and `/api/v1/query` over a running collector: rights, shapes of clients, pages, compression. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Collector } from '../../collector/collector.ts';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { hashOf } from '../../shared/access/tokens.ts';
import { environmentName, loadConfig } from '../../shared/config/spec.ts';
import { realEnv } from '../../shared/env/env.ts';
import { temporaryFolder, until } from '../support/process.ts';

const POINTS = 12_345;

function tokens(): string {
  const line = (name: string, scope: string, reach: string): string =>
    `${name}:${scope}:${reach}:${hashOf(name).toString('hex')}`;
  const path = join(temporaryFolder(), 'tokens');
  const lines = [
    line('all', 'admin', '*'),
    line('own', 'read', 'here'),
    line('other', 'read', 'other'),
    line('writer', 'write', '*'),
  ];
  writeFileSync(path, `${lines.join('\n')}\n`, { mode: 0o600 });
  return path;
}

describe('queries over HTTP', () => {
  let collector: Collector;
  let base: string;
  const told: string[] = [];
  const get = (
    path: string,
    headers: Record<string, string> = { authorization: 'Bearer all' },
  ): Promise<Response> => fetch(`${base}${path}`, { headers });
  const query = (q: string, rest = ''): string => `/query?q=${encodeURIComponent(q)}${rest}`;
  const count = 'SELECT count(v) FROM load';
  const counted = async (response: Response): Promise<unknown> =>
    ((await response.json()) as { results: { series?: { values: unknown[][] }[] }[] }).results[0]
      ?.series?.[0]?.values[0]?.[1];

  beforeAll(async () => {
    collector = new Collector(
      realEnv(),
      loadConfig(COLLECTOR_CONFIG, {
        flags: {
          data: temporaryFolder(),
          lake: 'none',
          uplink: '127.0.0.1:0',
          http: '127.0.0.1:0',
          'tokens-file': tokens(),
        },
        environment: { [environmentName('ingest.httpGateway')]: 'here' },
      }),
      ({ event }) => void told.push(event),
    );
    const { http } = await collector.start(undefined);
    base = `http://127.0.0.1:${http?.port}`;
    const lines = Array.from(
      { length: POINTS },
      (_, n) => `load,part=${n % 3} v=${n / 8} ${1_700_000_000_000 + n}`,
    );
    const written = await fetch(`${base}/write?precision=ms`, {
      method: 'POST',
      headers: { authorization: 'Token all' },
      body: lines.join('\n'),
    });
    expect(written.status).toBe(204);
    await until('all points are stored', async () =>
      (await counted(await get(query(count)))) === POINTS ? true : undefined,
    );
  });
  afterAll(() => collector.close());

  it('InfluxDB 1.x credentials in every form are the token', async () => {
    const basic = (user: string): Record<string, string> => ({
      authorization: `Basic ${Buffer.from(user).toString('base64')}`,
    });
    for (const response of [
      await get(query(count, '&u=someone&p=own'), {}),
      await get(query(count), basic('someone:own')),
      await get(query(count), { authorization: 'Token own' }),
    ])
      expect(await counted(response)).toBe(POINTS);
    const refused = await get(query(count, '&u=root&p=root'), {});
    expect(refused.status).toBe(401);
    expect(typeof ((await refused.json()) as { error: unknown }).error).toBe('string');
  });

  it('a token for another gateway sees none of it, and one that writes nothing', async () => {
    const other = { authorization: 'Bearer other' };
    for (const q of [
      count,
      'SHOW MEASUREMENTS',
      'SHOW SERIES',
      'SHOW TAG VALUES WITH KEY = part',
      'SELECT * FROM (SELECT v FROM load)',
    ])
      expect(await (await get(query(q), other)).json()).toEqual({ results: [{ statement_id: 0 }] });
    expect(await (await get('/api/v1/query', other)).json()).toEqual({ series: [] });
    expect((await get('/api/v1/query?tag.gateway=here', other)).status).toBe(403);
    expect((await get(query(count), { authorization: 'Bearer writer' })).status).toBe(403);
  });

  it('a form in the body does as well, and an empty parameter is none', async () => {
    const post = async (body: string, path = '/query'): Promise<Response> =>
      await fetch(`${base}${path}`, {
        method: 'POST',
        headers: {
          authorization: 'Bearer all',
          'content-type': 'application/x-www-form-urlencoded',
        },
        body,
      });
    expect(await counted(await post(`q=${encodeURIComponent(count)}&epoch=ms`))).toBe(POINTS);
    expect(await counted(await post('', query(count, '&epoch=&rp=&db=x')))).toBe(POINTS);
    const wrong = await post('q=SELEC');
    expect([wrong.status, ((await wrong.json()) as { error: string }).error]).toEqual([
      400,
      expect.stringMatching(/^error parsing query: found SELEC/),
    ]);
    for (const path of [
      '/query',
      '/query?q=',
      query(count, '&epoch=years'),
      query(count, '&params=%5B%5D'),
      query(count, '&params=x'),
      query(count, '&nonsense=1'),
    ])
      expect((await get(path)).status, path).toBe(400);
  });

  it('says what it is as InfluxDB 1.x does', async () => {
    for (const path of ['/ping', query('SHOW DATABASES')])
      expect((await get(path)).headers.get('x-influxdb-version')).toBe('1.8.10');
    expect(await (await get('/health')).json()).toMatchObject({
      status: 'pass',
      version: '1.8.10',
    });
  });

  it('pages by cursor are the whole answer', async () => {
    type Page = {
      series: { tags: Record<string, string>; points: [number, number][] }[];
      next?: string;
    };
    const ask = async (rest: string): Promise<Page> =>
      (await (await get(`/api/v1/query?measurement=load${rest}`)).json()) as Page;
    const flat = ({ series }: Page): string[] =>
      series.flatMap(({ tags, points }) =>
        points.map((point) => JSON.stringify([tags['part'], ...point])),
      );
    const whole = await ask('');
    expect(whole.next).toBeUndefined();
    expect(flat(whole).length).toBe(POINTS);
    const paged: string[] = [];
    let next: string | undefined = '';
    for (let pages = 0; next !== undefined; pages++) {
      expect(pages).toBeLessThan(10);
      const page: Page = await ask(`&limit=3000${next === '' ? '' : `&cursor=${next}`}`);
      paged.push(...flat(page));
      ({ next } = page);
    }
    expect(paged).toEqual(flat(whole));
    expect((await get('/api/v1/query?cursor=nonsense')).status).toBe(400);
    expect((await get('/api/v1/query?limit=0')).status).toBe(400);
  });

  it('numbers beyond all bounds are answered, and whatever is said of them, the store stays open', async () => {
    const most = '9223372036854775807';
    for (const q of [
      `SELECT v FROM load LIMIT ${most}`,
      `SELECT v FROM load LIMIT 3 OFFSET ${most}`,
      `SELECT v FROM load GROUP BY * SLIMIT ${most} SOFFSET ${most}`,
      `SELECT mean(v) FROM load GROUP BY time(${most}ns)`,
      'SELECT mean(v) FROM load GROUP BY time(5000w)',
      'SELECT mean(v) FROM load GROUP BY time(1w, 5000w)',
      `SELECT derivative(v, ${most}ns) FROM load`,
      `SELECT mean(v) FROM load WHERE time > ${most} AND time < -${most}`,
      `SELECT stddev(a) FROM (SELECT v * ${'9'.repeat(308)}.0 AS a FROM load)`,
      `SELECT percentile(v, ${'9'.repeat(308)}) FROM load`,
      `SELECT v FROM load WHERE v > ${'9'.repeat(308)} * ${'9'.repeat(308)}`,
    ]) {
      const response = await get(query(q));
      expect(response.status, q).toBe(200);
      expect(await response.text(), q).not.toContain('opened afresh');
    }
    expect(await counted(await get(query(`${count} LIMIT ${most}`)))).toBe(POINTS);
    expect((await get(query(`SELECT v FROM load WHERE v > ${'9'.repeat(309)}`))).status).toBe(400);
    const name = JSON.stringify(['load', 'v', 'gateway', 'here', 'part', '0']);
    for (const place of [
      [1e300, 1],
      [1.5, 1],
      [1, 1e300],
      [1, 0.5],
      [1, -5],
      [null, 1],
    ]) {
      const cursor = Buffer.from(JSON.stringify([2, name, ...place])).toString('base64url');
      for (const rest of ['', '&every=1h'])
        expect((await get(`/api/v1/query?cursor=${cursor}${rest}`)).status, String(place)).toBe(
          400,
        );
    }
    expect(told.filter((event) => event.startsWith('store_'))).toEqual([]);
  });

  it('goes out compressed where that is taken', async () => {
    const q = query('SELECT v FROM load');
    const packed = await get(q, { authorization: 'Bearer all', 'accept-encoding': 'gzip' });
    expect(packed.headers.get('content-encoding')).toBe('gzip');
    const plain = await get(q, { authorization: 'Bearer all', 'accept-encoding': 'identity' });
    expect(plain.headers.get('content-encoding')).toBeNull();
    expect(await packed.text()).toBe(await plain.text());
    expect(
      (await get(q, { authorization: 'Bearer all', 'accept-encoding': 'gzip;q=0' })).headers.get(
        'content-encoding',
      ),
    ).toBeNull();
  });

  it('errors are problem details, and every operation has an id of its own', async () => {
    const response = await get('/api/v1/query?fn=nonsense');
    expect(response.headers.get('content-type')).toBe('application/problem+json');
    const body = (await response.json()) as { detail: string };
    expect(body).toMatchObject({
      type: 'about:blank',
      title: 'query invalid',
      status: 400,
      error: { code: 'QUERY_INVALID', message: body.detail },
    });
    const { paths } = (await (await get('/openapi.json')).json()) as {
      paths: Record<string, Record<string, { operationId: string }>>;
    };
    const ids = Object.values(paths).flatMap((each) =>
      Object.values(each).map(({ operationId }) => operationId),
    );
    expect(ids).toContain('getExport');
    expect(new Set(ids).size).toBe(ids.length);
  });
});

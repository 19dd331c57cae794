/** InfluxDB 1.8 and 2 that refuse, ask to wait, are dropped, moved or speak TLS: what a store does with it. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { TOPIC_QUARANTINE, TOPIC_READINGS } from '../../collector/log/log.ts';
import { topics } from '../../collector/log/topics.ts';
import { TokenSource, checkPlaintext } from '../../collector/store/credentials.ts';
import { InfluxStore, parseInfluxAddress } from '../../collector/store/influxdb.ts';
import { gathered } from '../support/gathered.ts';
import { StoreStage } from '../../collector/store/stage.ts';
import type { Change, TimeSeriesStore } from '../../collector/store/store.ts';
import { processTime } from '../../shared/env/env.ts';
import { decodeQuarantined } from '../../shared/model/quarantine-record.ts';
import type { FieldValue, Reading } from '../../shared/model/reading.ts';
import { encodeReadings } from '../../shared/model/readings-record.ts';
import { Authority } from '../support/certificates.ts';
import { httpFront, type HttpFront } from '../support/http-front.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { startInflux1, startInflux2, type Influx } from '../services/servers.ts';

const HOUR = 3_600_000;
const WRITE = 'POST /api/v2/write';
const quiet = (): void => undefined;
/** Two readings of one series differ in their time: here none has digits of its identity. */
const began = Date.now();

let sequence = 0;
function reading(measurement: string, timeMs: number, value: FieldValue): Reading {
  const tags = { device: 'd1', topic: `site/${measurement}` };
  return { measurement, tags, fields: { value }, sequence: ++sequence, index: 0, timeMs, ns: 7 };
}
const change = (put: Reading): Change => ({
  identity: { gateway: 'gw', epoch: 'e', sequence: put.sequence, index: 0 },
  put,
});
const changes = (count: number, of: (at: number) => Reading): Change[] =>
  Array.from({ length: count }, (_, at) => change(of(at)));

async function influxQl(influx: Influx, statement: string): Promise<void> {
  const body = new URLSearchParams({ q: statement }).toString();
  const response = await fetch(`http://${influx.address}/query`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body,
  });
  // Its head is sent before the statement is done.
  await response.text();
}

async function api(influx: Influx, method: string, path: string, body?: object): Promise<unknown> {
  const response = await fetch(`http://${influx.address}${path}`, {
    method,
    headers: { authorization: `Token ${influx.token}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return response.status === 204 ? undefined : await response.json();
}

async function makeBucket(influx: Influx, name: string, everySeconds?: number): Promise<string> {
  const { orgs } = (await api(influx, 'GET', '/api/v2/orgs')) as { orgs: { id: string }[] };
  const rules = everySeconds === undefined ? [] : [{ type: 'expire', everySeconds }];
  const made = await api(influx, 'POST', '/api/v2/buckets', {
    orgID: orgs[0]?.id,
    name,
    retentionRules: rules,
  });
  return (made as { id: string }).id;
}

const values = async (store: TimeSeriesStore, measurement: string): Promise<FieldValue[]> =>
  (await gathered(store.query({ measurement }))).flatMap(({ points }) =>
    points.map(([, value]) => value),
  );

describe.each([
  [
    'InfluxDB 1.8',
    startInflux1,
    async (influx: Influx): Promise<string> => {
      await influxQl(influx, 'CREATE DATABASE hour WITH DURATION 1h NAME hour');
      return '/hour';
    },
  ],
  [
    'InfluxDB 2',
    startInflux2,
    async (influx: Influx): Promise<string> => {
      await makeBucket(influx, 'hour', 3600);
      return '/org/hour';
    },
  ],
] as [
  string,
  () => Promise<Influx>,
  (influx: Influx) => Promise<string>,
][])('%s', (_, launch, withRetention) => {
  let influx: Influx;
  let front: HttpFront;
  const said: string[] = [];
  /** The store's clock is ahead by so much. */
  let aheadMs = 0;
  const time = {
    ...processTime,
    clock: {
      ...processTime.clock,
      monotonicUs: () => processTime.clock.monotonicUs() + aheadMs * 1000,
    },
  };
  const storeAt = (path: string): InfluxStore =>
    new InfluxStore(
      {
        time,
        ...parseInfluxAddress(`influxdb://127.0.0.1:${front.port}${path}`),
        token: () => influx.token,
        caFile: '',
      },
      ({ text }) => said.push(text),
    );
  const own = (): string => influx.store.slice('influxdb://'.length).replace(/^[^/]+/, '');
  beforeAll(async () => {
    influx = await launch();
    front = await httpFront(influx);
  });
  afterAll(async () => {
    await front.close();
    await influx.stop();
  });

  it('what is older than the retention is refused in one go, once, and the live one is there', async () => {
    const store = storeAt(await withRetention(influx));
    await store.open();
    const now = Date.now();
    const old = (): Change[] => changes(5000, (at) => reading('old', now - 72 * HOUR + at, at));
    const live = (): Change => change(reading('old', Date.now(), 1));
    front.taken(WRITE);
    const refused = await store.apply([...old(), live()]);
    expect(refused).toHaveLength(1);
    expect(refused[0]?.reason).toMatch(/keeps nothing so old.*3600 s/);
    expect(refused[0]?.changes).toHaveLength(5000);
    expect(await values(store, 'old')).toEqual([1]);
    expect(front.taken(WRITE)).toBeLessThanOrEqual(4);
    expect(said.filter((text) => text.includes('keeps nothing so old'))).toHaveLength(1);
    await store.apply([...old(), live()]);
    expect(front.taken(WRITE)).toBe(1);
    expect(said.filter((text) => text.includes('keeps nothing so old'))).toHaveLength(1);
    await store.close();
  });

  it('a retention that nobody told is learnt from what is dropped', async () => {
    const path = await withRetention(influx);
    const store = storeAt(path);
    await store.open();
    // As for a token that may not see it.
    front.instead = ({ url = '', method }, response) => {
      if (method !== 'GET' || !url.startsWith('/api/v2/buckets')) return false;
      response.writeHead(403).end('{"code":"forbidden"}');
      return true;
    };
    const now = Date.now();
    front.taken(WRITE);
    const refused = await store.apply(
      changes(4000, (at) => reading('mixed', at % 2 === 0 ? now - 72 * HOUR + at : now - at, at)),
    );
    front.instead = () => false;
    expect(refused.flatMap((each) => each.changes)).toHaveLength(2000);
    expect(refused).toHaveLength(1);
    expect(front.taken(WRITE)).toBeLessThanOrEqual(4);
    expect(await values(store, 'mixed')).toHaveLength(2000);
    await store.close();
  });

  it('fields of another type are refused in one go, and the rest of them are written', async () => {
    const store = storeAt(own());
    await store.open();
    const now = Date.now();
    await store.apply(changes(3, (at) => reading('typed', now + at, at)));
    front.taken(WRITE);
    const refused = await store.apply(
      changes(3000, (at) => reading('typed', now + 10 + at, at % 3 === 0 ? `t${at}` : at)),
    );
    expect(refused).toHaveLength(1);
    expect(refused[0]?.reason).toMatch(/input field "value" on measurement "typed" is type string/);
    expect(refused[0]?.changes).toHaveLength(1000);
    expect(front.taken(WRITE)).toBeLessThanOrEqual(3);
    expect(await values(store, 'typed')).toHaveLength(2003);
    await store.apply(changes(500, (at) => reading('typed', now + 9000 + at, `t${at}`)));
    expect(front.taken(WRITE)).toBe(0);
    await store.close();
  });

  it('what its words do not tell is looked for within a bound, and found in the end', async () => {
    const store = storeAt(own());
    await store.open();
    const bad = (at: number): boolean => at % 9 === 0;
    // Nobody's words, of a version that does not exist yet.
    front.instead = (request, response) => {
      if (!(request.url ?? '').startsWith('/api/v2/write')) return false;
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => {
        const isBad = Buffer.concat(parts).toString().includes('value=666');
        response
          .writeHead(isBad ? 400 : 204, { 'x-influxdb-version': '9' })
          .end(isBad ? '{"message":"no"}' : '');
      });
      return true;
    };
    const list = changes(900, (at) => reading('odd', Date.now() + at, bad(at) ? 666 : at));
    front.taken(WRITE);
    let calls = 0;
    const refused = await until('all of it', async () => {
      calls++;
      const before = front.requests.length;
      try {
        return await store.apply(list);
      } finally {
        expect(front.requests.length - before).toBeLessThan(420);
      }
    });
    front.instead = () => false;
    expect(calls).toBeGreaterThan(1);
    expect(refused.flatMap((each) => each.changes)).toHaveLength(100);
    await store.close();
  });

  it('asked to come later, it does', async () => {
    const store = storeAt(own());
    await store.open();
    let isBusy = true;
    front.instead = (_request, response) => {
      if (isBusy) response.writeHead(503, { 'retry-after': '1' }).end('{"error":"busy"}');
      return isBusy;
    };
    const one = changes(1, () => reading('later', Date.now(), 1));
    await expect(store.apply(one)).rejects.toThrow(/503 busy/);
    isBusy = false;
    front.taken(WRITE);
    await expect(store.apply(one)).rejects.toThrow(/asked to be left alone/);
    expect(front.taken(WRITE)).toBe(0);
    await until('the second to be over', async () => (await store.apply(one)).length === 0);
    front.instead = () => false;
    await store.close();
  });

  it('another bucket is another store, and is filled; an upgrade writes nothing twice', async () => {
    const folder = temporaryFolder();
    const log = new EmbeddedLog(
      { folder, cacheBytes: 1 << 20, topics: topics(Infinity), now: () => Date.now() },
      quiet,
    );
    await log.open();
    const say = async (from: number, to: number): Promise<void> => {
      for (let at = from; at < to; at++) {
        const one = { ...reading('fill', began - at, at), sequence: at };
        const batch = { gateway: 'gw', epoch: 'f', arrivedMs: 1, readings: [one] };
        await log.append(TOPIC_READINGS, [
          { key: 'gw', headers: {}, value: encodeReadings(batch) },
        ]);
      }
    };
    await say(0, 100);
    const follow = async (path: string, count: number): Promise<number> => {
      const store = storeAt(path);
      await store.open();
      const stage = new StoreStage({ log, store, notify: quiet, fillRate: 1e6 });
      stage.start();
      await until(`${count} readings`, async () => (await values(store, 'fill')).length === count);
      const { storedReadings } = stage;
      await stage.close();
      await store.close();
      return storedReadings;
    };
    // As an older version left it: everything written, under the group that all buckets shared.
    const first = storeAt(own());
    await first.open();
    await first.apply(changes(1, () => reading('fill', began + 1, 1)));
    const old = await log.consumer({
      group: 'headwater-store-influxdb',
      topic: TOPIC_READINGS,
      from: 'start',
      bytesMax: 1 << 20,
    });
    await old.poll(100);
    await old.commit({ produce: [], offsets: new Map([[0, 100]]) });
    await old.close();
    await first.close();
    await say(100, 110);
    expect(await follow(own(), 11)).toBe(10);
    // The next one takes nothing over.
    const other = own() === '/headwater' ? '/other' : '/org/other';
    if (other === '/org/other') await makeBucket(influx, 'other');
    expect(await follow(other, 110)).toBe(110);
    // And the first goes on where it was.
    await say(110, 115);
    expect(await follow(own(), 16)).toBe(5);
    await log.close();
  });

  it('dropped and made again under its name, it is another store and is filled again', async () => {
    const isOne = own() === '/headwater';
    const path = isOne ? '/dropped' : '/org/dropped';
    let id = isOne ? '' : await makeBucket(influx, 'dropped');
    const store = storeAt(path);
    await store.open();
    const folder = temporaryFolder();
    const log = new EmbeddedLog(
      { folder, cacheBytes: 1 << 20, topics: topics(Infinity), now: () => Date.now() },
      quiet,
    );
    await log.open();
    const stage = new StoreStage({ log, store, notify: quiet, fillRate: 1e6 });
    stage.start();
    const say = async (at: number): Promise<void> => {
      const one = { ...reading('again', began - at, at), sequence: at };
      const batch = { gateway: 'gw', epoch: 'd', arrivedMs: 1, readings: [one] };
      await log.append(TOPIC_READINGS, [{ key: 'gw', headers: {}, value: encodeReadings(batch) }]);
    };
    await say(1);
    await until('the first', async () => (await values(store, 'again')).length === 1);
    if (isOne) await influxQl(influx, 'DROP DATABASE dropped');
    else {
      await api(influx, 'DELETE', `/api/v2/buckets/${id}`);
      id = await makeBucket(influx, 'dropped');
    }
    await say(2);
    if (!isOne) {
      // Of a bucket that is there again in the same moment nobody says that it was gone: it is seen by its id.
      aheadMs = HOUR;
      await say(3);
    }
    const count = isOne ? 2 : 3;
    await until('all of it', async () => (await values(store, 'again')).length === count);
    await stage.close();
    await store.close();
    await log.close();
  });

  it('away when the store begins, it is set up when it comes', async () => {
    await influx.kill();
    const path = own() === '/headwater' ? '/new' : '/org/bucket';
    const store = storeAt(path);
    await store.open();
    await expect(store.apply(changes(1, () => reading('away', Date.now(), 1)))).rejects.toThrow(
      /does not answer/,
    );
    await influx.restart();
    const refused = await store.apply(changes(1, () => reading('away', Date.now(), 1)));
    expect(refused).toEqual([]);
    expect(await values(store, 'away')).toEqual([1]);
    await store.close();
  });

  it('a refused point stands in quarantine with its topic, device and time', async () => {
    const log = new EmbeddedLog(
      {
        folder: temporaryFolder(),
        cacheBytes: 1 << 20,
        topics: topics(Infinity),
        now: () => Date.now(),
      },
      quiet,
    );
    await log.open();
    const store = storeAt(await withRetention(influx));
    await store.open();
    const stage = new StoreStage({ log, store, notify: quiet, fillRate: 1e6 });
    stage.start();
    const timeMs = Date.now() - 48 * HOUR;
    const readings = [reading('late', timeMs, 1), reading('late', timeMs + 1, 2)];
    const batch = { gateway: 'gw', epoch: 'q', arrivedMs: 1, readings };
    await log.append(TOPIC_READINGS, [{ key: 'gw', headers: {}, value: encodeReadings(batch) }]);
    const consumer = await log.consumer({
      group: 'look',
      topic: TOPIC_QUARANTINE,
      from: 'start',
      bytesMax: 1 << 20,
    });
    const records = await until('a record', async () => {
      const found = await consumer.poll(100);
      return found.length > 0 ? found : undefined;
    });
    expect(records.map(({ value }) => decodeQuarantined(value))).toMatchObject(
      [{ topic: 'site/late', client: 'd1', receivedMs: timeMs + 1, reason: /\(2 readings\)/ }].map(
        ({ reason: _reason, ...rest }) => rest,
      ),
    );
    await consumer.close();
    await stage.close();
    await store.close();
    await log.close();
  });
});

describe('the way to InfluxDB', () => {
  let influx: Influx;
  beforeAll(async () => {
    influx = await startInflux2();
  });
  afterAll(async () => await influx.stop());

  it('a token file that changes is read again, and one that is half written locks nobody out', async () => {
    const front = await httpFront(influx);
    const file = join(temporaryFolder(), 'token');
    writeFileSync(file, `${influx.token}\n`, { mode: 0o600 });
    const tokens = new TokenSource(file, '', quiet);
    const store = new InfluxStore(
      {
        ...parseInfluxAddress(`influxdb://127.0.0.1:${front.port}/org/bucket`),
        token: () => tokens.now(),
        caFile: '',
      },
      quiet,
    );
    const one = (): Change[] => changes(1, () => reading('token', Date.now(), 1));
    await store.apply(one());
    writeFileSync(`${file}.new`, 'another-token', { mode: 0o600 });
    renameSync(`${file}.new`, file);
    await expect(store.apply(one())).rejects.toThrow(/401/);
    expect(front.requests.at(-1)?.authorization).toBe('Token another-token');
    writeFileSync(file, '');
    await expect(store.apply(one())).rejects.toThrow(/401/);
    writeFileSync(file, influx.token);
    expect(await store.apply(one())).toEqual([]);
    await store.close();
    await front.close();
    expect(() => new TokenSource(join(file, 'nowhere'), '', quiet)).toThrow(/store.tokenFile/);
  });

  it('by TLS the certificate and the host name are checked', async () => {
    const folder = temporaryFolder();
    const authority = new Authority(join(folder, 'ca'));
    const foreign = new Authority(join(folder, 'foreign'), 'Foreign');
    const right = { name: 'influx', hosts: ['127.0.0.1'] };
    const trials: [string, ReturnType<Authority['issue']>, RegExp | undefined][] = [
      ['right', authority.issue(right), undefined],
      ['another name', authority.issue({ name: 'x', hosts: ['elsewhere.test'] }), /another name/],
      ['expired', authority.issue({ ...right, to: '20210101000000Z' }), /expired/i],
      ['a foreign authority', foreign.issue(right), /certificate/i],
    ];
    for (const [name, pair, refusal] of trials) {
      const tls = { cert: readFileSync(pair.cert, 'utf8'), key: readFileSync(pair.key, 'utf8') };
      const front = await httpFront(influx, tls);
      const store = new InfluxStore(
        {
          ...parseInfluxAddress(`influxdbs://127.0.0.1:${front.port}/org/bucket`),
          token: () => influx.token,
          caFile: authority.cert,
        },
        quiet,
      );
      const applied = store.apply(changes(1, () => reading('tls', Date.now(), 1)));
      if (refusal === undefined) expect(await applied, name).toEqual([]);
      else await expect(applied, name).rejects.toThrow(refusal);
      expect(front.requests.length > 0, name).toBe(refusal === undefined);
      await store.close();
      await front.close();
    }
  });

  it('a token does not go to another machine in clear unless somebody insists', () => {
    const check = (url: string, hasToken: boolean, allowed: boolean) => (): void =>
      checkPlaintext(url, hasToken, allowed, quiet);
    expect(check('http://influx.test:8086', true, false)).toThrow(
      /--store would send the token to influx.test in clear: use influxdbs:\/\//,
    );
    for (const fine of [
      check('http://influx.test:8086', true, true),
      check('http://influx.test:8086', false, false),
      check('https://influx.test:8086', true, false),
      check('http://127.0.0.1:8086', true, false),
      check('http://[::1]:8086', true, false),
    ])
      expect(fine).not.toThrow();
  });
});

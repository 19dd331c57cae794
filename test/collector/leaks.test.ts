/**
 * What a reader of one gateway learns of another: nothing. Every question that he may ask is asked before and after the other
 * gateway has come with data of its own, and is answered the same, byte for byte.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { COLLECTOR_PARTS, Collector } from '../../collector/collector.ts';
import { TOPIC_QUARANTINE } from '../../collector/log/log.ts';
import { hashOf } from '../../shared/access/tokens.ts';
import { loadConfig } from '../../shared/config/spec.ts';
import { realEnv } from '../../shared/env/env.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import { CLOCK_SYNCHRONISED } from '../../shared/frame/frame.ts';
import type { Route } from '../../shared/http/route.ts';
import { encodeQuarantined } from '../../shared/model/quarantine-record.ts';
import { endpointsOf } from '../../shared/parts/site.ts';
import { encodeUp, upTopic } from '../../shared/wire/wire.ts';
import { connectPacket } from '../support/hostile.ts';
import { encodePublish } from '../support/load.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { connected } from '../support/raw-mqtt.ts';

const HOUR_MS = 3_600_000;
const folder = temporaryFolder();
let collector: Collector;
let base = '';
let uplink = 0;

/** Readings, a message for quarantine, and what a device says of units. */
async function come(gateway: string, word: string): Promise<void> {
  const builder = new FrameBuilder();
  const atUs = (Date.now() - HOUR_MS) * 1000;
  for (const [index, payload] of [
    '{"t":1}',
    `{"${word}_f":2,"s":"${word}_v"}`,
    '{"',
    `${word} x`,
  ].entries())
    builder.add(
      {
        ...{
          client: `${word}_client`,
          topic: `${word}/m${index}`,
          qos: 1,
          retain: false,
          dup: false,
        },
        payload: Buffer.from(payload),
      },
      atUs,
      1,
    );
  const identity = { gateway, epoch: Buffer.alloc(8, word.length), bootId: Buffer.alloc(8, 1) };
  const frame = builder.finish(identity, 1, CLOCK_SYNCHRONISED, false);
  const client = await connected(
    uplink,
    gateway,
    connectPacket({ id: `gateway-${gateway}` }),
    '127.0.0.1',
  );
  client.send(encodePublish(upTopic(gateway), encodeUp(0, [frame]), 1, 7));
  await until(`${gateway} to be stored`, async () => {
    const path = `/api/v1/quarantine?gateway=${gateway}`;
    const { count } = JSON.parse(await ask('all', path)) as { count: number };
    const series = await ask('all', `/api/v1/query?tag.gateway=${gateway}&from=0`);
    return (count > 0 && series.includes(`${word}_f`)) || undefined;
  });
}

/** What of a frame that is damaged in the log is known: neither epoch nor sequence. */
async function damaged(gateway: string, word: string): Promise<void> {
  const value = encodeQuarantined({
    ...{ gateway, epoch: '', sequence: 0, index: 0, client: '', topic: word, reason: word },
    ...{ receivedMs: 1, payload: Buffer.from(word) },
  });
  await collector.parts.log?.append(TOPIC_QUARANTINE, [{ key: gateway, headers: {}, value }]);
  await until('it to be listed', async () =>
    (await ask('all', '/api/v1/quarantine')).includes('"epoch":""') ? true : undefined,
  );
}

async function ask(token: string, path: string): Promise<string> {
  const response = await fetch(base + path, { headers: { authorization: `Bearer ${token}` } });
  return await response.text();
}

beforeAll(async () => {
  const tokens = join(folder, 'tokens');
  const line = (name: string, gateways: string): string =>
    `${name}:read:${gateways}:${hashOf(name).toString('hex')}\n`;
  writeFileSync(tokens, line('mine', 'own') + line('all', '*'), { mode: 0o600 });
  collector = new Collector(
    realEnv(),
    loadConfig(COLLECTOR_CONFIG, {
      flags: {
        data: join(folder, 'data'),
        ...{ uplink: '127.0.0.1:0', http: '127.0.0.1:0', 'tokens-file': tokens },
      },
      environment: {},
    }),
    () => undefined,
  );
  const addresses = await collector.start(undefined);
  base = `http://127.0.0.1:${addresses.http?.port}`;
  uplink = addresses.uplink?.port ?? 0;
});
afterAll(async () => await collector.close());

const q = (text: string): string => `q=${encodeURIComponent(text)}`;
/** Of routes with parameters, what may be asked; of the others their path. */
const ASKED: Record<string, string[]> = {
  '/query': [
    ...['SHOW MEASUREMENTS', 'SHOW SERIES', 'SHOW TAG KEYS', 'SHOW FIELD KEYS', 'SHOW DATABASES'],
    ...[
      'SHOW TAG VALUES WITH KEY = gateway',
      'SHOW TAG VALUES WITH KEY =~ /.*/',
      'SELECT * FROM /.*/',
    ],
    ...["SELECT * FROM other WHERE gateway = 'other'", "SHOW SERIES WHERE gateway != 'own'"],
    ...['SELECT count(*) FROM /.*/', 'SELECT sum(n) FROM (SELECT count(*) FROM /.*/)'],
    ...[
      'SELECT t FROM /.*/ GROUP BY * LIMIT 1',
      'SELECT nothing FROM m0',
      'SHOW SERIES CARDINALITY',
    ],
  ].map((text) => `/query?db=x&${q(text)}`),
  '/api/v1/query': [
    '',
    'tag.gateway=own',
    'tag.gateway=other',
    'fn=count',
    'measurement=m1',
    'every=1d&fn=max',
  ].map((more) => `/api/v1/query?from=0&${more}`.replace(/&$/, '')),
  '/api/v1/series': [
    '/api/v1/series',
    '/api/v1/series?tag.gateway=other',
    '/api/v1/series?measurement=m1',
  ],
  '/api/v1/latest': [
    '/api/v1/latest',
    '/api/v1/latest?tag.gateway=other',
    '/api/v1/latest?field=t',
  ],
  '/api/v1/quarantine': [
    '/api/v1/quarantine',
    '/api/v1/quarantine?gateway=other',
    '/api/v1/quarantine?topic=other/%23',
  ],
  '/api/v1/ledger': ['/api/v1/ledger', '/api/v1/ledger?gateway=other'],
  '/api/v1/export': ['jsonl', 'csv'].map((format) => `/api/v1/export?from=0&format=${format}`),
  '/api/v1/export/raw': [
    '/api/v1/export/raw?format=jsonl',
    '/api/v1/export/raw?format=jsonl&gateway=other',
  ],
  '/api/v1/explain': ['own', 'other'].map(
    (gateway) => `/api/v1/explain?measurement=m0&field=t&tag.gateway=${gateway}&time=now`,
  ),
};
/** Streams do not end; their filter has tests of its own. The page and pictures are files. */
const isAsked = ({ method, isStream, query }: Route<never>): boolean =>
  method === 'GET' && isStream !== true && query !== 'any';

/** Without what says only when it was asked. */
const steady = (text: string): string =>
  text.replaceAll(/"(?:lastSeenMs|statusMs|freeBytes|atMs|receivedMs|arrivedMs)":\d+/g, '');

describe('a reader of one gateway', () => {
  it('is answered the same before and after another gateway has come', async () => {
    await come('own', 'own');
    const paths = endpointsOf(COLLECTOR_PARTS)
      .map(({ route }) => route)
      .filter(isAsked)
      .flatMap(({ path }) => ASKED[path] ?? [path]);
    const answers = async (): Promise<Map<string, string>> => {
      const all = new Map<string, string>();
      for (const path of paths) all.set(path, steady(await ask('mine', path)));
      return all;
    };
    const before = await answers();
    await come('other', 'zebra');
    await damaged('other', 'zebra');
    const after = await answers();
    const differing = [...after].filter(
      ([path, text]) => text !== before.get(path) || text.includes('zebra'),
    );
    expect(differing).toEqual([]);
    // And it is not that there is nothing to be seen.
    expect(before.get('/api/v1/series')).toMatch(/own_f/);
    expect(await ask('all', '/api/v1/series')).toMatch(/zebra_f/);
  });
});

/** Every operation that answers JSON is asked, and its real reply is what its schema says, no more and no less. */
import { join } from 'node:path';
import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Collector } from '../../collector/collector.ts';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { parseJoinToken } from '../../shared/access/join-token.ts';
import { environmentName, loadConfig } from '../../shared/config/spec.ts';
import { realEnv } from '../../shared/env/env.ts';
import { csr, est, type Site } from '../support/enroll-site.ts';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { violations } from '../support/schema.ts';
import { temporaryFolder, until } from '../support/process.ts';

type Schema = Record<string, unknown>;
interface Operation {
  responses: Record<string, { content?: Record<string, { schema?: Schema }> }>;
}
type Description = Record<string, Record<string, Operation>>;

const RULES = `rules:
  - name: seconds
    from: { measurement: '*', field: n }
    window: 1s
    compute: [count]
`;

const isJson = (type: string): boolean => type.endsWith('json') && !type.includes('ndjson');
const schemaOf = ({ responses }: Operation, status: number, type: string): Schema | undefined =>
  responses[status]?.content?.[type.split(';')[0] ?? '']?.schema;

/** Asks, and notes what was asked and what of the reply is not as described. */
class Asker {
  readonly asked = new Set<string>();
  readonly wrong: string[] = [];
  private readonly base: string;
  readonly paths: Description;

  constructor(base: string, paths: Description) {
    this.base = base;
    this.paths = paths;
  }

  static async of(base: string): Promise<Asker> {
    const { paths } = (await (await fetch(`${base}/openapi.json`)).json()) as {
      paths: Description;
    };
    return new Asker(base, paths);
  }

  async ask<T>(method: string, address: string, body?: unknown): Promise<T> {
    const init =
      body === undefined
        ? { method }
        : { method, body: typeof body === 'string' ? body : JSON.stringify(body) };
    const response = await fetch(`${this.base}${address}`, init);
    const [path = ''] = address.split('?');
    const operation = this.paths[path]?.[method.toLowerCase()];
    const type = response.headers.get('content-type') ?? '';
    const text = await response.text();
    const reply = isJson(type.split(';')[0] ?? '') ? (JSON.parse(text) as T) : (text as T);
    const schema = operation === undefined ? undefined : schemaOf(operation, response.status, type);
    if (response.ok) this.asked.add(`${method} ${path}`);
    const found =
      schema === undefined
        ? [`${response.status} ${type} is not described: ${text.slice(0, 200)}`]
        : violations(schema, reply);
    for (const each of found) this.wrong.push(`${method} ${address}: ${each}`);
    return reply;
  }

  /** With a schema for what is well. */
  get described(): string[] {
    return Object.entries(this.paths).flatMap(([path, methods]) =>
      Object.entries(methods)
        .filter(([, { responses }]) =>
          Object.entries(responses).some(
            ([status, { content = {} }]) =>
              status.startsWith('2') &&
              Object.entries(content).some(
                ([type, { schema }]) => isJson(type) && schema !== undefined,
              ),
          ),
        )
        .map(([method]) => `${method.toUpperCase()} ${path}`),
    );
  }
}

describe('replies and their schemas', () => {
  let collector: Collector;
  let gateway: RunningGateway;
  let collectorAt: Asker;
  let enrolling: Pick<Site, 'folder' | 'enroll'>;
  let gatewayAt: Asker;

  beforeAll(async () => {
    const folder = temporaryFolder();
    const rules = join(folder, 'rules.yaml');
    writeFileSync(rules, RULES);
    const listen = '127.0.0.1:0';
    collector = new Collector(
      realEnv(),
      loadConfig(COLLECTOR_CONFIG, {
        flags: { data: join(folder, 'c'), uplink: listen, http: listen, rules },
        environment: {
          [environmentName('lake.flushSeconds')]: '1',
          [environmentName('ingest.httpGateway')]: 'here',
          [environmentName('enroll.listen')]: listen,
          [environmentName('uplinks.listen')]: listen,
        },
      }),
      () => undefined,
    );
    const { http, uplink, enroll } = await collector.start(undefined);
    enrolling = { folder: join(folder, 'c'), enroll };
    gateway = await runGateway(
      join(folder, 'g'),
      {},
      { collector: `mqtt://127.0.0.1:${uplink?.port}` },
    );
    collectorAt = await Asker.of(`http://127.0.0.1:${http?.port}`);
    gatewayAt = await Asker.of(gateway.http);
    const send = async (base: string, topic: string, body: string): Promise<void> => {
      const { status } = await fetch(`${base}/api/v1/ingest?topic=${topic}`, {
        method: 'POST',
        body,
      });
      expect(status).toBe(204);
    };
    for (const base of [`http://127.0.0.1:${http?.port}`, gateway.http]) {
      await send(base, 'hall/1', '{"n":1.5,"on":true,"said":"x"}');
      await send(base, 'hall/odd', '{"n":1,');
    }
  });
  afterAll(async () => {
    await gateway.gateway.close();
    await collector.close();
  });

  // First: settings from afar open it again, on another port.
  it('of a gateway', async () => {
    const { asked, wrong, described } = gatewayAt;
    for (const path of ['/api/v1/buffer', '/api/v1/query', '/openapi.json', '/health'])
      await gatewayAt.ask('GET', path);
    expect(wrong).toEqual([]);
    expect(described.filter((each) => !asked.has(each))).toEqual([]);
  });

  it('of a collector', async () => {
    const { asked, wrong, described } = collectorAt;
    const get = <T>(address: string): Promise<T> => collectorAt.ask<T>('GET', address);
    const post = <T>(address: string, body: unknown): Promise<T> =>
      collectorAt.ask<T>('POST', address, body);
    type Zones = { zones: { zone: string; rows: number }[] };
    await until('the lake has readings and results', async () => {
      const { zones } = await get<Zones>('/api/v1/lake');
      return zones.filter(({ rows }) => rows > 0).length === 3 || undefined;
    });
    type Listed = { series: { measurement: string; tags: Record<string, string>; time: number }[] };
    const { series } = await get<Listed>('/api/v1/latest');
    expect(series.length).toBeGreaterThan(3);
    for (const { measurement, time } of series)
      await get(`/api/v1/explain?measurement=${measurement}&time=${time}`);
    for (const path of [
      'series',
      'query',
      'query?fn=count',
      'query?limit=1',
      'query?asOf=now-0s',
      'ledger',
    ])
      await get(`/api/v1/${path}`);
    for (const path of [
      'quarantine',
      'messages?each=topic',
      'gateways',
      'overview',
      'status',
      'stages',
      'batch',
      'config',
      'rules',
    ])
      await get(`/api/v1/${path}`);
    for (const path of ['/openapi.json', '/health', '/query?q=SHOW+MEASUREMENTS']) await get(path);
    await collectorAt.ask('POST', '/query?q=SELECT+n+FROM+%22hall%22');
    const today = new Date().toISOString().slice(0, 10);
    const { id } = await post<{ id: string }>('/api/v1/batch/run', {
      job: 'daily_summary',
      from: today,
    });
    await until(
      'the batch',
      async () => (await get<{ finished: boolean }>(`/api/v1/batch/run?id=${id}`)).finished,
    );
    await post('/api/v1/replay', { which: 'all' });
    await until('the replay', async () => {
      const { jobs } = await get<{ jobs: { finished: boolean }[] }>('/api/v1/replay');
      return jobs.every(({ finished }) => finished);
    });
    for (const path of ['/api/v1/audit', '/api/v1/lake/check', '/api/v1/rebuild']) {
      await post(path, {});
      await until(path, async () => !(await get<{ running: boolean }>(path)).running);
    }
    await get('/api/v1/ledger');
    await post('/api/v1/config', {
      target: 'all',
      settings: { 'uplink.keepAliveSeconds': 30 },
      first: 1,
    });
    await post('/api/v1/config/go', { target: 'all' });
    await get('/api/v1/config');
    await post('/api/v1/mappings/try', {
      mapping: 'mappings:\n  - topic: hall/odd\n    measurement: odd\n',
      topic: 'hall/odd',
    });
    await post('/api/v1/enroll/tokens', { gateways: 'a,b' });
    await get('/api/v1/enroll/tokens');
    const given = { gateways: 'waits', approval: 'true' };
    const { tokens } = await post<{ tokens: { token: string }[] }>('/api/v1/enroll/tokens', given);
    const { secret } = parseJoinToken(tokens[0]?.token ?? '', 'test');
    const body = await csr('waits');
    const { status } = await est(enrolling, 'simpleenroll', { token: secret, body });
    expect(status).toBe(202);
    await get('/api/v1/enroll/tokens');
    await post('/api/v1/enroll/approve', { gateway: 'nobody' });
    await post('/api/v1/enroll/approve', { gateway: 'waits' });
    await post('/api/v1/enroll/revoke', { gateway: 'a' });
    await get('/api/v1/gateways');
    await post('/api/v1/lake/forget', { before: '2001-01-01' });
    // What is refused, too.
    for (const path of ['/api/v1/query?fn=x', '/api/v1/explain', '/query?q=SELEC']) await get(path);
    await post('/write', 'nonsense');
    await post('/api/v2/write', 'nonsense');
    expect(wrong).toEqual([]);
    expect(described.filter((each) => !asked.has(each))).toEqual([]);
  });
});

/** A store that keeps an hour is given a backlog of days, with live readings between: these are not held up, and what is refused goes at once. */
import { startInflux1, startInflux2, startKafka, type Influx } from '../services/servers.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { fetchOnce, getJson, reconcile } from '../support/reconcile.ts';
import { named } from './named.ts';
import { Site, type Result } from './site.ts';

const OLD = 100_000;
const LINES = 5000;
const DAY_MS = 86_400_000;

/** Its path after the host. */
async function withHour(influx: Influx): Promise<string> {
  const url = `http://${influx.address}`;
  if (influx.token === '') {
    const q = 'CREATE DATABASE hour WITH DURATION 1h NAME hour';
    const body = new URLSearchParams({ q }).toString();
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    await (await fetchOnce(`${url}/query`, { method: 'POST', headers, body })).text();
    return '/hour';
  }
  const headers = { authorization: `Token ${influx.token}` };
  const orgs = (await (await fetchOnce(`${url}/api/v2/orgs`, { headers })).json()) as {
    orgs: { id: string }[];
  };
  const retentionRules = [{ type: 'expire', everySeconds: 3600 }];
  const body = JSON.stringify({ orgID: orgs.orgs[0]?.id, name: 'hour', retentionRules });
  await (await fetchOnce(`${url}/api/v2/buckets`, { method: 'POST', headers, body })).text();
  return '/org/hour';
}

async function kept(launch: () => Promise<Influx>, name: string): Promise<Result> {
  const [kafka, influx] = await Promise.all([startKafka(), launch()]);
  const store = `influxdb://${influx.address}${await withHour(influx)}`;
  const more = ['--log', `kafka://${kafka.address}`, '--store', store];
  const environment = { HEADWATER_INFLUXDB_TOKEN: influx.token };
  const site = new Site([], temporaryFolder(), {}, { more, environment });
  const late: number[] = [];
  try {
    await site.start();
    const http = (): string => site.collector?.address['http'] ?? '';
    const backlog = async (from: number): Promise<void> => {
      const lines = Array.from(
        { length: LINES },
        (_, at) =>
          `old,d=${at % 10} v=${at} ${BigInt(Date.now() - 3 * DAY_MS + from + at) * 1_000_000n}`,
      );
      const url = `http://${site.gateway?.address['http']}/api/v2/write?bucket=b&precision=ns`;
      const response = await fetchOnce(url, { method: 'POST', body: lines.join('\n') });
      if (response.status !== 204) throw new Error(await response.text());
    };
    for (let from = 0; from < OLD; from += LINES) {
      await backlog(from);
      if (from % (LINES * 4) !== 0) continue;
      await site.load(20);
      const began = performance.now();
      const { acknowledged, sent, measurement } = site;
      await until(
        'the live ones',
        async () =>
          (await reconcile(http(), measurement, 'n', acknowledged, sent)).missing === 0 ||
          undefined,
        120_000,
      );
      late.push(performance.now() - began);
    }
    await named(`retention, ${name}`, site, {
      log: /store_refused: InfluxDB keeps nothing so old/,
      status: /messages? (?:is|are) in quarantine/,
      metric: /^headwater_store_refused_total\{[^}]*keeps nothing so old[^}]*\} \d+/m,
    });
    const refused = await until(
      'all that is too old to be refused',
      async () => {
        const text = await (await fetchOnce(`http://${http()}/metrics`)).text();
        const count = Number(/^headwater_store_refused_total\{.*\} (\d+)/m.exec(text)?.[1] ?? 0);
        return count >= OLD ? count : undefined;
      },
      180_000,
    );
    const { items } = await getJson<{ items: unknown[] }>(
      `http://${http()}/api/v1/quarantine?limit=1000`,
    );
    const output = site.collector?.output() ?? '';
    // That a loaded machine is slow is said as well, and ends nothing.
    const anew = (output.match(/store_anew|fenced/gi) ?? []).length;
    const told = (output.match(/store_refused: /g) ?? []).length;
    const result = await site.reconcile(true);
    const worst = Math.max(...late);
    const differing = result.differing + (anew > 0 || told > 1 || refused !== OLD ? 1 : 0);
    const note = `${name}: ${refused} refused in ${items.length} records of quarantine and ${told} lines, the group joined anew ${anew} times, live readings at most ${(worst / 1000).toFixed(1)} s late`;
    return { ...result, differing, note: `${result.note ?? ''} ${note}` };
  } finally {
    await site.stop();
    await influx.stop();
    await kafka.stop();
  }
}

export const retention2 = (): Promise<Result> => kept(startInflux2, 'InfluxDB 2');
export const retention1 = (): Promise<Result> => kept(startInflux1, 'InfluxDB 1.8');

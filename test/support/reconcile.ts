/** Compares what clients saw acknowledged with what a store holds, counted outside the system. */
import { until, type Headwater } from './process.ts';

interface Series {
  series: {
    measurement: string;
    field: string;
    tags: Record<string, string>;
    points: [number, number][];
  }[];
}

/** The API's answer to a query. */
export interface Points {
  series: {
    measurement: string;
    field: string;
    tags: Record<string, string>;
    points: [number, unknown][];
    unit?: string;
  }[];
}

/**
 * `fetch` on a connection of its own: one that is kept alive a server closes after seconds, which a test that was busy
 * comparing has not seen yet when it asks again.
 */
export const fetchOnce = (
  url: string,
  init: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<Response> => fetch(url, { ...init, headers: { ...init.headers, connection: 'close' } });

export async function getJson<T>(url: string): Promise<T> {
  const response = await fetchOnce(url);
  const answer = (await response.json()) as T & { error?: { message: string } };
  if (!response.ok) throw new Error(`${url}: ${answer.error?.message ?? response.status}`);
  return answer;
}

interface BufferState {
  waitingMessages?: number;
  pendingBytes: number;
}

const isForwarded = ({ waitingMessages, pendingBytes }: BufferState): boolean =>
  waitingMessages === 0 && pendingBytes === 0;

/** Waits until the gateway is connected and the collector has all that it took. */
export async function forwarded(gateway: string): Promise<void> {
  await until('the gateway to have forwarded all', async () => {
    const metrics = await (await fetch(`http://${gateway}/metrics`)).text();
    const buffer = await getJson<BufferState>(`http://${gateway}/api/v1/buffer`);
    return (/^headwater_uplink_connected 1$/m.test(metrics) && isForwarded(buffer)) || undefined;
  });
}

export interface StageLag {
  group: string;
  lagRecords: number | null;
}

/** Waits until nothing waits on the gateway and no stage lags, twice in a row. */
export async function settled(gateway: string, collector: string, ms = 90_000): Promise<void> {
  let quiet = 0;
  await until(
    'the pipeline to settle',
    async () => {
      const buffer = await getJson<BufferState>(`http://${gateway}/api/v1/buffer`);
      const { stages } = await getJson<{ stages: StageLag[] }>(`http://${collector}/api/v1/status`);
      const busy =
        !isForwarded(buffer) ||
        // The lake takes its time: what waits for it has passed everything else.
        stages.some(
          ({ group, lagRecords }) => lagRecords !== 0 && !group.startsWith('headwater-lake-'),
        );
      quiet = busy ? 0 : quiet + 1;
      return quiet >= 3 ? true : undefined;
    },
    ms,
  );
}

export interface Reconciliation {
  missing: number;
  /** Copies beyond the PUBLISH packets that were sent. */
  extra: number;
  /** Points whose value nobody sent. */
  foreign: number;
  stored: number;
}

/** Values of `field`, each expected once if acknowledged, and at most once if sent. */
export async function reconcile(
  collector: string,
  measurement: string,
  field: string,
  acknowledged: Set<number>,
  sent: Set<number>,
): Promise<Reconciliation> {
  const { series } = await getJson<Series>(
    `http://${collector}/api/v1/query?${new URLSearchParams({ measurement, field }).toString()}`,
  );
  const counts = new Map<number, number>();
  for (const { points } of series)
    for (const [, value] of points) counts.set(value, (counts.get(value) ?? 0) + 1);
  let missing = 0;
  for (const value of acknowledged) if (!counts.has(value)) missing++;
  let extra = 0;
  let foreign = 0;
  let stored = 0;
  for (const [value, count] of counts) {
    stored += count;
    extra += count - 1;
    if (!sent.has(value)) foreign++;
  }
  return { missing, extra, foreign, stored };
}

/** How many values of `field` there are: asking costs little. */
async function countOf(collector: string, measurement: string, field: string): Promise<number> {
  const query = new URLSearchParams({ measurement, field, fn: 'count' }).toString();
  const { series } = await getJson<Series>(`http://${collector}/api/v1/query?${query}`);
  return series.reduce((sum, { points }) => sum + (points[0]?.[1] ?? 0), 0);
}

/** Waits until nothing acknowledged is missing, or gives the last count. */
export async function reconciled(
  collector: Headwater,
  measurement: string,
  field: string,
  acknowledged: Set<number>,
  sent: Set<number>,
  ms = 60_000,
): Promise<Reconciliation> {
  const deadline = performance.now() + ms;
  const http = collector.address['http'] ?? '';
  for (;;) {
    const stored = await countOf(http, measurement, field);
    if (stored < acknowledged.size && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 300));
      continue;
    }
    const result = await reconcile(http, measurement, field, acknowledged, sent);
    if (result.missing === 0 || performance.now() > deadline) return result;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

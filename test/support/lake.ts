/** What several tests of the lake, streams and batches need. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { headwater, temporaryFolder, until, type Headwater } from './process.ts';
import { fetchOnce, getJson, type Points, type StageLag } from './reconcile.ts';

/** A file of a collector's settings; of `up`, which has those of both sides, the collector's part. */
export function collectorSettings(
  settings: Record<string, string | number | boolean>,
  isUp = false,
): string {
  const file = join(temporaryFolder(), 'settings.yaml');
  const indent = isUp ? '  ' : '';
  const lines = Object.entries(settings).map(
    ([key, value]) => `${indent}${key}: ${JSON.stringify(value)}`,
  );
  writeFileSync(file, `${isUp ? 'collector:\n' : ''}${lines.join('\n')}\n`);
  return file;
}

/** Both sides in one process on free ports. */
export const startUp = (
  folder: string,
  settings: Record<string, string | number | boolean>,
  more: string[] = [],
  environment: Record<string, string> = {},
): Promise<Headwater> =>
  headwater(
    [
      'up',
      '--data',
      folder,
      '--config',
      collectorSettings(settings, true),
      ...['--mqtt', '--http', '--gateway-http', '--uplink'].flatMap((flag) => [
        flag,
        '127.0.0.1:0',
      ]),
      '--id',
      'gw',
      // The week of March 2019 as it was, and no more of it.
      ...['--sample-time', 'true'],
      ...more,
    ],
    environment,
  );

/** One message by HTTP, to the collector. */
export async function ingest(server: Headwater, topic: string, payload: object): Promise<void> {
  const url = `http://${server.address['http']}/api/v1/ingest?topic=${encodeURIComponent(topic)}`;
  const response = await fetchOnce(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(payload),
  });
  if (response.status !== 204) throw new Error(`${response.status}: ${await response.text()}`);
}

/** What a stage says of its lag may be as old as this; and what one has made, the next one has to see. */
const QUIET_MS = 3000;
const LOOKS_MIN = 6;

/** Waits until no stage of any of these collectors has anything left to read, and no window waits, for a while. */
export async function processed(collectors: readonly string[], ms = 120_000): Promise<void> {
  let busyAt = performance.now();
  let quiet = 0;
  await until(
    'everything to be processed',
    async () => {
      let busy = false;
      for (const http of collectors) {
        if (busy) break;
        const { stages } = await getJson<{ stages: StageLag[] }>(`http://${http}/api/v1/status`);
        busy ||= stages.some(({ lagRecords }) => lagRecords !== 0);
        const metrics = await (await fetch(`http://${http}/metrics`)).text();
        busy ||= Number(/^headwater_stream_waiting_corrections (\d+)/m.exec(metrics)?.[1] ?? 0) > 0;
      }
      quiet = busy ? 0 : quiet + 1;
      const now = performance.now();
      if (busy) busyAt = now;
      return (quiet >= LOOKS_MIN && now - busyAt >= QUIET_MS) || undefined;
    },
    ms,
    250,
  );
}

/** Every point of a measurement, in an order of its own, as text. */
export async function pointsOf(
  http: string,
  measurement: string,
  without: readonly string[] = [],
): Promise<string[]> {
  const query = new URLSearchParams({ measurement }).toString();
  const { series } = await getJson<Points>(`http://${http}/api/v1/query?${query}`);
  return series
    .filter(({ field }) => !without.includes(field))
    .flatMap(({ field, tags, points }) =>
      points.map(
        ([time, value]) =>
          `${field} ${JSON.stringify(Object.entries(tags).sort())} ${time} ${JSON.stringify(value)}`,
      ),
    )
    .sort();
}

/**
 * What differs between two lists of points when those of SQL may differ by 1e-9 of themselves: its engines add in the
 * order of their threads. Rounding both would not do: two neighbours may lie on either side of the cut.
 */
export function apart(
  found: readonly string[],
  expected: readonly string[],
  isOfSql: (point: string) => boolean,
): ReturnType<typeof difference> {
  const cut = (text: string): [string, string] => {
    const at = text.lastIndexOf(' ');
    return [text.slice(0, at), text.slice(at + 1)];
  };
  const values = new Map(expected.map(cut));
  const near = found.map((text) => {
    const [point, value] = cut(text);
    const other = values.get(point);
    const gap = Math.abs(Number(value) - Number(other));
    return other !== undefined && isOfSql(point) && gap <= 1e-9 * Math.abs(Number(other))
      ? `${point} ${other}`
      : text;
  });
  return difference(near, expected);
}

/** What one list has and the other has not, the first few of each: lists of points are too long to be shown whole. */
export function difference(
  found: readonly string[],
  expected: readonly string[],
): { missing: string[]; extra: string[]; counts: [number, number] } | undefined {
  const [a, b] = [new Set(found), new Set(expected)];
  const missing = expected.filter((each) => !a.has(each));
  const extra = found.filter((each) => !b.has(each));
  if (missing.length + extra.length === 0 && found.length === expected.length) return undefined;
  return {
    missing: missing.slice(0, 5),
    extra: extra.slice(0, 5),
    counts: [found.length, expected.length],
  };
}

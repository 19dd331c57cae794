/**
 * Raw frames as `heal.ts` looks at them.
 *
 * Those without a sequence (status reports of gateways, and what is no whole frame): the lake's manifests know only how many a
 * file had. Those that the log has of its day and gateway, and no file that is whole, are said again.
 */
import { createHash } from 'node:crypto';
import { KIND_STATUS, checkFrame } from '../shared/frame/frame.ts';
import { readingsOf } from '../shared/model/readings-record.ts';
import { folderOfKey, isNothing } from './heal-rows.ts';
import { stateOf } from './lake/gather.ts';
import { asideOf } from './lake/keep.ts';
import { forgottenUntilMs } from './lake/forgotten.ts';
import type { Lake } from './lake/lake.ts';
import { dateOfKey, gatewayOf, dateOf, folderOf, type Zone } from './lake/layout.ts';
import {
  SpanSet,
  beyond,
  counts,
  isLost,
  touches,
  type FileEntry,
  type Spans,
} from './lake/manifest.ts';
import { TOPIC_RAW, TOPIC_RESULTS, type Log, type LogRecord } from './log/log.ts';
import { HEADER_HEALED } from './log/topics.ts';
import type { Rebuild } from './rebuild.ts';

const POLL_MS = 300;
const APPEND_BYTES = 1024 * 1024;

const hash = (frame: Buffer): string => createHash('sha256').update(frame).digest('base64');

export const isUnnumbered = ({ rows, spans }: FileEntry): boolean =>
  rows > 0 && Object.keys(spans).length === 0;

/** Rows without a sequence; of a file of a version before this one that has others as well nobody knows. */
const bareOf = (entry: FileEntry): number => (isUnnumbered(entry) ? entry.rows : (entry.bare ?? 0));

/** What is told of a raw file that had no message. */
export const reportsText = ({ key, rows }: FileEntry): string =>
  `the lake: not all of the ${rows} reports of ${key} (what the gateway held at a time) are anywhere any more; newer ones say what it holds now, and no message was among them`;

/** What is told of a raw file all of whose sequences are there again, and not all of its rows. */
export const bareText = (entry: FileEntry): string =>
  `the lake: of the ${entry.rows} rows of ${entry.key} all messages are there again, but not all of the ${bareOf(entry)} beside them (reports of what the gateway holds, and bytes that are no whole frame): neither log nor lake has them`;

export class Unnumbered {
  /** Folder → what whole files of it have, and what was said again since. */
  private readonly known = new Map<string, Set<string>>();
  private readonly said = new Map<string, number>();

  /** Throws LAKE_UNAVAILABLE. */
  static async of(lake: Lake, lost: readonly Lost[]): Promise<Unnumbered> {
    const own = new Unnumbered();
    for (const {
      entry: { key },
    } of lost) {
      const folder = folderOfKey(key);
      if (own.known.has(folder)) continue;
      const known = new Set<string>();
      const files = await lake.whole(await lake.folder(folder));
      for (const path of files.keys())
        for (const { frame } of await lake.parquet.frames(path)) known.add(hash(frame));
      own.known.set(folder, known);
    }
    return own;
  }

  /** Whether this record of the log, which has no sequence, is to be said again. */
  takes({ key, value, headers }: LogRecord): boolean {
    if (this.known.size === 0) return false;
    const folder = folderOf('raw', dateOf(Number(headers['arrived'] ?? 0)), key);
    const known = this.known.get(folder);
    const sum = hash(value);
    if (known === undefined || known.has(sum)) return false;
    known.add(sum);
    this.said.set(folder, (this.said.get(folder) ?? 0) + 1);
    return true;
  }

  /** Whether as many were said again as this file had. */
  has(entry: FileEntry): boolean {
    const folder = folderOfKey(entry.key);
    const said = this.said.get(folder) ?? 0;
    const bare = bareOf(entry);
    if (said < bare) return false;
    this.said.set(folder, said - bare);
    return true;
  }

  lacks(entry: FileEntry): boolean {
    return (this.said.get(folderOfKey(entry.key)) ?? 0) < bareOf(entry);
  }
}

/** As `parquet-facts.ts` has it. */
export function frameOf(frame: Buffer): { gateway: string; spans: Spans } | undefined {
  try {
    const { gateway, epoch, kind, firstSequence, count } = checkFrame(frame);
    if (kind >= KIND_STATUS) return undefined;
    const last = firstSequence + Math.max(1, count) - 1;
    return { gateway, spans: { [epoch]: [[firstSequence, last]] } };
  } catch {
    return undefined; // Not a whole frame: it is in quarantine.
  }
}

/** A status report that is as it was sent. */
function isReport(frame: Buffer, gateway: string): boolean {
  try {
    const header = checkFrame(frame);
    return header.kind === KIND_STATUS && header.gateway === gateway;
  } catch {
    return false;
  }
}

const spansText = (spans: Spans): string =>
  Object.entries(spans)
    .map(([epoch, ranges]) => `epoch ${epoch}: ${ranges.map((each) => each.join('-')).join(', ')}`)
    .join('; ');

/** What is told of a file that nothing has all of any more. */
export function goneText(zone: 'raw' | 'readings', { key, rows, spans }: FileEntry, rest: Spans) {
  const none = zone === 'raw' ? 'neither log nor lake has' : 'no raw frame has';
  const what = isNothing(spans) ? 'what it had, which nobody knows' : spansText(rest);
  return `the lake: not all of the ${rows} rows of ${key} can be made again: ${none} ${what}`;
}

export const goneResultsText = ({ key, rows }: FileEntry, now: number): string =>
  `the lake: of the ${rows} results of ${key} ${now} are there again; the log has no more of them, and what streams and batches made of those days can be made again by 'headwater rebuild' and 'headwater batch'`;

/**
 * Something of the results is gone, and nobody knows what: all that the log has is there again. Where that is not all that it ever
 * had, what nobody remembers is told: no other source says which results there were.
 */
export async function tellUnknownResults({ check }: Lake, log: Log): Promise<void> {
  if (check.less.zones.get('results')?.isSure !== true) return;
  let isWhole = log.hasLost?.('lake') !== true;
  for (let partition = 0; partition < log.partitions && isWhole; partition++) {
    const state = await stateOf(log, 'results', partition);
    const isAsGiven = state.beside === undefined && state.holed === undefined;
    isWhole = (await log.first?.(TOPIC_RESULTS, partition)) === 0 && isAsGiven;
  }
  if (isWhole) return;
  const text =
    "the lake: of the results of days whose manifests and files are gone those that the log has are there again; the log has no more of them, and what streams and batches made of those days can be made again by 'headwater rebuild' and 'headwater batch'";
  check.notify({ level: 'error', event: 'lake_lost', text });
}

export interface Lost {
  zone: Zone;
  entry: FileEntry;
}

export function spansBy(lost: readonly Lost[]): SpanSet {
  const wanted = new SpanSet();
  for (const { entry } of lost) wanted.add(gatewayOf(entry.key), entry.spans);
  return wanted;
}

/** What the files of a zone have that are not lost. */
export async function zoneSpans(lake: Lake, zone: Zone, isIn = counts): Promise<SpanSet> {
  const catalog = lake.catalog(zone);
  const all = new SpanSet();
  for (const date of await catalog.dates())
    for (const entry of (await catalog.day(date)).entries.values())
      if (isIn(entry)) all.add(gatewayOf(entry.key), entry.spans);
  return all;
}

/** What has arrived and no file of the lake has or had. What was forgotten on purpose is not among it. */
export async function neverKept(
  lake: Lake,
  received: SpanSet | undefined,
): Promise<[string, Spans][]> {
  if (received === undefined) return [];
  const known = await zoneSpans(lake, 'raw', (entry) => !isLost(entry));
  return received.gateways
    .map((gateway): [string, Spans] => [gateway, beyond(received.of(gateway), known.of(gateway))])
    .filter(([, rest]) => !isNothing(rest));
}

export const neverKeptText = (gateway: string, rest: Spans): string =>
  `the log was damaged before the lake had all of it: what was decoded of gateway ${gateway} stays, its raw frames are asked for from the gateway: ${spansText(rest)}`;

/** What the lake has and an older copy of the log has not. */
export async function sayAhead({ check }: Lake, rebuild: Rebuild): Promise<void> {
  const { ahead, notify } = check;
  if (ahead.gateways.length === 0) return;
  const before = rebuild.status.restoredFrames;
  await rebuild.restore(ahead);
  const frames = rebuild.status.restoredFrames - before;
  ahead.clear();
  const text = `the log has ${frames} frames again that only the lake had`;
  notify({ level: 'info', event: 'log_restored', text });
}

/** Who reads a topic of the log once, and where it ends. */
export interface LogReading {
  log: Log;
  newId: () => string;
  isStopped: () => boolean;
}

export async function scanLog(
  { log, newId, isStopped }: LogReading,
  topic: string,
  take: (record: LogRecord) => Promise<void>,
): Promise<void> {
  const group = `headwater-heal-${newId()}`;
  const consumer = await log.consumer({ group, topic, from: 'start', bytesMax: 4 * 1024 * 1024 });
  try {
    while (!isStopped() && consumer.ended().size < log.partitions)
      for (const record of await consumer.poll(POLL_MS)) await take(record);
  } finally {
    await consumer.close();
  }
}

/** Appends again what the log has now and is asked for. */
export async function sayAgain(
  reading: LogReading,
  topic: string,
  isAsked: (record: LogRecord) => boolean,
  headers: Record<string, string> = {},
): Promise<void> {
  let batch: LogRecord[] = [];
  let bytes = 0;
  const flush = async (): Promise<void> => {
    if (batch.length > 0) await reading.log.append(topic, batch);
    batch = [];
    bytes = 0;
  };
  await scanLog(reading, topic, async (record) => {
    if (!isAsked(record)) return;
    const { key, value } = record;
    batch.push({ key, value, headers: { ...record.headers, ...headers } });
    bytes += value.length;
    if (bytes >= APPEND_BYTES) await flush();
  });
  await flush();
}

/**
 * Which results of the log are said again: of these folders of the lake, or all but those that were made, and are of a time,
 * before what was forgotten on purpose.
 */
export const isAskedOf =
  (folders: ReadonlySet<string>, isAll: boolean, forgottenMs: number) =>
  ({ value, headers }: LogRecord): boolean => {
    const batch = readingsOf(value);
    if (batch === undefined || Number(headers[HEADER_HEALED] ?? 0) > 0) return false;
    const all = [...batch.readings, ...(batch.removed ?? [])];
    const isAsked = all.some(({ timeMs }) =>
      folders.has(folderOf('results', dateOf(timeMs), batch.gateway)),
    );
    const isForgotten =
      batch.arrivedMs < forgottenMs && all.every(({ timeMs }) => timeMs < forgottenMs);
    return isAsked || (isAll && !isForgotten);
  };

/** Of a frame that arrived before this time. */
export const isBefore = ({ headers }: LogRecord, ms: number): boolean =>
  Number(headers['arrived'] ?? Infinity) < ms;

/** Whole frames of a file that was set aside are said again. */
export async function salvage(
  lake: Lake,
  log: Log,
  entry: FileEntry,
  rest: Spans,
  unnumbered: Unnumbered,
): Promise<void> {
  if (entry.gone !== 'damaged') return;
  const path = await asideOf(lake, entry);
  if (path === undefined) return;
  const rows = await lake.parquet.frames(path).catch(() => []); // Nothing of it can be read.
  const records: LogRecord[] = [];
  for (const { frame, headers } of rows) {
    const gateway = gatewayOf(entry.key);
    if (dateOf(Number(headers['arrived'] ?? 0)) !== dateOfKey(entry.key)) continue;
    const record: LogRecord = { key: gateway, value: frame, headers };
    const found = frameOf(frame);
    const isAsked =
      found === undefined
        ? isReport(frame, gateway) && unnumbered.takes(record)
        : found.gateway === gateway && touches(rest, found.spans);
    if (isAsked) records.push(record);
  }
  if (records.length > 0) await log.append(TOPIC_RAW, records);
}

/** What the lake's raw zone and the log have, but for what was deleted on purpose. */
export async function rawThere(lake: Lake, reading: LogReading): Promise<SpanSet> {
  const all = await zoneSpans(lake, 'raw');
  const forgottenMs = await forgottenUntilMs(lake.store);
  await scanLog(reading, TOPIC_RAW, (record) => {
    const found = isBefore(record, forgottenMs) ? undefined : frameOf(record.value);
    if (found !== undefined) all.add(found.gateway, found.spans);
    return Promise.resolve();
  });
  return all;
}

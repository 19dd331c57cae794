/** Everything that is known of a point: back to the bytes as received, and forward to what was made of it. */
import { isUtf8 } from 'node:buffer';
import type { FieldValue } from '../../shared/model/reading.ts';
import { BATCH, FLEET, STREAM } from '../stream/results.ts';
import { backwardOf, forwardOf, type Backward, type Forward, type LinkSources } from './links.ts';
import { findMessage, type Message } from './message.ts';
import type { Clock, Origin, Origins } from './origin.ts';
import { findRows, inPast, type Asked, type Row } from './rows.ts';
import type { ScanLimits } from './tail.ts';

/** Of the log, where the lake has not what is asked for. */
const LIMITS: ScanLimits = { bytesMax: 1024 ** 3, timeoutMs: 20_000 };

/** Where it was at a time. `time` is null where nobody kept it. */
export interface StageTime {
  stage: 'gateway' | 'collector' | 'decode' | 'store' | 'lake';
  time: number | null;
  /** Since the stage before it that has a time, milliseconds. */
  delayMs: number | null;
  note: string;
}

export interface Explained {
  identity: Row['identity'];
  /** `fleet`: what the collector says of gateways and fields. */
  kind: 'reading' | 'stream' | 'batch' | 'fleet';
  /** `moved`: it is elsewhere now; `removed`: it is nowhere any more. */
  state: 'present' | 'moved' | 'removed';
  measurement: string;
  tags: Record<string, string>;
  fields: Record<string, FieldValue>;
  time: number;
  ns: number;
  /** Until when it was so, epoch milliseconds; null while it is. */
  until: number | null;
  /** Of what was: where it is now. */
  now: { measurement: string; tags: Record<string, string>; time: number } | null;
  /** What it was before, oldest first. */
  before: { measurement: string; tags: Record<string, string>; time: number; until: number }[];
  late: boolean | null;
  /** Of a result: when its newest revision was said, epoch milliseconds. */
  revision: number | null;
  row: { lake: string | null; log: { topic: string; partition: number; offset: number } | null };
  message: {
    client: string;
    topic: string;
    qos: number;
    retain: boolean;
    bytes: number;
    /** Null: this token may not read raw frames. */
    payload: string | null;
    encoding: 'utf8' | 'base64' | null;
  } | null;
  frame: {
    boot: string;
    kind: number;
    firstSequence: number;
    count: number;
    bytes: number;
    crc32c: string;
    lake: string | null;
    log: { topic: string; partition: number; offset: number } | null;
  } | null;
  clock: (Omit<Clock, 'anchor'> & { anchor: Clock['anchor'] | null }) | null;
  mapping: (Omit<NonNullable<Origin['mapping']>, 'name'> & { name: string | null }) | null;
  lane: 'live' | 'backfill' | null;
  stages: StageTime[];
  forward: Forward | null;
  backward: Backward | null;
  /** What cannot be told, in sentences. */
  unknown: string[];
}

export interface ExplainSources extends LinkSources {
  origins: Origins;
}

export interface Viewer {
  /** Whether points of a gateway may be seen. */
  maySee: (gateway: string) => boolean;
  /** Whether bytes as received may be. */
  hasRaw: boolean;
}

const placeOf = ({ measurement, tags, timeMs }: Row) => ({ measurement, tags, time: timeMs });

function stagesOf(row: Row, message: Message | undefined, origin: Origin | undefined): StageTime[] {
  const arrivedMs = row.arrivedMs ?? (Number(message?.headers['arrived'] ?? Number.NaN) || null);
  const receivedMs = origin?.receivedMs ?? null;
  const isDoubted = message?.headers['unsettled'] !== undefined;
  const none = { time: null, delayMs: null };
  const { saidMs, where } = row;
  return [
    {
      stage: 'gateway',
      time: receivedMs,
      delayMs: null,
      note: receivedMs === null ? 'the frame was not found' : 'received, by its clock put right',
    },
    {
      stage: 'collector',
      time: arrivedMs,
      delayMs: arrivedMs === null || receivedMs === null ? null : arrivedMs - receivedMs,
      note: isDoubted ? 'the collector doubted its own clock then' : 'on stable storage in the log',
    },
    {
      stage: 'decode',
      time: saidMs ?? null,
      delayMs: saidMs === undefined || arrivedMs === null ? null : saidMs - arrivedMs,
      note:
        saidMs === undefined
          ? 'not kept of readings that are decoded as they come'
          : 'found out later than it arrived',
    },
    { stage: 'store', ...none, note: 'not kept' },
    {
      stage: 'lake',
      ...none,
      note: where.lake === undefined ? 'not yet there' : 'the time is not kept, the file is named',
    },
  ];
}

function messageText(message: Message | undefined, hasRaw: boolean): Explained['message'] {
  const record = message?.record;
  if (record === undefined) return null;
  const { client, topic, qos, retain, payload } = record;
  const encoding = isUtf8(payload) ? 'utf8' : 'base64';
  return {
    ...{ client, topic, qos, retain },
    bytes: payload.length,
    payload: hasRaw ? payload.toString(encoding) : null,
    encoding: hasRaw ? encoding : null,
  };
}

function frameText(message: Message | undefined): Explained['frame'] {
  if (message === undefined) return null;
  const { frame, header, where } = message;
  return {
    boot: header.bootId,
    kind: header.kind,
    firstSequence: header.firstSequence,
    count: header.count,
    bytes: frame.length,
    crc32c: frame.readUInt32LE(8).toString(16).padStart(8, '0'),
    lake: where.lake ?? null,
    log: where.log ?? null,
  };
}

const laneOf = (message: Message | undefined): Explained['lane'] => {
  const lane = message?.headers['lane'];
  return lane === undefined ? null : lane === '1' ? 'backfill' : 'live';
};

const KINDS: Record<string, Explained['kind']> = {
  [STREAM]: 'stream',
  [BATCH]: 'batch',
  [FLEET]: 'fleet',
};
const kindOf = (gateway: string): Explained['kind'] => KINDS[gateway] ?? 'reading';

/** What a version was before and is now, of its identity. */
async function historyOf(
  sources: ExplainSources,
  row: Row,
  unknown: string[],
): Promise<Pick<Explained, 'state' | 'until' | 'now' | 'before'>> {
  const { lake } = sources;
  const { untilMs } = row;
  const past = lake === undefined ? [] : await inPast(lake, { identity: row.identity });
  const before = past
    .filter((each) => !each.isRemoved && each.untilMs !== undefined)
    .filter((each) => untilMs === undefined || (each.untilMs ?? 0) < untilMs)
    .map((each) => ({ ...placeOf(each), until: each.untilMs ?? 0 }));
  if (row.isRemoved) return { state: 'removed', until: row.revision ?? null, now: null, before };
  if (untilMs === undefined) return { state: 'present', until: null, now: null, before };
  const [now] = await findRows(sources, { identity: row.identity }, LIMITS, unknown);
  const isThere = now !== undefined && now.untilMs === undefined;
  return {
    state: isThere ? 'moved' : 'removed',
    until: untilMs,
    now: isThere ? placeOf(now) : null,
    before,
  };
}

async function explainRow(
  sources: ExplainSources,
  row: Row,
  { maySee, hasRaw }: Viewer,
  doubts: readonly string[],
): Promise<Explained> {
  const unknown = [...doubts];
  const { identity } = row;
  const kind = kindOf(identity.gateway);
  const message =
    kind === 'reading' ? await findMessage(sources, identity, LIMITS, unknown) : undefined;
  const origin = message && (await sources.origins.of(row, message));
  if (kind === 'reading' && message === undefined)
    unknown.push('its frame is neither in the lake nor in the log');
  if (message !== undefined && message.record === undefined)
    unknown.push('the gateway thinned its messages out: what is left of them is a summary');
  if (origin?.mapping?.gives === false)
    unknown.push(
      'none of the mappings that were kept gives this point: which made it is not known',
    );
  if (sources.rules === undefined) unknown.push('streams do not run in this process');
  if (sources.batches === undefined) unknown.push('batches do not run in this process');
  const history = await historyOf(sources, row, unknown);
  const { clock, mapping } = origin ?? {};
  const { measurement, tags, fields, timeMs, ns, late, revision, where } = row;
  return {
    ...{ identity, kind },
    ...history,
    ...{ measurement, tags, fields, time: timeMs, ns },
    late: late ?? null,
    revision: revision ?? null,
    row: { lake: where.lake ?? null, log: where.log ?? null },
    message: messageText(message, hasRaw),
    frame: frameText(message),
    clock: clock === undefined ? null : { ...clock, anchor: clock.anchor ?? null },
    mapping: mapping === undefined ? null : { ...mapping, name: mapping.name ?? null },
    lane: laneOf(message),
    stages: kind === 'reading' ? stagesOf(row, message, origin) : [],
    forward: kind === 'reading' ? await forwardOf(sources, row, LIMITS) : null,
    backward: (await backwardOf(sources, row, maySee)) ?? null,
    unknown,
  };
}

/** Of a result, what its tags say. */
const ownerOf = ({ identity: { gateway }, tags }: Row): string =>
  kindOf(gateway) === 'reading' ? gateway : (tags['gateway'] ?? '');

/** Several where several readings have the same series and millisecond; none where there is none, or none that may be seen. */
export async function explain(
  sources: ExplainSources,
  asked: Asked,
  viewer: Viewer,
): Promise<{ points: Explained[]; unknown: string[] }> {
  const unknown: string[] = [];
  const rows = await findRows(sources, asked, LIMITS, unknown);
  const points: Explained[] = [];
  for (const row of rows)
    if (viewer.maySee(ownerOf(row))) points.push(await explainRow(sources, row, viewer, unknown));
  return { points, unknown: points.length === 0 ? unknown : [] };
}

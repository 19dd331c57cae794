/**
 * Thinning, when the buffer is full and the link away: the fastest series give way first. Of twenty messages of a
 * series in a row minimum, maximum, mean and count are left, in a summary that names what it stands for; slower
 * series keep every message. What cannot be decoded to numbers cannot be thinned and goes whole, oldest first.
 * Messages of an unknown time have summaries of their own, with the clock of their boot: a collector puts them right as it does frames.
 */
import { isUtf8 } from 'node:buffer';
import { Undecodable, type Decoded } from '../../shared/codecs/codec.ts';
import { decodeJson } from '../../shared/codecs/json.ts';
import { decodeLineProtocol, looksLikeLineProtocol } from '../../shared/codecs/line-protocol.ts';
import { decodeScalar } from '../../shared/codecs/scalar.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import {
  CLOCK_UNKNOWN,
  KIND_RECORDS,
  readHeader,
  readRecords,
  type FrameHeader,
  type FrameRecord,
} from '../../shared/frame/frame.ts';
import type { Summary, SummaryClock, SummarySeries } from '../../shared/frame/notes.ts';
import { RangeSet, type Range } from '../../shared/model/ranges.ts';
import type { StoredFrame } from './stored-frame.ts';

/** Messages that one entry of a summary stands for. */
const MESSAGES_PER_ENTRY = 20;
/** Series with fewer messages among the frames at hand are not thinned: little would be gained. */
const MESSAGES_MIN = 5;

export interface Thinned {
  /** Frames in the place of others, under the same key. */
  rewritten: StoredFrame[];
  /** Frames of which nothing is left. */
  emptied: StoredFrame[];
  summaries: Summary[];
}

interface Sample {
  header: FrameHeader;
  record: FrameRecord;
  decoded: Decoded[];
}

interface Series {
  samples: Sample[];
  bytes: number;
}

/** What a message says, or undefined when it holds nothing that has a mean. */
function numbersOf({ payload, receivedUs }: FrameRecord): Decoded[] | undefined {
  if (!isUtf8(payload)) return undefined;
  const text = payload.toString('utf8');
  const receivedMs = receivedUs / 1000;
  try {
    const first = text.trimStart()[0];
    const decoded =
      first === '{' || first === '[' || first === '"'
        ? [decodeJson(text, receivedMs)]
        : looksLikeLineProtocol(text)
          ? decodeLineProtocol(text, receivedMs)
          : [decodeScalar(text, 'value')];
    // What has a value that cannot be taken stays whole: of its summary nobody could tell.
    const hasNumbers = decoded.every(
      ({ fields }) =>
        fields.omitted === undefined &&
        fields.reasons === undefined &&
        [...fields.values()].some((value) => typeof value === 'number'),
    );
    return hasNumbers && decoded.length > 0 ? decoded : undefined;
  } catch (error) {
    if (error instanceof Undecodable) return undefined;
    throw error;
  }
}

/** What must be the same in messages that share an entry. */
function constantsOf({
  measurement,
  tags,
  fields,
}: Decoded): Pick<SummarySeries, 'measurement' | 'tags' | 'constants'> {
  // Names are the device's: by way of a map, in which `__proto__` is one like any other.
  const constants = new Map<string, string | boolean>();
  for (const [name, value] of fields) if (typeof value !== 'number') constants.set(name, value);
  return {
    ...(measurement === undefined ? {} : { measurement }),
    ...(tags === undefined ? {} : { tags }),
    constants: Object.fromEntries(constants),
  };
}

/** Series whose every message has numbers, by client and topic. */
function decodableSeries(frames: StoredFrame[]): Series[] {
  const all = new Map<string, Series | null>();
  for (const { frame } of frames) {
    const header = readHeader(frame);
    if (header.kind !== KIND_RECORDS) continue;
    for (const record of readRecords(frame, header)) {
      const key = `${record.client}\0${record.topic}`;
      const series = all.get(key);
      if (series === null) continue;
      const decoded = numbersOf(record);
      if (decoded === undefined) {
        all.set(key, null);
        continue;
      }
      const sample = { header, record, decoded };
      if (series === undefined)
        all.set(key, { samples: [sample], bytes: record.payload.length + 4 });
      else {
        series.samples.push(sample);
        series.bytes += record.payload.length + 4;
      }
    }
  }
  return [...all.values()].filter((series) => series !== null);
}

/** Of one series, while its messages are summed up. */
type Summed = Omit<SummarySeries, 'numbers'> & {
  numbers: Map<string, SummarySeries['numbers'][string]>;
};

/** Entries for messages of one series in a row. */
function summarise(samples: Sample[]): SummarySeries[] {
  const groups = new Map<string, Summed>();
  for (const { record, decoded } of samples) {
    for (const each of decoded) {
      const constants = constantsOf(each);
      const key = JSON.stringify(constants);
      let group = groups.get(key);
      if (group === undefined) {
        group = {
          client: record.client,
          topic: record.topic,
          ...constants,
          numbers: new Map(),
          fromUs: record.receivedUs,
          toUs: record.receivedUs,
        };
        groups.set(key, group);
      }
      group.toUs = record.receivedUs;
      for (const [name, value] of each.fields) {
        if (typeof value !== 'number') continue;
        const [count, min, max, mean] = group.numbers.get(name) ?? [0, value, value, 0];
        group.numbers.set(name, [
          count + 1,
          Math.min(min, value),
          Math.max(max, value),
          mean + (value - mean) / (count + 1),
        ]);
      }
    }
  }
  return [...groups.values()].map((group) => ({
    ...group,
    numbers: Object.fromEntries(group.numbers),
  }));
}

function rewrite(
  stored: StoredFrame,
  thinned: RangeSet,
  compress: boolean,
): StoredFrame | undefined {
  const header = readHeader(stored.frame);
  const kept = new Map(
    readRecords(stored.frame, header)
      .filter(({ sequence }) => !thinned.has(sequence))
      .map((record) => [record.sequence, record]),
  );
  if (kept.size === 0) return undefined;
  const builder = new FrameBuilder(stored.frame.length + 1024);
  for (let sequence = header.firstSequence; builder.count < header.count; sequence++) {
    const record = kept.get(sequence);
    const { wallUs, monotonicUs } = header;
    if (record === undefined) {
      builder.skip(wallUs, monotonicUs);
      continue;
    }
    const { properties, receivedUs, ...message } = record;
    builder.add(
      properties === undefined ? message : { ...message, properties },
      // The first record's time is the header's; later ones count from there.
      builder.count === 0 ? wallUs : receivedUs,
      monotonicUs,
    );
  }
  const identity = {
    gateway: header.gateway,
    epoch: Buffer.from(header.epoch, 'hex'),
    bootId: Buffer.from(header.bootId, 'hex'),
  };
  const frame = builder.finish(identity, header.firstSequence, header.clockQuality, compress);
  return { ...stored, frame };
}

/** What one summary stands for. */
interface Group {
  epoch: string;
  clock: SummaryClock | undefined;
  ranges: RangeSet;
  series: SummarySeries[];
}

/** Of one epoch, and of one time that is known or not. */
function byClock(samples: readonly Sample[]): Map<string, [Sample, ...Sample[]]> {
  const all = new Map<string, [Sample, ...Sample[]]>();
  for (const sample of samples) {
    const { epoch, clockQuality } = sample.header;
    const name = `${epoch} ${clockQuality === CLOCK_UNKNOWN}`;
    const list = all.get(name);
    if (list === undefined) all.set(name, [sample]);
    else list.push(sample);
  }
  return all;
}

function clockOf({ bootId, wallUs, monotonicUs, clockQuality }: FrameHeader) {
  return clockQuality === CLOCK_UNKNOWN ? { boot: bootId, wallUs, monotonicUs } : undefined;
}

/** With the time of its receipt by this clock, however often that of its boot was set meanwhile. */
function onClock(sample: Sample, clock: SummaryClock | undefined): Sample {
  if (clock === undefined) return sample;
  const { header, record } = sample;
  const sinceUs = header.monotonicUs - clock.monotonicUs + record.receivedUs - header.wallUs;
  return { ...sample, record: { ...record, receivedUs: clock.wallUs + sinceUs } };
}

/** Thins the fastest series until about half of the frames' payload is gone. Undefined when none can be. */
export function thin(frames: StoredFrame[], compress: boolean): Thinned | undefined {
  const series = decodableSeries(frames)
    .filter(({ samples }) => samples.length >= MESSAGES_MIN)
    .sort((a, b) => b.samples.length - a.samples.length);
  const total = frames.reduce((sum, { frame }) => sum + readHeader(frame).bodyBytes, 0);
  const chosen: Series[] = [];
  for (let bytes = 0; bytes < total / 2; ) {
    const next = series[chosen.length];
    if (next === undefined) break;
    chosen.push(next);
    bytes += next.bytes;
  }
  if (chosen.length === 0) return undefined;
  const thinned = new Map<string, RangeSet>();
  const groups = new Map<string, Group>();
  for (const { samples } of chosen) {
    for (const [name, list] of byClock(samples)) {
      const [{ header }] = list;
      const { epoch } = header;
      let group = groups.get(name);
      if (group === undefined) {
        group = { epoch, clock: clockOf(header), ranges: new RangeSet(), series: [] };
        groups.set(name, group);
      }
      let set = thinned.get(epoch);
      if (set === undefined) thinned.set(epoch, (set = new RangeSet()));
      for (const { record } of list)
        for (const each of [set, group.ranges]) each.add(record.sequence, record.sequence);
      const timed = list.map((sample) => onClock(sample, group.clock));
      for (let at = 0; at < timed.length; at += MESSAGES_PER_ENTRY)
        group.series.push(...summarise(timed.slice(at, at + MESSAGES_PER_ENTRY)));
    }
  }
  const result: Thinned = { rewritten: [], emptied: [], summaries: [] };
  for (const stored of frames) {
    const { kind, epoch, firstSequence, count } = readHeader(stored.frame);
    const set = thinned.get(epoch);
    if (kind !== KIND_RECORDS || set?.touches(firstSequence, firstSequence + count - 1) !== true)
      continue;
    const rest = rewrite(stored, set, compress);
    if (rest === undefined) result.emptied.push(stored);
    else result.rewritten.push(rest);
  }
  for (const { epoch, clock, ranges, series: list } of groups.values())
    result.summaries.push({
      epoch,
      ...(clock !== undefined && { clock }),
      replaces: [...ranges.ranges] as Range[],
      series: list,
    });
  return result;
}

/** The lake's rows, made of the log's records. */
import { checkFrame } from '../../shared/frame/frame.ts';
import type { Reading, ReadingBatch } from '../../shared/model/reading.ts';
import type { StoredRecord } from '../log/log.ts';
import { dateOf } from './layout.ts';

export interface Origin {
  log: string;
  partition: number;
  offset: number;
}

export interface RawRow extends Origin {
  gateway: string;
  epoch: string;
  kind: number;
  firstSequence: number;
  count: number;
  arrivedMs: number;
  frame: Buffer;
  headers: Record<string, string>;
  date: string;
}

/** What the readings of one record share. */
export interface RecordFacts extends Origin {
  gateway: string;
  epoch: string;
  arrivedMs: number;
  /** A result's. */
  revision: number;
}

export interface ReadingRow {
  record: RecordFacts;
  gateway: string;
  date: string;
  reading: Reading;
  /** Measurement and tags as text. */
  series: string;
  removed: boolean;
}

/** What the bytes say of themselves; damaged ones are kept as well. */
export function rawRow(record: StoredRecord, log: string): RawRow {
  const { partition, offset, value: frame, headers, key } = record;
  const arrivedMs = Number(headers['arrived'] ?? 0);
  const base = { log, partition, offset, frame, headers, arrivedMs, date: dateOf(arrivedMs) };
  try {
    const { gateway, epoch, kind, firstSequence, count } = checkFrame(frame);
    return { ...base, gateway, epoch, kind, firstSequence, count };
  } catch {
    return { ...base, gateway: key, epoch: '', kind: -1, firstSequence: 0, count: 0 };
  }
}

const ESCAPED = /[,= \\]/g;

/** Measurement and tags as the key of a series in line protocol. */
export function seriesText(measurement: string, tags: Record<string, string>): string {
  let text = measurement.replaceAll(ESCAPED, '\\$&');
  for (const name of Object.keys(tags).sort())
    text += `,${name.replaceAll(ESCAPED, '\\$&')}=${(tags[name] ?? '').replaceAll(ESCAPED, '\\$&')}`;
  return text;
}

/** Series texts by the tags object, which the readings of a record share. */
export class SeriesTexts {
  private readonly byTags = new WeakMap<Record<string, string>, Map<string, string>>();

  of(measurement: string, tags: Record<string, string>): string {
    let byMeasurement = this.byTags.get(tags);
    if (byMeasurement === undefined) this.byTags.set(tags, (byMeasurement = new Map()));
    let text = byMeasurement.get(measurement);
    if (text === undefined) byMeasurement.set(measurement, (text = seriesText(measurement, tags)));
    return text;
  }
}

export function readingRows(
  { gateway, epoch, arrivedMs, readings, removed = [], revision = 0 }: ReadingBatch,
  origin: Origin,
  withRemoved: boolean,
): ReadingRow[] {
  const texts = new SeriesTexts();
  const record: RecordFacts = { ...origin, gateway, epoch, arrivedMs, revision };
  const dates = new Dates();
  const row = (reading: Reading, isRemoved: boolean): ReadingRow => ({
    record,
    gateway,
    date: dates.of(reading.timeMs),
    reading,
    series: texts.of(reading.measurement, reading.tags),
    removed: isRemoved,
  });
  const rows = withRemoved ? removed.map((reading) => row(reading, true)) : [];
  for (const reading of readings) rows.push(row(reading, false));
  return rows;
}

const DAY_MS = 86_400_000;

/** Dates of times that are mostly of one day. */
class Dates {
  private day = Number.NaN;
  private text = '';

  of(timeMs: number): string {
    const day = Math.floor(timeMs / DAY_MS);
    if (day !== this.day) {
      this.day = day;
      this.text = dateOf(timeMs);
    }
    return this.text;
  }
}

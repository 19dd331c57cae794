/**
 * What every later stage, store and the lake can take of a reading: checked where it is let in, so that no record stops
 * them: series keys of 64 KiB and times of 64-bit nanoseconds (InfluxDB), keys of 64 KiB (embedded log), records of a
 * megabyte (Kafka), text that is UTF-8 without NUL.
 * `docs/readings.md` lists them, and a test walks each of them through decode, embedded store and lake.
 * Source: InfluxDB 2 reference, line protocol; influxdata/influxdb, models/points.go (MaxKeyLength).
 */
import type { FieldValue } from './reading.ts';

/** Of a measurement, a tag's name or a field, bytes of UTF-8. */
export const NAME_BYTES_MAX = 1024;
/** Of a tag's value. */
export const TAG_BYTES_MAX = 16_384;
/** Of measurement and tags together, as JSON. */
export const SERIES_BYTES_MAX = 32_768;
/** Of a text value. */
export const TEXT_BYTES_MAX = 1024 * 1024;
/** Epoch milliseconds: what 64-bit nanoseconds hold, 1677-09-21 to 2262-04-11. */
export const TIME_MS = { least: -9_223_372_036_853, most: 9_223_372_036_853 };

/** Names of fields, unless it is configured otherwise. */
export const FIELD_LIMITS = { perTopic: 2000, perGateway: 20_000, inAll: 100_000 };

export interface Limit {
  what: string;
  most: string;
  beyond: string;
}

const bytes = (count: number): string => `${count.toLocaleString('en-US')} bytes`;

/** For the docs. */
export const LIMITS: readonly Limit[] = [
  {
    what: 'measurement, name of a tag, name of a field',
    most: bytes(NAME_BYTES_MAX),
    beyond: 'that field, or that point, goes to quarantine',
  },
  { what: 'value of a tag', most: bytes(TAG_BYTES_MAX), beyond: 'that point' },
  {
    what: 'measurement and tags together',
    most: bytes(SERIES_BYTES_MAX),
    beyond: 'that point',
  },
  { what: 'text value', most: bytes(TEXT_BYTES_MAX), beyond: 'that field' },
  {
    what: 'names, tags and texts',
    most: 'no NUL, no half of a surrogate pair',
    beyond: 'that field, or that point',
  },
  {
    what: 'time',
    most: `${new Date(TIME_MS.least).toISOString()} to ${new Date(TIME_MS.most).toISOString()}`,
    beyond: 'that point',
  },
];

/** UTF-8 has at most three bytes for a character of a string's length. */
const isLonger = (text: string, bytesMax: number): boolean =>
  text.length > bytesMax || (text.length * 3 > bytesMax && Buffer.byteLength(text) > bytesMax);

/** Halves of surrogate pairs, which UTF-8 has not. */
const HALF = /\p{Surrogate}/u;
const isUnclean = (text: string): boolean => text.includes('\0') || HALF.test(text);
const short = (text: string): string => {
  const head = text
    .slice(0, 40)
    .replaceAll('\0', '?')
    .replaceAll(/\p{Surrogate}/gu, '?');
  return text.length > 40 ? `${head}…` : head;
};

function wrongText(what: string, text: string, bytesMax: number): string | undefined {
  if (isLonger(text, bytesMax))
    return `${what} has more than ${bytesMax} bytes, which no store takes`;
  return isUnclean(text)
    ? `${what} has a NUL or half of a surrogate pair in it, which no store takes`
    : undefined;
}

/** Why a series cannot be stored. */
export function wrongSeries(measurement: string, tags: Record<string, string>): string | undefined {
  const wrong = wrongText(`the measurement '${short(measurement)}'`, measurement, NAME_BYTES_MAX);
  if (wrong !== undefined) return wrong;
  for (const [name, value] of Object.entries(tags)) {
    const why =
      wrongText(`the name of the tag '${short(name)}'`, name, NAME_BYTES_MAX) ??
      wrongText(`the tag '${short(name)}'`, value, TAG_BYTES_MAX);
    if (why !== undefined) return why;
  }
  return Buffer.byteLength(JSON.stringify([measurement, tags])) > SERIES_BYTES_MAX
    ? `measurement and tags together have more than ${SERIES_BYTES_MAX} bytes, which no store takes`
    : undefined;
}

/** Why a field of this name cannot be stored. */
export const wrongField = (name: string): string | undefined =>
  name === ''
    ? 'a field has no name, which InfluxDB cannot store; a mapping gives it one (rename: { "": NAME })'
    : wrongText(`the name of the field '${short(name)}'`, name, NAME_BYTES_MAX);

/** Why a value cannot be stored. */
export const wrongValue = (name: string, value: FieldValue): string | undefined =>
  typeof value === 'string'
    ? wrongText(`the text '${short(name)}'`, value, TEXT_BYTES_MAX)
    : undefined;

export const isStorableTime = (ms: number): boolean => ms >= TIME_MS.least && ms <= TIME_MS.most;

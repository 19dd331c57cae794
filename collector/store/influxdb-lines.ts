/**
 * InfluxDB's line protocol, and the statements of InfluxQL: how names, values and times are written.
 */
import type { FieldValue, Reading } from '../../shared/model/reading.ts';
import type { StoreQuery } from './store.ts';

const escapeKey = (text: string): string => text.replaceAll(/[,= ]/g, '\\$&');
const escapeMeasurement = (text: string): string => text.replaceAll(/[, ]/g, '\\$&');

/** Names that InfluxDB uses itself: as keys of tags or fields it drops or refuses them. */
const RESERVED: ReadonlySet<string> = new Set(['time', '_field', '_measurement']);

/** Line protocol has no way to write these literally; a wrong series would be worse than a refusal. */
function unwritable(text: string): boolean {
  return /[\n\r]/.test(text) || text.endsWith('\\') || text === '';
}

const unwritableKey = (text: string): boolean => unwritable(text) || RESERVED.has(text);

function valueText(value: FieldValue): string {
  if (typeof value === 'number') return String(value);
  if (typeof value === 'boolean') return value ? 'true' : 'false';
  return `"${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

/** Measurement and tags as they begin a line; remembered per tags object, which readings of one topic share. */
export class Prefixes {
  private readonly byTags = new WeakMap<Record<string, string>, Map<string, string>>();

  /** Undefined when line protocol cannot say it. */
  of(measurement: string, tags: Record<string, string>): string | undefined {
    let byName = this.byTags.get(tags);
    if (byName === undefined) this.byTags.set(tags, (byName = new Map()));
    const known = byName.get(measurement);
    if (known !== undefined) return known;
    if (unwritable(measurement)) return undefined;
    const parts = [escapeMeasurement(measurement)];
    for (const [key, value] of tagTerms(tags).sort(([a], [b]) => (a < b ? -1 : 1))) {
      if (unwritableKey(key) || unwritable(value)) return undefined;
      parts.push(`${escapeKey(key)}=${escapeKey(value)}`);
    }
    const prefix = parts.join(',');
    byName.set(measurement, prefix);
    return prefix;
  }
}

export function lineOf({ fields, timeMs, ns }: Reading, prefix: string): string | undefined {
  let text = '';
  for (const name in fields) {
    if (unwritableKey(name)) return undefined;
    text += `${text === '' ? ' ' : ','}${escapeKey(name)}=${valueText(fields[name] as FieldValue)}`;
  }
  return `${prefix}${text} ${timeMs}${digits(ns)}`;
}

/** Nanoseconds below the millisecond, as they follow it in a timestamp. */
export const digits = (ns: number): string => String(ns).padStart(6, '0');

/** An empty tag is no tag to InfluxDB. */
export const tagTerms = (tags: Record<string, string>): [string, string][] =>
  Object.entries(tags).filter(([, value]) => value !== '');

export const ident = (text: string): string =>
  `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`;
export const literal = (text: string): string =>
  `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'").replaceAll('\n', '\\n')}'`;

export function whereOf({ tags, fromMs, toMs }: StoreQuery): string {
  const conditions = Object.entries(tags ?? {}).map(
    ([key, value]) => `${ident(key)} = ${literal(value)}`,
  );
  if (fromMs !== undefined) conditions.push(`time >= ${Math.ceil(fromMs)}ms`);
  if (toMs !== undefined) conditions.push(`time < ${Math.ceil(toMs)}ms`);
  return conditions.length === 0 ? '' : ` WHERE ${conditions.join(' AND ')}`;
}

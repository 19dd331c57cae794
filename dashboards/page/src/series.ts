/** Series as the page knows them: each its newest value, and how all that is written for people. */
import { plain } from '../../../shared/model/plain.ts';

export { plain };

export type Value = number | string | boolean | null;

export interface Series {
  key: string;
  measurement: string;
  field: string;
  tags: Record<string, string>;
  unit: string;
  name: string;
  /** Epoch milliseconds of the newest reading. */
  time: number;
  value: Value;
  /** In which order it first appeared since the page was opened; 0: it was there. */
  appeared: number;
  /** When the last reading came in here, by this browser's clock; 0: none since the page was opened. */
  heardMs: number;
  /** What is searched, in small letters. */
  text: string;
}

export interface Point {
  measurement: string;
  field: string;
  tags: Record<string, string>;
  time: number;
  value: Value;
  unit?: string;
  name?: string;
}

export const keyOf = (measurement: string, tags: Record<string, string>, field: string): string =>
  JSON.stringify([
    measurement,
    field,
    ...Object.entries(tags).sort(([a], [b]) => (a < b ? -1 : 1)),
  ]);

/** What tells it from others: its tags but the gateway, which says only the way it came. A number alone says nothing. */
export function sensorOf({ tags, name }: Pick<Series, 'tags' | 'name'>): string {
  if (name !== '') return plain(name);
  const named = Object.entries(tags).filter(([key]) => key !== 'gateway');
  // An alert is known by its rule.
  named.sort(([a], [b]) => Number(b === 'rule') - Number(a === 'rule'));
  const text = named
    .map(([key, value]) => (named.length === 1 && /\p{L}/u.test(value) ? value : `${key}=${value}`))
    .join(' ');
  return plain(text === '' ? (tags['gateway'] ?? '') : text);
}

/** Texts and booleans are stored beside numbers of the same name: people know it without the ending. */
export const fieldOf = ({ field, value }: Pick<Series, 'field' | 'value'>): string =>
  plain(typeof value === 'number' ? field : field.replace(/_(?:text|bool)$/, ''));

/** Of a name longer than any line its beginning and its end, which tell it from its neighbours. */
export const shortText = (text: string, max = 120): string =>
  text.length <= max ? text : `${text.slice(0, max - 40)} … ${text.slice(-37)}`;

export const isState = (value: Value): value is string | boolean =>
  typeof value === 'string' || typeof value === 'boolean';

export function valueText(value: Value, unit = ''): string {
  if (value === null) return '–';
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  if (typeof value === 'string') {
    const text = plain(value);
    return text.length > 200 ? `${text.slice(0, 200)} …` : text;
  }
  const size = Math.abs(value);
  const text =
    size !== 0 && (size < 0.001 || size >= 1e15)
      ? value.toExponential(4).replace(/\.?0*e/, 'e')
      : value.toLocaleString('en', { maximumFractionDigits: size < 10 ? 4 : 2 });
  return unit === '' ? text : `${text} ${plain(unit).slice(0, 24)}`;
}

const STEPS: [string, number][] = [
  ['y', 31_557_600_000],
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1000],
];

export function spanText(ms: number): string {
  for (const [unit, size] of STEPS) if (ms >= size) return `${Math.floor(ms / size)} ${unit}`;
  return 'less than 1 s';
}

export function agoText(time: number, nowMs: number): string {
  const ms = nowMs - time;
  if (ms < -5000) return `in ${spanText(-ms)}`;
  return ms < 2000 ? 'now' : `${spanText(ms)} ago`;
}

export const momentText = (time: number): string =>
  Number.isFinite(time)
    ? new Date(time).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' })
    : '–';

/** Fresh for ten minutes, stale after a day. */
export function ageOf(time: number, nowMs: number): 'fresh' | 'old' | 'stale' {
  const ms = nowMs - time;
  return ms < 600_000 ? 'fresh' : ms < 86_400_000 ? 'old' : 'stale';
}

export const countText = (count: number): string => count.toLocaleString('en');

export function bytesText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let size = bytes;
  let unit = 0;
  for (; size >= 1024 && unit < units.length - 1; unit++) size /= 1024;
  return `${size.toFixed(unit === 0 || size >= 100 ? 0 : 1)} ${units[unit]}`;
}

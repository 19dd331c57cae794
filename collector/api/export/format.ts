/** The formats of an export, of rows in columns. */
import { csvCell } from '../../../shared/model/csv.ts';
import { arrow } from './arrow.ts';
import type { Column, Encode } from './rows.ts';

export const FORMATS = {
  jsonl: 'application/x-ndjson',
  csv: 'text/csv; charset=utf-8',
  parquet: 'application/vnd.apache.parquet',
  arrow: 'application/vnd.apache.arrow.stream',
} as const;
export type Format = keyof typeof FORMATS;

/** Its writer is loaded with the first export that asks for it. */
const parquet: Encode = async function* (columns, batches) {
  yield* (await import('./parquet.ts')).parquet(columns, batches);
};

export const ENCODERS: Readonly<Record<Exclude<Format, 'jsonl' | 'csv'>, Encode>> = {
  parquet,
  arrow,
};

/** What a cell of a row is as text: times in RFC 3339, bytes in base64. */
export function cellText(value: unknown, { type }: Column, isSpreadsheet: boolean): string {
  if (value === null || value === undefined) return '';
  if (type === 'time') return new Date(value as number).toISOString();
  if (type === 'bytes') return Buffer.from(value as Uint8Array).toString('base64');
  const scalar = value as string | number | boolean;
  return csvCell(String(scalar), isSpreadsheet && type === 'text');
}

/** Of routes that answer in CSV. */
export const SPREADSHEET = {
  about:
    'Of CSV: `true` puts an apostrophe before texts that a spreadsheet would take for a formula.',
  choices: ['true', 'false'],
};

/**
 * CSV as a tree, by csv-parse: a list of rows by the names in the first line, or a list of lists where that line has a
 * number. The separator is the one that the first line has most of. The only file that imports it.
 */
import { parse } from 'csv-parse/sync';
import { POINTS_MAX, Undecodable } from '../../../shared/codecs/codec.ts';
import { isTimeKey } from '../../../shared/codecs/time-keys.ts';
import { isObject, type Tree } from '../../../shared/codecs/tree.ts';
import { messageOf } from '../../../shared/errors.ts';
import { objectOf, valueOf } from './tables.ts';

const SEPARATORS = [',', ';', '\t', '|'];
const HEAD_CHARS = 4096;
const FORGIVING = { relax_column_count: true, skip_empty_lines: true, trim: true };

function separatorOf(text: string): string {
  const line = text.slice(0, HEAD_CHARS).trimStart().split('\n')[0] ?? '';
  const counts = SEPARATORS.map((each): [string, number] => [each, line.split(each).length]);
  return counts.reduce((best, each) => (each[1] > best[1] ? each : best))[0];
}

/** Records with the line that each ends in. Throws what csv-parse throws, with `lines`. */
export function csvRecords(
  text: string,
  delimiter: string,
): { record: string[]; info: { lines: number } }[] {
  return parse(text, {
    ...FORGIVING,
    bom: true,
    delimiter,
    info: true,
  }) as unknown as ReturnType<typeof csvRecords>;
}

function rowsOf(text: string): string[][] {
  try {
    return parse(text, {
      ...FORGIVING,
      delimiter: separatorOf(text),
      to: POINTS_MAX + 2,
    });
  } catch (error) {
    throw new Undecodable(`not CSV: ${messageOf(error)}`, { cause: error });
  }
}

/** Throws Undecodable. */
export function csvTree(text: string): Tree {
  const rows = rowsOf(text);
  if (rows.length > POINTS_MAX + 1)
    throw new Undecodable(`CSV: more than ${POINTS_MAX} rows in one message`);
  const [head = [], ...rest] = rows;
  const isNamed = rest.length > 0 && head.every((cell) => typeof valueOf(cell) === 'string');
  if (!isNamed) return rows.map((row) => row.map(valueOf));
  return rest.map((row) =>
    objectOf(row.map((cell, index) => [head[index] ?? String(index), valueOf(cell)])),
  );
}

/** As a logger names its columns. */
const COLUMN = /^["']?[\p{L}_][\p{L}\p{N}_ .()[\]%°/µ²³#-]*["']?$/u;

/**
 * A table, without anybody having said so: a first line of different names, and below it lines of as many cells with a
 * number in each. A single line below is one object; of several each has to have its time.
 */
export function guessedCsv(text: string): Tree | undefined {
  const end = text.indexOf('\n');
  if (end < 0 || end > HEAD_CHARS) return undefined;
  const head = text.slice(0, end).trim();
  const separator = separatorOf(head);
  const names = head.split(separator).map((each) => each.trim());
  if (names.length < 2 || new Set(names).size !== names.length) return undefined;
  if (!names.every((each) => COLUMN.test(each))) return undefined;
  // Most texts of several lines are known by their second line to be none.
  const [second = ''] = text.slice(end + 1, end + HEAD_CHARS).split('\n', 1);
  if (!/\d/.test(second) || second.split(separator).length !== names.length) return undefined;
  try {
    const rows = csvTree(text);
    if (!Array.isArray(rows)) return undefined;
    const areRows = rows.every(
      (row) =>
        isObject(row) &&
        Object.keys(row).length === names.length &&
        Object.values(row).some((cell) => typeof cell === 'number'),
    );
    if (!areRows) return undefined;
    if (rows.length === 1) return rows[0];
    // Rows without times would be one reading with a number in each name.
    return names.some(isTimeKey) ? rows : undefined;
  } catch (error) {
    if (error instanceof Undecodable) return undefined;
    throw error;
  }
}

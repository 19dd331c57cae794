/**
 * CSV as a tree, by csv-parse: a list of rows by the names in the first line, or a list of lists where that line has a
 * number. The separator is the one that the first line has most of. The only file that imports it.
 */
import { parse } from 'csv-parse/sync';
import { POINTS_MAX, Undecodable } from '../../../shared/codecs/codec.ts';
import type { Tree } from '../../../shared/codecs/tree.ts';
import { messageOf } from '../../../shared/errors.ts';
import { objectOf, valueOf } from './tables.ts';

const SEPARATORS = [',', ';', '\t', '|'];
const HEAD_CHARS = 4096;

function separatorOf(text: string): string {
  const line = text.slice(0, HEAD_CHARS).trimStart().split('\n')[0] ?? '';
  const counts = SEPARATORS.map((each): [string, number] => [each, line.split(each).length]);
  return counts.reduce((best, each) => (each[1] > best[1] ? each : best))[0];
}

function rowsOf(text: string): string[][] {
  try {
    return parse(text, {
      delimiter: separatorOf(text),
      relax_column_count: true,
      skip_empty_lines: true,
      trim: true,
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

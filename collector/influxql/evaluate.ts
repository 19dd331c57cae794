/** A column's value of a row: what its streams have there, calculated. */
import type { FieldValue } from '../../shared/model/reading.ts';
import { functionOf } from './functions.ts';
import type { Part } from './job.ts';
import type { Value } from './plan.ts';

export type Cell = FieldValue | null;
export type Row = Part['rows'][number];

function calculated(op: string, a: Cell, b: Cell): Cell {
  if (typeof a !== 'number' || typeof b !== 'number') return null;
  switch (op) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '/':
      return b === 0 ? 0 : a / b;
    case '%':
      return b === 0 ? 0 : a % b;
    default:
      return null;
  }
}

/** A column of a row, of what its streams have there. */
export function evaluate(
  value: Value,
  cells: readonly Cell[],
  tags: Readonly<Record<string, FieldValue>>,
): Cell {
  switch (value.type) {
    case 'constant':
      return value.value;
    case 'tag':
      return tags[value.name] ?? null;
    case 'stream':
      return cells[value.index] ?? null;
    case 'binary':
      return calculated(
        value.op,
        evaluate(value.left, cells, tags),
        evaluate(value.right, cells, tags),
      );
    default: {
      const args = value.args.map((arg) => evaluate(arg, cells, tags));
      if (!args.every((arg) => typeof arg === 'number')) return null;
      const made = functionOf(value.name).math?.(...args);
      return made === undefined || !Number.isFinite(made) ? null : made;
    }
  }
}

/** Points of one group that stand in memory. */
export const GROUP_POINTS_MAX = 2_000_000;

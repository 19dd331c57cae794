/** A bare value: a number, or a text such as `on`. The field is `value`, or what the topic's mapping calls it. */
import type { FieldValue } from '../model/reading.ts';
import { setField, type Decoded } from './codec.ts';

const NUMBER = /^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$/;

/** Whole numbers that a double may bend stay whole. */
export function scalarTree(text: string): number | bigint | boolean | string {
  const trimmed = text.trim();
  if (NUMBER.test(trimmed)) {
    const number = Number(trimmed);
    if (!Number.isSafeInteger(number) && /^[-+]?\d+$/.test(trimmed))
      return BigInt(trimmed.replace('+', ''));
    if (Number.isFinite(number)) return number;
  }
  if (trimmed === 'true' || trimmed === 'false') return trimmed === 'true';
  return text;
}

export function decodeScalar(text: string, field = 'value'): Decoded {
  const fields = new Map<string, FieldValue>();
  setField(fields, field, scalarTree(text));
  return { fields };
}

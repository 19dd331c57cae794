/** A bare value: a number, or a text such as `on`. The field is `value`, or what the topic's mapping calls it. */
import type { FieldValue } from '../model/reading.ts';
import { checkExact, setField, type Decoded } from './codec.ts';

const NUMBER = /^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$/;

export function decodeScalar(text: string, field = 'value'): Decoded {
  const fields = new Map<string, FieldValue>();
  const trimmed = text.trim();
  const number = NUMBER.test(trimmed) ? Number(trimmed) : Number.NaN;
  if (Number.isFinite(number)) {
    checkExact(number, trimmed);
    setField(fields, field, number);
  } else if (trimmed === 'true' || trimmed === 'false') {
    setField(fields, field, trimmed === 'true');
  } else {
    setField(fields, field, text);
  }
  return { fields };
}

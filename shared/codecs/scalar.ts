/** A bare value: a number, or a text such as `on`. The field is `value`, or what the topic's mapping calls it. */
import { Fields, type Decoded } from './codec.ts';

/** As JSON writes numbers, with any sign: what begins with zeros (a card's number) is a text. */
const NUMBER = /^[-+]?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?$/;

/** Whole numbers that a double may bend stay whole; `null` is none. The line end behind a text is wrapping, not content. */
export function scalarTree(text: string): null | number | bigint | boolean | string {
  const trimmed = text.trim();
  if (NUMBER.test(trimmed)) {
    const number = Number(trimmed);
    if (!Number.isSafeInteger(number) && /^[-+]?\d+$/.test(trimmed))
      return BigInt(trimmed.replace('+', ''));
    if (Number.isFinite(number)) return number;
  }
  if (trimmed === 'true' || trimmed === 'false') return trimmed === 'true';
  return trimmed === 'null' ? null : text.replace(/[\r\n]+$/, '');
}

export function decodeScalar(text: string, field = 'value'): Decoded {
  const fields = new Fields();
  const value = scalarTree(text);
  if (value !== null) fields.set(field, value);
  return { fields };
}

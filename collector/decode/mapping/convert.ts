/** One value as a mapping wants it. What would lose something on the way is refused, and is that value's problem alone. */
import { isUtf8 } from 'node:buffer';
import { Undecodable, exactNumber } from '../../../shared/codecs/codec.ts';
import { scalarTree } from '../../../shared/codecs/scalar.ts';
import { scalarOf, type Scalar } from '../../../shared/codecs/tree.ts';
import type { FieldValue } from '../../../shared/model/reading.ts';

export const CONVERSIONS = [
  'number',
  'number?',
  'quantity',
  'text',
  'bool',
  'hex',
  'base64',
  'json',
  'skip',
] as const;
export type Conversion = (typeof CONVERSIONS)[number];

const NUMBER = /^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$/;
const NO_NUMBER = /^[-+]?(?:nan|inf|infinity)$/i;
/**
 * `239 V`, `21,5 °C`: a number, with a point or a comma, and its unit, which begins with a letter or a sign: so neither a
 * date nor `1.234,5 kWh` is one.
 */
const QUANTITY = /^([-+]?\d+(?:[.,]\d+)?(?:[eE][-+]?\d+)?)\s*([\p{L}%‰°"'′″\p{Sc}][^,;:]*)?$/u;
const TRUE = new Set(['true', 'on', 'yes', '1']);
const FALSE = new Set(['false', 'off', 'no', '0']);

function wrong(name: string, value: Scalar, wanted: string): never {
  const text = String(scalarOf(value)).slice(0, 40);
  throw new Undecodable(`'${name}' is to be ${wanted} and is '${text}'`);
}

function numberOf(name: string, value: Scalar): number {
  if (typeof value === 'number') return value;
  if (typeof value === 'bigint') return exactNumber(name, value);
  if (typeof value === 'boolean') return wrong(name, value, 'a number');
  const text = String(scalarOf(value)).trim();
  if (NO_NUMBER.test(text)) return Number.NaN;
  if (!NUMBER.test(text)) return wrong(name, value, 'a number');
  return /^[-+]?\d+$/.test(text) ? exactNumber(name, BigInt(text.replace('+', ''))) : Number(text);
}

/** A number and the unit behind it, if there is one. */
export function quantityOf(
  name: string,
  value: Scalar,
): { number: number; unit: string | undefined } {
  if (typeof value !== 'string') return { number: numberOf(name, value), unit: undefined };
  // The minus sign of typography is one.
  const text = value.trim().replace(/^\u2212/, '-');
  if (NO_NUMBER.test(text)) return { number: Number.NaN, unit: undefined };
  const match = QUANTITY.exec(text);
  if (match === null) return wrong(name, value, 'a number with a unit');
  return { number: Number((match[1] as string).replace(',', '.')), unit: match[2] };
}

/** A value as it is to be stored; undefined: left out. Throws Undecodable. */
export function convert(
  name: string,
  value: Scalar,
  conversion: Exclude<Conversion, 'json'> | undefined,
): FieldValue | bigint | undefined {
  switch (conversion) {
    case undefined:
      return scalarOf(value);
    case 'skip':
      return undefined;
    case 'number':
      return numberOf(name, value);
    case 'number?':
      if (typeof value !== 'string') return scalarOf(value);
      return NO_NUMBER.test(value.trim()) ? Number.NaN : (scalarTree(value) ?? undefined);
    case 'quantity':
      return quantityOf(name, value).number;
    case 'text':
      if (!(value instanceof Uint8Array)) return String(scalarOf(value));
      return isUtf8(value) ? Buffer.from(value).toString('utf8') : wrong(name, value, 'text');
    case 'bool': {
      const text = String(value).toLowerCase();
      if (TRUE.has(text)) return true;
      return FALSE.has(text) ? false : wrong(name, value, 'true or false');
    }
    default:
      if (!(value instanceof Uint8Array)) return wrong(name, value, 'bytes');
      return Buffer.from(value).toString(conversion);
  }
}

/**
 * CBOR (RFC 8949) as a tree, by cborg: strict about lengths. Integer keys become their digits, a key that comes twice
 * has no value (as in JSON), integers beyond 2^53 stay whole, bytes stay bytes; tags 0 and 1 are times, 2 and 3 large
 * integers, 4 and 5 fractions, 55799 (this is CBOR) and tags that nobody knows are looked through; those that stand for
 * what was said elsewhere are refused. The only file that imports cborg.
 */
import {
  decodeFirst,
  Token,
  Tokenizer,
  Type,
  type DecodeOptions,
  type TagDecodeControl,
} from 'cborg';
import { DEPTH_MAX, POINTS_MAX, Undecodable } from '../../../shared/codecs/codec.ts';
import { fromText, type DeviceTime } from '../../../shared/codecs/time.ts';
import { Moment, Untold, type Tree } from '../../../shared/codecs/tree.ts';
import { messageOf } from '../../../shared/errors.ts';

/** RFC 8949, section 3.4.2: seconds since 1970, whole or as a float. */
function ofEpoch(value: unknown): unknown {
  const seconds = Number(value);
  if (!Number.isFinite(seconds)) throw new Undecodable('CBOR: tag 1 is not on a number');
  const ms = Math.floor(seconds * 1000);
  const time: DeviceTime = { ms: Math.round(seconds * 1000), ns: 0, fine: false };
  // Seconds as a double have no digits below the microsecond that could be believed.
  return new Moment(Number.isInteger(seconds) ? { ms, ns: 0, fine: false } : time);
}

function ofDateText(value: unknown): unknown {
  const time = typeof value === 'string' ? fromText(value) : undefined;
  if (time === undefined) throw new Undecodable('CBOR: tag 0 is not on a date and time');
  return new Moment(time);
}

function ofBytes(value: unknown, negative: boolean): bigint {
  if (!(value instanceof Uint8Array)) throw new Undecodable('CBOR: a large integer is not bytes');
  const magnitude = value.length === 0 ? 0n : BigInt(`0x${Buffer.from(value).toString('hex')}`);
  return negative ? -1n - magnitude : magnitude;
}

const isWhole = (value: unknown): value is number | bigint =>
  typeof value === 'bigint' || Number.isInteger(value);

/** Section 3.4.4: [exponent, mantissa], of ten or of two. SenML's numbers may be so (RFC 8428, section 6). */
function ofFraction(value: unknown, base: 10 | 2): unknown {
  const [exponent, mantissa, more] = Array.isArray(value) ? (value as unknown[]) : [];
  if (!isWhole(exponent) || !isWhole(mantissa) || more !== undefined)
    throw new Undecodable(`CBOR: tag ${base === 10 ? 4 : 5} is not on an exponent and a mantissa`);
  if (Number(exponent) === 0) return mantissa;
  // As a text it is rounded once.
  return base === 10 ? Number(`${mantissa}e${exponent}`) : Number(mantissa) * 2 ** Number(exponent);
}

/** References to texts and values that stand elsewhere in the payload: a number in their place would be a wrong value. */
const REFERRING = [25, 28, 29, 256];

function refused(tag: number): never {
  throw new Undecodable(`CBOR: references (tag ${tag}) are not followed`);
}

type TagDecoder = (control: TagDecodeControl) => unknown;
/** No tag of a payload: one that `MapsMarked` puts before each map. */
const MAP_FOLLOWS = -1;
const KNOWN: Record<number, TagDecoder> = {
  0: (value) => ofDateText(value()),
  1: (value) => ofEpoch(value()),
  2: (value) => ofBytes(value(), false),
  3: (value) => ofBytes(value(), true),
  4: (value) => ofFraction(value(), 10),
  5: (value) => ofFraction(value(), 2),
  [MAP_FOLLOWS]: (value) => new Entries(value.entries()),
  ...Object.fromEntries(REFERRING.map((tag) => [tag, () => refused(tag)])),
};

/** What most tags add (how a text is encoded, what a number is of) takes nothing from the value: it is what it is. */
const lookThrough: TagDecoder = (value) => value();
const TAGS = new Proxy(KNOWN, { get: (known, tag) => known[Number(tag)] ?? lookThrough });

/** A map as what it has, in its order, a key that comes again too. */
export class Entries {
  readonly list: [unknown, unknown][];
  constructor(list: [unknown, unknown][]) {
    this.list = list;
  }
}

/** Keys as text; nobody knows which of two that become one is meant. */
function keyed(entries: Iterable<[unknown, unknown]>, depth: number): Tree {
  const result = new Map<string, Tree>();
  for (const [key, value] of entries) {
    if (typeof key !== 'string' && typeof key !== 'number' && typeof key !== 'bigint')
      throw new Undecodable(`a map has a key that is neither text nor a whole number`);
    const name = String(key);
    const isAgain = result.has(name);
    const child = treeOf(value, depth + 1);
    result.set(name, isAgain ? new Untold(`a map has two keys '${name.slice(0, 40)}'`) : child);
  }
  return Object.fromEntries(result);
}

/** What a binary format's library gives, as a tree. Throws Undecodable. */
export function treeOf(value: unknown, depth = 0): Tree {
  if (depth > DEPTH_MAX) throw new Undecodable(`nested more than ${DEPTH_MAX} levels deep`);
  if (value === null || value === undefined) return null;
  switch (typeof value) {
    case 'number':
    case 'string':
    case 'boolean':
      return value;
    case 'bigint': {
      const number = Number(value);
      return Number.isSafeInteger(number) ? number : value;
    }
    default:
  }
  if (value instanceof Moment || value instanceof Uint8Array) return value;
  if (Array.isArray(value)) return value.map((each) => treeOf(each, depth + 1));
  if (value instanceof Map) return keyed(value, depth);
  if (value instanceof Entries) return keyed(value.list, depth);
  return keyed(Object.entries(value), depth);
}

const OPTIONS: DecodeOptions = {
  useMaps: true,
  rejectDuplicateMapKeys: true,
  allowBigInt: true,
  tags: TAGS,
};

/** cborg's maps refuse a key that comes again, or keep the last: behind a tag it gives a map's entries as they are. */
class MapsMarked extends Tokenizer {
  #map: Token | undefined;

  override next(): Token {
    const map = this.#map;
    this.#map = undefined;
    if (map !== undefined) return map;
    const token = super.next();
    if (!Type.equals(token.type, Type.map)) return token;
    this.#map = token;
    return new Token(Type.tag, MAP_FOLLOWS);
  }
}

function notCbor(error: unknown): never {
  if (error instanceof Undecodable) throw error;
  throw new Undecodable(`not CBOR: ${messageOf(error)}`, { cause: error });
}

/** The first item, and what is behind it. */
function first(payload: Uint8Array): [unknown, Uint8Array] {
  try {
    return decodeFirst(payload, OPTIONS) as [unknown, Uint8Array];
  } catch (error) {
    if (!messageOf(error).includes('repeat map key')) throw error;
    const tokenizer = new MapsMarked(payload, OPTIONS);
    return decodeFirst(payload, { ...OPTIONS, tokenizer }) as [unknown, Uint8Array];
  }
}

/** Throws Undecodable. */
export function decodeCbor(payload: Uint8Array): Tree {
  try {
    const [item, behind] = first(payload);
    if (behind.length > 0) throw new Undecodable('not CBOR: bytes behind its end');
    return treeOf(item);
  } catch (error) {
    return notCbor(error);
  }
}

/** RFC 8742: one item behind another, as a list. Throws Undecodable. */
export function decodeCborSequence(payload: Uint8Array): Tree {
  const items: Tree[] = [];
  try {
    for (let rest = payload; rest.length > 0; ) {
      const [item, behind] = first(rest);
      items.push(treeOf(item, 1));
      if (items.length > POINTS_MAX)
        throw new Undecodable(`a CBOR sequence of more than ${POINTS_MAX} items`);
      rest = behind;
    }
  } catch (error) {
    return notCbor(error);
  }
  return items;
}

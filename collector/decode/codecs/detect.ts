/**
 * Codecs by name, by content type, and by looking at a payload where that is safe: text formats say what they are, and
 * binary ones only count when all bytes are a map with text keys in one of them and in none of the others.
 */
import { isUtf8 } from 'node:buffer';
import { Undecodable, type Decoded } from '../../../shared/codecs/codec.ts';
import { decodeCayenneLpp } from '../../../shared/codecs/cayenne-lpp.ts';
import { parseJson } from '../../../shared/codecs/exact-json.ts';
import { decodeLineProtocol, looksLikeLineProtocol } from '../../../shared/codecs/line-protocol.ts';
import { decodeRuuvi } from '../../../shared/codecs/ruuvi.ts';
import { scalarTree } from '../../../shared/codecs/scalar.ts';
import { decodeSenml, isSenml } from '../../../shared/codecs/senml.ts';
import { isObject, type Tree } from '../../../shared/codecs/tree.ts';
import type { EpochUnit } from '../../../shared/codecs/time.ts';
import { decodeCbor } from './cbor.ts';
import { decodeMsgpack } from './msgpack.ts';

/** A document, of which a mapping or the default makes points; or the points themselves. */
export type Parsed = { document: Tree } | { points: Decoded[] };

export const CODECS = [
  'auto',
  'json',
  'cbor',
  'msgpack',
  'text',
  'line-protocol',
  'senml',
  'cayenne-lpp',
  'ruuvi',
  'sparkplug',
  'homie',
  'home-assistant',
  'bytes',
  'none',
] as const;
export type CodecName = (typeof CODECS)[number];

/** Media types (IANA's, and what is in use where there is none). */
const CONTENT_TYPES: Record<string, CodecName> = {
  'application/json': 'json',
  'application/senml+json': 'senml',
  'application/sensml+json': 'senml',
  'application/cbor': 'cbor',
  'application/senml+cbor': 'senml',
  'application/sensml+cbor': 'senml',
  'application/msgpack': 'msgpack',
  'application/x-msgpack': 'msgpack',
  'application/vnd.msgpack': 'msgpack',
  'application/vnd.influx.line-protocol': 'line-protocol',
  'text/x-influx-line-protocol': 'line-protocol',
};

/** What a content type says; undefined for one that says nothing of a codec (`text/plain`, octets). */
export function codecOfContentType(text: string): CodecName | undefined {
  const type = (text.split(';')[0] ?? '').trim().toLowerCase();
  return Object.hasOwn(CONTENT_TYPES, type) ? CONTENT_TYPES[type] : undefined;
}

export function textOf(payload: Buffer): string {
  if (!isUtf8(payload)) throw new Undecodable('not UTF-8 text');
  return payload.toString('utf8');
}

const attempt = (decode: () => Tree): Tree | undefined => {
  try {
    return decode();
  } catch (error) {
    if (error instanceof Undecodable) return undefined;
    throw error;
  }
};

/** A map whose keys are all printable, or a SenML pack: what chance does not make. */
function isConvincing(value: Tree | undefined): value is Tree {
  if (value === undefined) return false;
  if (isSenml(value)) return true;
  if (!isObject(value)) return false;
  const keys = Object.keys(value);
  return keys.length > 0 && keys.every((key) => /^[\p{L}\p{N}_$][^\p{Cc}]*$/u.test(key));
}

/** Of bytes that are not text. Throws Undecodable. */
function detectBinary(payload: Buffer): Tree {
  // RFC 8949, section 3.4.6: bytes that say themselves that they are CBOR.
  if (payload.length > 3 && payload.readUIntBE(0, 3) === 0xd9d9f7) return decodeCbor(payload);
  const cbor = attempt(() => decodeCbor(payload));
  const msgpack = attempt(() => decodeMsgpack(payload));
  const convincing = [cbor, msgpack].filter(isConvincing);
  const [only] = convincing;
  if (only === undefined || convincing.length > 1)
    throw new Undecodable('not UTF-8 text, and no mapping names a codec for it');
  return only;
}

/** Whether there is a control character that no text has: none of tab, line feed, vertical tab, form feed, carriage return. */
function hasControl(text: string): boolean {
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code < 0x20 && (code < 9 || code > 13)) return true;
  }
  return false;
}

const BRACE = 0x7b;
const BRACKET = 0x5b;
const QUOTE = 0x22;

function documentOrSenml(document: Tree, receivedMs: number): Parsed {
  return isSenml(document) ? { points: decodeSenml(document, receivedMs) } : { document };
}

/** Throws Undecodable. */
export function detect(payload: Buffer, receivedMs: number): Parsed {
  if (!isUtf8(payload)) return documentOrSenml(detectBinary(payload), receivedMs);
  const text = payload.toString('utf8');
  const first = payload[text.length - text.trimStart().length];
  if (first === BRACE || first === BRACKET || first === QUOTE)
    return documentOrSenml(parseJson(text), receivedMs);
  if (looksLikeLineProtocol(text)) return { points: decodeLineProtocol(text, receivedMs) };
  // MessagePack and CBOR of short maps can be valid UTF-8 by chance: control characters tell them from text.
  if (hasControl(text)) return documentOrSenml(detectBinary(payload), receivedMs);
  return { document: scalarTree(text) };
}

/** By name. Codecs that need more than a payload are not here. Throws Undecodable. */
export function parseAs(
  codec: CodecName,
  payload: Buffer,
  receivedMs: number,
  precision: EpochUnit | undefined,
): Parsed {
  switch (codec) {
    case 'auto':
      return detect(payload, receivedMs);
    case 'json':
      return { document: parseJson(textOf(payload)) };
    case 'cbor':
      return { document: decodeCbor(payload) };
    case 'msgpack':
      return { document: decodeMsgpack(payload) };
    case 'text':
      return { document: textOf(payload) };
    case 'bytes':
      return { document: payload };
    case 'line-protocol':
      return { points: decodeLineProtocol(textOf(payload), receivedMs, precision) };
    case 'senml': {
      const first = payload[payload.findIndex((byte) => byte > 0x20)];
      const document = first === BRACKET ? parseJson(textOf(payload)) : decodeCbor(payload);
      return { points: decodeSenml(document, receivedMs) };
    }
    case 'cayenne-lpp':
      return { points: [decodeCayenneLpp(payload)] };
    case 'ruuvi':
      return { points: [decodeRuuvi(payload)] };
    default:
      throw new Undecodable(`codec '${codec}' needs a topic of its protocol`);
  }
}

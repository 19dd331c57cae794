/**
 * Codecs by name, and by looking at a payload where that is safe: text formats say what they are, and binary ones only
 * count when all bytes are a map with text keys in exactly one of them. What was only guessed and does not parse is what
 * it would be without the guess: text.
 */
import { isUtf8 } from 'node:buffer';
import { Undecodable } from '../../../shared/codecs/codec.ts';
import { isSenml } from '../../../shared/codecs/senml.ts';
import { isObject, type Tree } from '../../../shared/codecs/tree.ts';
import { CODECS, adopted, codecOf, type CodecName, type Hints, type Parsed } from './table.ts';
import { seenAs, unwrapped } from './text.ts';

const LOOKING = CODECS.flatMap(({ look }) => (look === undefined ? [] : [look]));
const BINARY = CODECS.flatMap(({ isBinary, parse }) =>
  isBinary === true && parse !== undefined ? [parse] : [],
);

/** A map whose keys are all printable, or a SenML pack: what chance does not make. */
function isConvincing(value: Tree): boolean {
  if (isSenml(value)) return true;
  if (!isObject(value)) return false;
  const keys = Object.keys(value);
  return keys.length > 0 && keys.every((key) => /^[\p{L}\p{N}_$][^\p{Cc}]*$/u.test(key));
}

/** RFC 8949, section 3.4.6: bytes that say themselves that they are CBOR. */
const saysCbor = (payload: Buffer): boolean =>
  payload.length > 3 && payload.readUIntBE(0, 3) === 0xd9d9f7;

/** Of bytes that are not text. Throws Undecodable. */
function detectBinary(payload: Buffer, hints: Hints): Tree {
  if (saysCbor(payload)) return documentAs('cbor', payload, hints);
  const convincing: Tree[] = [];
  for (const parse of BINARY) {
    try {
      const parsed = parse(payload, hints);
      if ('document' in parsed && isConvincing(parsed.document)) convincing.push(parsed.document);
    } catch (error) {
      if (!(error instanceof Undecodable)) throw error;
    }
  }
  const [only] = convincing;
  if (only === undefined || convincing.length > 1)
    throw new Undecodable(
      `${isUtf8(payload) ? 'not text' : 'not UTF-8 text'}${seenAs(payload)}, and no mapping names a codec for it`,
    );
  return only;
}

function documentAs(codec: CodecName, payload: Buffer, hints: Hints): Tree {
  const parsed = parseAs(codec, payload, hints);
  return 'document' in parsed ? parsed.document : null;
}

const SPACE = 0x20;

/** The first character that is no white space. */
function firstOf(text: string): string {
  const code = text.charCodeAt(0);
  return code > SPACE && code < 0x80 ? (text[0] as string) : (text.trimStart()[0] ?? '');
}

/** The first codec that knows a text. */
function lookAt(bytes: Buffer, receivedMs: number): Parsed | undefined {
  if (bytes.length === 0 || !isUtf8(bytes)) return undefined;
  const text = bytes.toString('utf8');
  const seen = { text, first: firstOf(text), receivedMs };
  for (const look of LOOKING) {
    const parsed = look(seen);
    if (parsed !== undefined) return parsed;
  }
  return undefined;
}

/** Throws Undecodable. */
export function detect(payload: Buffer, hints: Hints): Parsed {
  const { receivedMs } = hints;
  const parsed = lookAt(unwrapped(payload), receivedMs);
  if (parsed === undefined) return adopted(detectBinary(payload, hints), receivedMs);
  return 'document' in parsed ? adopted(parsed.document, receivedMs) : parsed;
}

/** By name. Codecs that need more than a payload are not here. Throws Undecodable. */
export function parseAs(codec: CodecName, payload: Buffer, hints: Hints): Parsed {
  if (codec === 'auto') return detect(payload, hints);
  const parse = codecOf(codec)?.parse;
  if (parse === undefined) throw new Undecodable(`codec '${codec}' needs a topic of its protocol`);
  return parse(payload, hints);
}

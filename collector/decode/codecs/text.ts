/**
 * Bytes as text, and what bytes look like that are none. A UTF-8 byte order mark and NUL bytes at the end (of a buffer
 * that was larger than its text) are wrapping, not content.
 */
import { isUtf8 } from 'node:buffer';
import { Undecodable } from '../../../shared/codecs/codec.ts';

/** Without wrapping; the same bytes where there is none. */
export function unwrapped(payload: Buffer): Buffer {
  let end = payload.length;
  while (end > 0 && payload[end - 1] === 0) end--;
  const start = payload[0] === 0xef && payload[1] === 0xbb && payload[2] === 0xbf ? 3 : 0;
  return start === 0 && end === payload.length ? payload : payload.subarray(start, end);
}

/** Throws Undecodable. */
export function textOf(payload: Buffer, charset?: string): string {
  if (charset !== undefined) return new TextDecoder(charset).decode(unwrapped(payload));
  const bytes = unwrapped(payload);
  if (!isUtf8(bytes)) throw new Undecodable(`not UTF-8 text${seenAs(payload)}`);
  return bytes.toString('utf8');
}

/** Whether a text's encoding has a name that is known. */
export function isCharset(name: string): boolean {
  try {
    return new TextDecoder(name).encoding !== '';
  } catch {
    return false;
  }
}

const ESCAPE = 0x1b;

/** Whether there is a control character that no text has: none of tab, line feed, vertical tab, form feed, carriage return, escape (colours). */
export function hasControl(text: string): boolean {
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code < 0x20 && (code < 9 || code > 13) && code !== ESCAPE) return true;
  }
  return false;
}

const MAGIC: [name: string, ...bytes: number[]][] = [
  ['gzip (a mapping opens it: compression: gzip)', 0x1f, 0x8b],
  ['a JPEG picture', 0xff, 0xd8, 0xff],
  ['a PNG picture', 0x89, 0x50, 0x4e, 0x47],
  ['a ZIP file', 0x50, 0x4b, 0x03, 0x04],
  ['UTF-16 text (a mapping says so: charset: utf-16le)', 0xff, 0xfe],
  ['UTF-16 text (a mapping says so: charset: utf-16be)', 0xfe, 0xff],
];

const isZlib = ([first = 0, second = 0]: Buffer): boolean =>
  first === 0x78 && ((first << 8) | second) % 31 === 0;

/** Letters, digits and signs below 0x80 for the most part, and above it only what Latin-1 prints. */
function isLatin1(payload: Buffer): boolean {
  let high = 0;
  for (const byte of payload) {
    if (byte >= 0xa0) high++;
    else if ((byte < 0x20 && (byte < 9 || byte > 13)) || byte >= 0x7f) return false;
  }
  return high > 0 && high * 4 <= payload.length;
}

/** For a reason: what the bytes look like, or ''. */
export function seenAs(payload: Buffer): string {
  const known = MAGIC.find(([, ...bytes]) => bytes.every((byte, at) => payload[at] === byte));
  if (known !== undefined) return `: it looks like ${known[0]}`;
  if (isZlib(payload)) return ': it looks like zlib (a mapping opens it: compression: zlib)';
  if (isLatin1(payload)) return ': it looks like Latin-1 text (a mapping says so: charset: latin1)';
  const at = payload.findIndex((byte) => byte < 0x20 && (byte < 9 || byte > 13));
  return at < 0
    ? ''
    : `: it has control characters (0x${(payload[at] as number).toString(16).padStart(2, '0')} at byte ${at})`; // Found above.
}

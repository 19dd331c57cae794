/**
 * JSON (RFC 8259) without what `JSON.parse` bends: integers beyond 2^53 keep their digits (as bigint), and an object
 * that names a member twice keeps neither of the two values (`Untold`), since one of them would vanish.
 *
 * `JSON.parse` does the work; a scan of the text tells whether it could have bent anything (a run of 16 digits, more
 * members than the result has), and only then a parser of our own reads the text again.
 */
import { DEPTH_MAX, Undecodable } from './codec.ts';
import { looseObject } from './loose-json.ts';
import { Untold, isObject, type Tree, type TreeObject } from './tree.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
const LONG_DIGITS = 16;

interface Scan {
  /** Members of all objects. */
  members: number;
  /** A number has so many digits that a double may bend it. */
  longNumber: boolean;
}

/** Looks at valid JSON outside its strings. */
function scan(text: string): Scan {
  let members = 0;
  let digits = 0;
  let longNumber = false;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code >= 0x30 && code <= 0x39) {
      if (++digits >= LONG_DIGITS) longNumber = true;
      continue;
    }
    digits = 0;
    if (code === COLON) members++;
    else if (code === QUOTE) at = closing(text, at);
  }
  return { members, longNumber };
}

/** Position of the quotation mark that closes the string opened at `open`. */
export function closing(text: string, open: number): number {
  for (let at = text.indexOf('"', open + 1); at >= 0; at = text.indexOf('"', at + 1)) {
    let slashes = 0;
    while (text.charCodeAt(at - 1 - slashes) === BACKSLASH) slashes++;
    if (slashes % 2 === 0) return at;
  }
  return text.length;
}

function membersOf(value: Tree, depth: number): number {
  if (typeof value !== 'object' || value === null) return 0;
  if (depth > DEPTH_MAX) throw new Undecodable(`nested more than ${DEPTH_MAX} levels deep`);
  let count = 0;
  if (Array.isArray(value)) {
    for (const child of value) count += membersOf(child, depth + 1);
  } else if (isObject(value)) {
    for (const key of Object.keys(value)) count += 1 + membersOf(value[key] as Tree, depth + 1);
  }
  return count;
}

/** Numbers that are none, as Python (NaN, Infinity) and C (nan, -inf, 1.#QNAN) write them, outside strings. */
const NO_NUMBERS =
  /"(?:[^"\\]|\\.)*"|(?<=[\s:,[]|^)[-+]?(?:nan(?:\(\w*\))?|inf(?:inity)?|1\.#(?:QNAN|SNAN|INF|IND)\d*)(?=[\s,\]}]|$)/gis;
/** What `JSON.parse` reads as infinity: a value that is left out. */
const INFINITE = '1e999';

/** The same text with numbers that are none as ones that JSON can say. */
const withInfinities = (text: string): string =>
  text.replaceAll(NO_NUMBERS, (token) => (token.startsWith('"') ? token : INFINITE));

function parsed(text: string): Tree {
  try {
    return JSON.parse(text) as Tree;
  } catch (error) {
    throw new Undecodable(`not JSON: ${error instanceof Error ? error.message : 'unreadable'}`, {
      cause: error,
    });
  }
}

/** JSON; NaN and infinities, which JSON has not, are infinite numbers. Throws Undecodable. */
export function parseJson(given: string): Tree {
  let text = given;
  let value: Tree;
  try {
    value = parsed(text);
  } catch (error) {
    text = withInfinities(given);
    if (text === given) throw error;
    value = parsed(text);
  }
  const { members, longNumber } = scan(text);
  if (!longNumber && members === membersOf(value, 0)) return value;
  return new ExactParser(text).document();
}

/** The same of what devices send, whose firmware may have built its text by hand. Throws Undecodable. */
export function parseDeviceJson(text: string): Tree {
  try {
    return parseJson(text);
  } catch (error) {
    const document = error instanceof Undecodable ? looseObject(text) : undefined;
    if (document === undefined) throw error;
    return document;
  }
}

/** Reads text that `JSON.parse` has accepted. */
class ExactParser {
  private readonly text: string;
  private at = 0;

  constructor(text: string) {
    this.text = text;
  }

  document(): Tree {
    return this.value(0);
  }

  private space(): void {
    while (/[ \t\r\n]/.test(this.text[this.at] ?? '')) this.at++;
  }

  /** Steps over white space and one character. */
  private take(char: string): boolean {
    this.space();
    if (this.text[this.at] !== char) return false;
    this.at++;
    return true;
  }

  private value(depth: number): Tree {
    if (depth > DEPTH_MAX) throw new Undecodable(`nested more than ${DEPTH_MAX} levels deep`);
    if (this.take('{')) return this.object(depth);
    if (this.take('[')) return this.array(depth);
    if (this.text[this.at] === '"') return this.string();
    const word = /[^\s,\]}]+/y;
    word.lastIndex = this.at;
    const [token = ''] = word.exec(this.text) ?? [];
    this.at += token.length;
    if (/^-?\d+$/.test(token)) {
      const number = Number(token);
      return Number.isSafeInteger(number) ? number : BigInt(token);
    }
    return JSON.parse(token) as Tree;
  }

  private string(): string {
    const end = closing(this.text, this.at);
    const text = JSON.parse(this.text.slice(this.at, end + 1)) as string;
    this.at = end + 1;
    return text;
  }

  private array(depth: number): Tree[] {
    const items: Tree[] = [];
    while (!this.take(']')) {
      items.push(this.value(depth + 1));
      this.take(',');
    }
    return items;
  }

  private object(depth: number): TreeObject {
    const entries = new Map<string, Tree>();
    while (!this.take('}')) {
      this.space();
      const key = this.string();
      this.take(':');
      const value = this.value(depth + 1);
      // Nobody knows which of the two is meant.
      const isAgain = entries.has(key);
      entries.set(
        key,
        isAgain ? new Untold(`an object has two members named '${key.slice(0, 40)}'`) : value,
      );
      this.take(',');
    }
    return Object.fromEntries(entries);
  }
}

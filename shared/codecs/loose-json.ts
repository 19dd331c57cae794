/**
 * Objects of JSON as firmware writes them that builds its text by hand: Python's quotes and words, names without quotes, a
 * comma too many, `.5`, a value that is missing or none (`"t":,`, `--`, a date without quotes). Nothing is guessed: a value
 * that cannot be read is `Untold`, and its neighbours are taken; where one cannot tell what belongs to what (no end, no
 * comma, text behind the document) nothing is.
 */
import { DEPTH_MAX } from './codec.ts';
import { Untold, type Tree, type TreeObject } from './tree.ts';

const SPACE = /[\s\uFEFF]*/y;
const NAME = /[\p{L}\p{N}_$][\p{L}\p{N}_$.-]*/uy;
const TOKEN = /[^,{}[\]"']*/y;
const NUMBER = /^[-+]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?$/;
const NO_NUMBER = /^[-+]?(?:nan|inf|infinity)$/i;
const WORDS: ReadonlyMap<string, Tree> = new Map<string, Tree>([
  ['true', true],
  ['false', false],
  ['null', null],
  ['True', true],
  ['False', false],
  ['None', null],
  ['TRUE', true],
  ['FALSE', false],
  ['NULL', null],
]);
/** A time without quotes can be nothing else. */
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d[\d:.]*(?:Z|[-+]\d\d:?\d\d)?$/;
const CONTROLS: Readonly<Record<string, string>> = { '\t': '\\t', '\n': '\\n', '\r': '\\r' };
const SHOWN = 40;

/** The document is of no form that is known here. */
class Unreadable extends Error {}

class Reader {
  private readonly text: string;
  private at = 0;
  /** Values that could be read. */
  count = 0;

  constructor(text: string) {
    this.text = text;
  }

  /** Throws Unreadable. */
  document(): TreeObject {
    this.match(SPACE);
    const value = this.members(0);
    this.match(SPACE);
    if (value === undefined || this.at < this.text.length) throw new Unreadable();
    return value;
  }

  private match(pattern: RegExp): string {
    pattern.lastIndex = this.at;
    const [found = ''] = pattern.exec(this.text) ?? [];
    this.at += found.length;
    return found;
  }

  /** Steps over white space and one character. */
  private take(char: string): boolean {
    this.match(SPACE);
    if (this.text[this.at] !== char) return false;
    this.at++;
    return true;
  }

  private value(name: string, depth: number): Tree {
    if (depth > DEPTH_MAX) throw new Unreadable();
    this.match(SPACE);
    const from = this.at;
    const first = this.text[from];
    if (first === '{') {
      const object = this.members(depth);
      return object ?? this.untold(name, this.text.slice(from, this.at));
    }
    if (first === '[') return this.list(name, depth);
    if (first === '"' || first === "'") return this.quoted(name);
    return this.token(name, this.match(TOKEN).trim());
  }

  private token(name: string, token: string): Tree {
    const word = WORDS.get(token);
    if (word !== undefined) return this.read(word);
    if (NO_NUMBER.test(token)) return this.read(Number.NaN);
    if (TIME.test(token)) return this.read(token);
    if (!NUMBER.test(token)) return this.untold(name, token);
    const number = Number(token);
    const isWhole = /^[-+]?\d+$/.test(token);
    return this.read(
      isWhole && !Number.isSafeInteger(number) ? BigInt(token.replace('+', '')) : number,
    );
  }

  private read(value: Tree): Tree {
    if (value !== null) this.count++;
    return value;
  }

  private untold(name: string, written: string): Untold {
    return new Untold(
      written === ''
        ? `'${name}' has no value`
        : `'${name}': '${written.slice(0, SHOWN)}' is no JSON value`,
    );
  }

  private list(name: string, depth: number): Tree[] {
    this.at++;
    const items: Tree[] = [];
    while (!this.take(']')) {
      items.push(this.value(name, depth + 1));
      if (this.take(',')) continue;
      if (!this.take(']')) throw new Unreadable();
      break;
    }
    return items;
  }

  /** Undefined: it holds something else than names with values, and is stepped over. Throws Unreadable. */
  private members(depth: number): TreeObject | undefined {
    const from = this.at;
    if (this.text[this.at++] !== '{') throw new Unreadable();
    const entries = new Map<string, Tree>();
    while (!this.take('}')) {
      const name = this.name();
      if (name === undefined || !this.take(':')) return this.stepOver(from);
      const value = this.value(name, depth + 1);
      entries.set(
        name,
        entries.has(name)
          ? new Untold(`an object has two members named '${name.slice(0, SHOWN)}'`)
          : value,
      );
      if (this.take(',')) continue;
      if (!this.take('}')) throw new Unreadable();
      break;
    }
    return Object.fromEntries(entries);
  }

  private name(): string | undefined {
    this.match(SPACE);
    const first = this.text[this.at];
    if (first !== '"' && first !== "'") return this.match(NAME) || undefined;
    const { count } = this;
    const name = this.quoted('');
    this.count = count;
    return typeof name === 'string' ? name : undefined;
  }

  /** Behind the end of the object that begins at `from`: braces alone, without any text or further level in it. */
  private stepOver(from: number): undefined {
    const end = /\{[^{}[\]"']*\}/y;
    end.lastIndex = from;
    const [found] = end.exec(this.text) ?? [];
    if (found === undefined || from === 0) throw new Unreadable();
    this.at = from + found.length;
  }

  private quoted(name: string): Tree {
    const quote = this.text[this.at] as string; // Looked at by who calls.
    const from = this.at + 1;
    let end = this.text.indexOf(quote, from);
    while (end > 0 && isEscaped(this.text, end)) end = this.text.indexOf(quote, end + 1);
    if (end < 0) throw new Unreadable();
    this.at = end + 1;
    const inner = this.text.slice(from, end);
    const written = quote === '"' ? inner : inner.replaceAll("\\'", "'").replaceAll('"', '\\"');
    const plain = written.replaceAll(/[\t\n\r]/g, (char) => CONTROLS[char] ?? char);
    try {
      return this.read(JSON.parse(`"${plain}"`) as string);
    } catch {
      return this.untold(name, inner);
    }
  }
}

function isEscaped(text: string, at: number): boolean {
  let slashes = 0;
  while (text[at - 1 - slashes] === '\\') slashes++;
  return slashes % 2 === 1;
}

/** Of text that is no JSON. Undefined: of no form that is known here, or nothing of it can be read. */
export function looseObject(text: string): TreeObject | undefined {
  const reader = new Reader(text.trim());
  try {
    const value = reader.document();
    return reader.count === 0 ? undefined : value;
  } catch (error) {
    if (error instanceof Unreadable) return undefined;
    throw error;
  }
}

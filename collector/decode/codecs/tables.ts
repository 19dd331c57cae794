/**
 * Text with a value a place: a JSON document a line, `key=value`, and query strings. Values that are numbers as JSON
 * writes them are numbers; what is empty is null.
 */
import { POINTS_MAX, Undecodable, type Problem } from '../../../shared/codecs/codec.ts';
import { closing, parseDeviceJson, parseJson } from '../../../shared/codecs/exact-json.ts';
import { scalarTree } from '../../../shared/codecs/scalar.ts';
import { isObject, Untold, type Tree, type TreeObject } from '../../../shared/codecs/tree.ts';

/** As C and Python write numbers that are none. */
const NO_NUMBER = /^[-+]?(?:nan|inf|infinity)$/i;

export function valueOf(given: string): Tree {
  const text = given.trim();
  if (text === '') return null;
  return NO_NUMBER.test(text) ? Number.NaN : scalarTree(text);
}

/** Nobody knows which of two values of one name is meant. */
export function objectOf(entries: Iterable<[string, Tree]>): TreeObject {
  const result = new Map<string, Tree>();
  for (const [name, value] of entries) {
    const isAgain = result.has(name);
    result.set(
      name,
      isAgain ? new Untold(`two values have the name '${name.slice(0, 40)}'`) : value,
    );
  }
  return Object.fromEntries(result);
}

/** A list of the lines that are documents; the others are a problem each. Throws Undecodable for too many. */
export function ndjsonTree(text: string): { document: Tree[]; problems: Problem[] } {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  if (lines.length > POINTS_MAX)
    throw new Undecodable(`JSON lines: more than ${POINTS_MAX} lines in one message`);
  const document: Tree[] = [];
  const problems: Problem[] = [];
  for (const [index, line] of lines.entries()) {
    try {
      document.push(parseDeviceJson(line));
    } catch (error) {
      if (!(error instanceof Undecodable)) throw error;
      problems.push({ reason: error.message, part: { index, payload: Buffer.from(line) } });
    }
  }
  return { document, problems };
}

/** Between documents that stand one behind another: white space, commas, semicolons, and the separator of RFC 7464. */
const BETWEEN: ReadonlySet<string> = new Set([' ', '\t', '\n', '\r', ',', ';', '\u001e']);

/**
 * Objects one behind another, as buffers that were sent twice and lists without brackets have them: a list, or one object
 * where no two of them say the same (`{"Timestamp":…};{"EToday":…}`). Undefined: it is not these.
 */
export function guessedDocuments(text: string): Tree | undefined {
  const document: Tree[] = [];
  let depth = 0;
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    const each = text[at] as string; // Within its length.
    if (each === '"' && depth > 0) at = closing(text, at);
    else if (each === '{' || each === '[') {
      if (depth++ === 0) start = at;
    } else if (each === '}' || each === ']') {
      if (--depth < 0) return undefined;
      const found = depth === 0 ? readable(text.slice(start, at + 1)) : [];
      if (found === undefined || document.length === POINTS_MAX) return undefined;
      document.push(...found);
    } else if (depth === 0 && !BETWEEN.has(each)) return undefined;
  }
  if (depth !== 0 || document.length === 0) return undefined;
  // One of a list without brackets, or of a statement: `{…};`.
  return document.length === 1 ? document[0] : (asOne(document) ?? document);
}

function asOne(parts: readonly Tree[]): TreeObject | undefined {
  const members = parts.flatMap((each) => (isObject(each) ? Object.entries(each) : []));
  const isSplit =
    parts.every(isObject) && new Set(members.map(([name]) => name)).size === members.length;
  return isSplit ? Object.fromEntries(members) : undefined;
}

function readable(text: string): [Tree] | undefined {
  try {
    return [parseJson(text)];
  } catch (error) {
    if (error instanceof Undecodable) return undefined;
    throw error;
  }
}

/** A document a line, without anybody having said so: each of several lines must be one. Looks no further than the first that is none. */
export function guessedLines(text: string): Tree[] | undefined {
  const lines = text.split('\n', POINTS_MAX + 1).filter((line) => line.trim() !== '');
  if (lines.length < 2 || lines.length > POINTS_MAX) return undefined;
  const document: Tree[] = [];
  try {
    for (const line of lines) document.push(parseJson(line));
  } catch (error) {
    if (error instanceof Undecodable) return undefined;
    throw error;
  }
  return document;
}

/**
 * A word, with its value where it has one: a word without is passed over whole, not once more from each of its letters. A
 * comma between digits is the value's (`21,5`), unless a name comes behind it.
 */
const PAIR =
  /([^\s=:,;&]+)(?:\s*[=:]\s*("(?:[^"\\]|\\.)*"|(?:[^\s,;]|(?<=\d),(?=\d[^\s=:,;]*(?!\s*[=:])(?:[\s,;]|$)))*))?/g;

/** Words without a value that are told. */
const WORDS_MAX = 20;
const WORD_CHARS = 40;

/** The pairs, and the words that are none. Throws Undecodable. */
export function keyValueTree(text: string): { document: TreeObject; words: string[] } {
  const entries: [string, Tree][] = [];
  const words = new Set<string>();
  for (const [, name = '', value] of text.matchAll(PAIR)) {
    if (value === undefined) {
      if (words.size < WORDS_MAX) words.add(name.slice(0, WORD_CHARS));
    } else if (value.startsWith('"'))
      entries.push([name, value.slice(1, -1).replaceAll(/\\(.)/g, '$1')]);
    else entries.push([name, valueOf(value)]);
  }
  if (entries.length === 0) throw new Undecodable('there is no key=value in it');
  return { document: objectOf(entries), words: [...words] };
}

/** Throws Undecodable. */
export function queryTree(text: string): TreeObject {
  return objectOf(
    [...new URLSearchParams(text.trim())].map(([name, value]) => [name, valueOf(value)]),
  );
}

const QUERY = /^[^\s=&?/]+=[^\s=&]*(?:&[^\s=&?/]+=[^\s=&]*)+$/;

/** A query string, without anybody having said so: nothing but pairs, two at least, and a number among the values. */
export function guessedQuery(text: string): Tree | undefined {
  const trimmed = text.trim();
  if (!trimmed.includes('&') || !QUERY.test(trimmed)) return undefined;
  try {
    const document = queryTree(trimmed);
    const values = Object.values(document);
    if (values.some((each) => each instanceof Untold)) return undefined;
    return values.some((each) => typeof each === 'number') ? document : undefined;
  } catch (error) {
    if (error instanceof Undecodable) return undefined;
    throw error;
  }
}

/**
 * Text with a value a place: a JSON document a line, `key=value`, and query strings. Values that are numbers as JSON
 * writes them are numbers; what is empty is null.
 */
import { Undecodable } from '../../../shared/codecs/codec.ts';
import { parseJson } from '../../../shared/codecs/exact-json.ts';
import { scalarTree } from '../../../shared/codecs/scalar.ts';
import type { Tree, TreeObject } from '../../../shared/codecs/tree.ts';

export const valueOf = (text: string): Tree =>
  text.trim() === '' ? null : scalarTree(text.trim());

/** Two places of one name would bend one of them. */
export function objectOf(entries: Iterable<[string, Tree]>): TreeObject {
  const result = new Map<string, Tree>();
  for (const [name, value] of entries) {
    if (result.has(name)) throw new Undecodable(`two values have the name '${name.slice(0, 40)}'`);
    result.set(name, value);
  }
  return Object.fromEntries(result);
}

/** Throws Undecodable. */
export function ndjsonTree(text: string): Tree {
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map(parseJson);
}

/** A word, with its value where it has one: a word without is passed over whole, not once more from each of its letters. */
const PAIR = /([^\s=:,;&]+)(?:\s*[=:]\s*("(?:[^"\\]|\\.)*"|[^\s,;]*))?/g;

/** Throws Undecodable. */
export function keyValueTree(text: string): Tree {
  const pairs = [...text.matchAll(PAIR)].filter(([, , value]) => value !== undefined);
  if (pairs.length === 0) throw new Undecodable('there is no key=value in it');
  return objectOf(
    pairs.map(([, name = '', value = '']) => [
      name,
      value.startsWith('"') ? value.slice(1, -1).replaceAll(/\\(.)/g, '$1') : valueOf(value),
    ]),
  );
}

/** Throws Undecodable. */
export function queryTree(text: string): Tree {
  return objectOf(
    [...new URLSearchParams(text.trim())].map(([name, value]) => [name, valueOf(value)]),
  );
}

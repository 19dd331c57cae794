/**
 * Paths into a document: keys joined with dots, `*` for every member or element, a number for an element. `{name}` in
 * a segment matches like `*` and keeps what it matched; literals and names may mix: `{component}:{id}`. A dot within a
 * key is written `\.`; `.` alone is the place itself. Relative paths may begin with `^` (one level up from the point's node, `^^` two …) or `$` (the
 * document).
 */
import { isObject, own, type Tree } from '../../../shared/codecs/tree.ts';
import { compileGlob, matchKey, type Glob } from './glob.ts';

export type Segment =
  | { kind: 'key'; key: string }
  | { kind: 'any' }
  | { kind: 'pattern'; glob: Glob };

export interface Path {
  text: string;
  /** Levels up from the node; undefined: from the document. */
  up: number | undefined;
  segments: Segment[];
  /** The whole of it, where it is one key from the node: most are. */
  key: string | undefined;
}

/** A place in a document: its node, what lies above it (document first), and what names have matched. */
export interface Match {
  node: Tree;
  above: Tree[];
  names: ReadonlyMap<string, string>;
  /** Which of the places of its path it is. */
  index: number;
}

export const NOTHING_ABOVE: Tree[] = [];
export const NO_NAMES: ReadonlyMap<string, string> = new Map();
export const root = (document: Tree): Match => ({
  node: document,
  above: NOTHING_ABOVE,
  names: NO_NAMES,
  index: 0,
});

/** A document without the value at a path of plain keys. */
export function withoutPlace(document: Tree, [first, ...more]: readonly Segment[]): Tree {
  if (first?.kind !== 'key' || !isObject(document)) return document;
  const child = own(document, first.key);
  if (child === undefined) return document;
  return { ...document, [first.key]: more.length === 0 ? null : withoutPlace(child, more) };
}

export function compilePath(text: string): Path | { error: string } {
  let rest = text === '.' ? '' : text;
  let up: number | undefined = 0;
  const climb = /^(\^+|\$)(?:\.|$)/.exec(rest);
  if (climb !== null) {
    up = climb[1] === '$' ? undefined : (climb[1] as string).length;
    rest = rest.slice(climb[0].length);
  }
  const segments: Segment[] = [];
  if (rest !== '') {
    for (const part of rest.split(/(?<!\\)\./)) {
      const key = part.replaceAll('\\.', '.');
      if (key === '') return { error: `path '${text}' has an empty part` };
      if (key === '*') segments.push({ kind: 'any' });
      else if (key.includes('{')) {
        const compiled = compileGlob(key);
        if ('error' in compiled) return { error: `path '${text}': ${compiled.error}` };
        // A key has no levels.
        segments.push({ kind: 'pattern', glob: { ...compiled, wide: undefined } });
      } else segments.push({ kind: 'key', key });
    }
  }
  const [only, ...more] = segments;
  const key = up === 0 && more.length === 0 && only?.kind === 'key' ? only.key : undefined;
  return { text, up, segments, key };
}

/** A member or element. */
export function childOf(node: Tree | undefined, key: string): Tree | undefined {
  if (node === undefined) return undefined;
  if (Array.isArray(node)) return /^\d+$/.test(key) ? node[Number(key)] : undefined;
  return isObject(node) ? own(node, key) : undefined;
}

function childrenOf(node: Tree): [string, Tree][] {
  if (Array.isArray(node)) return node.map((child, index) => [String(index), child]);
  return isObject(node) ? Object.entries(node) : [];
}

/** Every place that a path leads to, in the document's order. */
export function select(document: Tree, path: Path): Match[] {
  let matches: Match[] = [root(document)];
  for (const segment of path.segments) {
    const next: Match[] = [];
    for (const { node, above, names } of matches) {
      const over = [...above, node];
      if (segment.kind === 'key') {
        const child = childOf(node, segment.key);
        if (child !== undefined) next.push({ node: child, above: over, names, index: next.length });
        continue;
      }
      for (const [key, child] of childrenOf(node)) {
        if (segment.kind === 'any') {
          next.push({ node: child, above: over, names, index: next.length });
          continue;
        }
        const { glob } = segment;
        const found = matchKey(glob, key);
        if (found === undefined) continue;
        const more = glob.names.map((name, index): [string, string] => [name, found[index] ?? '']);
        const all = new Map([...names, ...more]);
        next.push({ node: child, above: over, names: all, index: next.length });
      }
    }
    matches = next;
  }
  return matches;
}

/** The first value that a path leads to from a place; undefined when there is none. */
export function valueAt({ node, above }: Match, { up, segments, key }: Path): Tree | undefined {
  if (key !== undefined) return childOf(node, key);
  const levels = [...above, node];
  const from = up === undefined ? levels[0] : levels[levels.length - 1 - up];
  if (from === undefined) return undefined;
  let current: Tree | undefined = from;
  for (const [index, segment] of segments.entries()) {
    if (segment.kind === 'key') {
      current = childOf(current, segment.key);
      if (current === undefined) return undefined;
      continue;
    }
    const rest: Path = { text: '', up: 0, segments: segments.slice(index), key: undefined };
    return select(current, rest)[0]?.node;
  }
  return current;
}

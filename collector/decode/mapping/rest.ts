/**
 * What of a document none of a mapping's points has taken: so that nothing vanishes without a word. A mapping claims the
 * places that its rules lead to and whatever else it names (times, tags, conditions). What stands beside them and holds a
 * value is left over.
 */
import { isObject, type Tree } from '../../../shared/codecs/tree.ts';
import { matchKey } from './glob.ts';
import type { Path, Segment } from './path.ts';
import { kindOf, type Kind, type Rule, type TextSource } from './rule.ts';

interface Claim {
  segments: readonly Segment[];
  /** Only places of this kind; 'flat': no objects. */
  is: Kind | 'flat' | undefined;
}

/** Undefined: everything is taken, or what is not is not wanted. */
export type Claims = readonly Claim[] | undefined;

/** Names of what is left over that are told. */
const NAMES_MAX = 20;

/** A path from a rule's place as one from the document; undefined where that cannot be told. */
function absolute(path: Path, each: Path): readonly Segment[] | undefined {
  if (path.up === undefined) return path.segments;
  const kept = each.segments.length - path.up;
  return kept < 0 ? undefined : [...each.segments.slice(0, kept), ...path.segments];
}

function sourcesOf(rule: Rule): Path[] {
  const texts: (TextSource | undefined)[] = [
    rule.measurement,
    rule.field,
    ...rule.tags.map(([, source]) => source),
    ...rule.units.values(),
  ];
  return [
    ...texts.flatMap((source) => (source !== undefined && 'path' in source ? [source.path] : [])),
    ...rule.time.flatMap(({ path, more, step }) => [
      path,
      ...more,
      ...(typeof step === 'object' ? [step] : []),
    ]),
    ...rule.when.map(({ path }) => path),
    ...(rule.fields ?? []).map(([, path]) => path),
    ...(rule.parallel ?? []).map(([, path]) => path),
  ];
}

/** Of each pair its name and its value: what else it says reaches no reading. */
function pairsOf({ pairs }: Rule): Path[] {
  if (pairs === undefined) return [];
  const { from, name, value } = pairs;
  return [name, value].flatMap((key) => {
    const member: Segment = { kind: 'key', key };
    return [
      { ...from, segments: [...from.segments, member] },
      { ...from, segments: [...from.segments, { kind: 'any' }, member] },
    ];
  });
}

/** `others`: what the mapping names besides, from the document. */
export function claimsOf(rules: readonly Rule[], others: readonly Path[]): Claims {
  const claims: Claim[] = others.map(({ segments }) => ({ segments, is: undefined }));
  for (const rule of rules) {
    const { each, is, nested, fields, pairs, parallel } = rule;
    // Pairs and parallel lists are all that their rule takes of its place.
    if (fields !== undefined || (pairs === undefined && parallel === undefined))
      claims.push(
        nested
          ? { segments: each.segments, is }
          : { segments: [...each.segments, { kind: 'any' }], is: 'flat' },
      );
    for (const path of [...sourcesOf(rule), ...pairsOf(rule)]) {
      const segments = absolute(path, each);
      if (segments !== undefined) claims.push({ segments, is: undefined });
    }
  }
  return claims.some(({ segments, is }) => segments.length === 0 && is === undefined)
    ? undefined
    : claims;
}

const isOf = ({ is }: Claim, value: Tree): boolean =>
  is === undefined || (is === 'flat' ? !isObject(value) : kindOf(value) === is);

function leads(segment: Segment, key: string): boolean {
  if (segment.kind === 'any') return true;
  return segment.kind === 'key' ? segment.key === key : matchKey(segment.glob, key) !== undefined;
}

export function hasValue(value: Tree): boolean {
  if (value === null) return false;
  if (Array.isArray(value)) return value.some(hasValue);
  return isObject(value) ? Object.values(value).some(hasValue) : true;
}

/** Paths of what is left over, shortest first found. */
export function leftOver(document: Tree, claims: readonly Claim[]): string[] {
  const left: string[] = [];
  walk(document, '', claims, left);
  return left;
}

function walk(node: Tree, at: string, claims: readonly Claim[], left: string[]): void {
  if (left.length >= NAMES_MAX) return;
  if (claims.some((claim) => claim.segments.length === 0 && isOf(claim, node))) return;
  const deeper = claims.filter(({ segments }) => segments.length > 0);
  if (deeper.length === 0 || typeof node !== 'object' || node === null) {
    if (hasValue(node)) left.push(at);
    return;
  }
  const children: [string, Tree][] = Array.isArray(node)
    ? node.map((child, index) => [String(index), child])
    : isObject(node)
      ? Object.entries(node)
      : [];
  for (const [key, child] of children) {
    const next = deeper
      .filter(({ segments }) => leads(segments[0] as Segment, key)) // Of those that have one.
      .map(({ segments, is }) => ({ segments: segments.slice(1), is }));
    walk(child, at === '' ? key : `${at}.${key}`, next, left);
  }
}

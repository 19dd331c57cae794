/** What a mapping says of one kind of point: where it is in the document, and what its tags, fields and time are. */
import type { TimeForm } from '../../../shared/codecs/device-time.ts';
import type { EpochUnit } from '../../../shared/codecs/time.ts';
import type { TimeRules } from '../../../shared/codecs/time.ts';
import { Untold, isObject, scalarOf, type Tree } from '../../../shared/codecs/tree.ts';
import type { FieldValue } from '../../../shared/model/reading.ts';
import type { Conversion } from './convert.ts';
import { valueAt, type Match, type Path } from './path.ts';
import type { TimePattern } from './time-pattern.ts';

export const KINDS = ['object', 'array', 'scalar'] as const;
export type Kind = (typeof KINDS)[number];

export const kindOf = (value: Tree): Kind =>
  Array.isArray(value) ? 'array' : isObject(value) ? 'object' : 'scalar';

/** What a value must be: there, not there, one of these, or of a kind. */
export interface Condition {
  path: Path;
  expect: true | false | readonly Tree[] | { is: Kind };
}

export interface TimeSource {
  path: Path;
  /** Joined to the first with a space: date and time in two fields. */
  more: readonly Path[];
  unit: EpochUnit | undefined;
  /** Of a text that names no zone; undefined: the site's. */
  zone: string | undefined;
  /** How a text is to be read. */
  pattern: TimePattern | undefined;
  /** Seconds from one element of a list to the next: its time is that of the first and so many of these. */
  step: number | Path | undefined;
  isHistory: boolean;
}

/** A value from a constant with `{name}` in it, from the document, or from the message's MQTT 5 user properties. */
export type TextSource = { constant: string } | { path: Path } | { property: string };

/** A number in the device's unit: value × by + add. */
export interface Scale {
  by: number;
  add: number;
}

export interface Rule {
  each: Path;
  /** Its tags are the same for every message of a topic. */
  hasFixedTags: boolean;
  /** Nothing of it concerns values: the points of a codec can stay as they are. */
  isPlain: boolean;
  /** Only places of this kind. */
  is: Kind | undefined;
  when: Condition[];
  measurement: TextSource | undefined;
  /** Name of a bare value. */
  field: TextSource | undefined;
  tags: [string, TextSource][];
  /** Those of `tags` that are the same for every message, where the rule is plain. */
  constants: Record<string, string> | undefined;
  /** Flattened names of values that become tags. */
  tagFields: ReadonlySet<string>;
  time: TimeSource[];
  /** Somebody has said what the time is: neither a codec's own nor what looks like one comes before it. */
  hasTime: boolean;
  /** Named values; undefined: everything below the node. */
  fields: [string, Path][] | undefined;
  /** Lists side by side: each index is a point of its own. */
  parallel: [string, Path][] | undefined;
  /** False: without the objects below the node. */
  nested: boolean;
  /** Lists of objects with times of their own are a point each. */
  timed: TimeForm | undefined;
  /** Flattened names that are left out. */
  drop: ReadonlySet<string>;
  /** Values of fields that the sender leaves out when they have them (proto3's zero). */
  defaults: ReadonlyMap<string, FieldValue>;
  types: ReadonlyMap<string, Conversion>;
  values: ReadonlyMap<string, ReadonlyMap<string, FieldValue>>;
  scale: ReadonlyMap<string, Scale>;
  /** Whether a value may be another one than the document's. */
  converts: boolean;
  rename: ReadonlyMap<string, string>;
  units: ReadonlyMap<string, TextSource>;
  /** A list of names and values. */
  pairs: { from: Path; name: string; value: string } | undefined;
  /** An object with this member is this member's value. */
  unwrap: { value: string; unit: string | undefined; name: string | undefined } | undefined;
}

/** What the topic gives: captured names, and names for what the payload does not name. */
export interface RuleContext {
  names: ReadonlyMap<string, string>;
  receivedMs: number;
  times: TimeRules;
  /** The message's user properties. */
  properties: readonly (readonly [string, string])[];
  /** Set when a rule has left out a value that it names: then nothing vanished. */
  hasDropped: boolean;
}

export function holds(condition: Condition, match: Match): boolean {
  const value = valueAt(match, condition.path);
  if (condition.expect === true) return value !== undefined;
  if (condition.expect === false) return value === undefined;
  if (value === undefined) return false;
  return 'is' in condition.expect
    ? kindOf(value) === condition.expect.is
    : condition.expect.some((each) => each === value);
}

/** `{name}` replaced by what names have matched. */
function fill(text: string, ...names: ReadonlyMap<string, string>[]): string {
  if (!text.includes('{')) return text;
  return text.replaceAll(/\{([\w-]+)\}/g, (whole, name: string) => {
    for (const each of names) {
      const value = each.get(name);
      if (value !== undefined) return value;
    }
    return whole;
  });
}

/** Every scalar member of an object is a tag: what a document itself says are tags. */
export const ALL_TAGS = '*';

/** A rule's tags at a place. What is empty is none. */
export function addTags(
  tags: Record<string, string>,
  rule: Rule,
  match: Match,
  context: RuleContext,
): void {
  for (const [name, source] of rule.tags) {
    if (name === ALL_TAGS && 'path' in source) {
      const all = valueAt(match, source.path);
      if (all === undefined || !isObject(all)) continue;
      for (const key of Object.keys(all)) {
        const text = tagText(all[key]);
        if (text !== undefined && text !== '') tags[key] = text;
      }
      continue;
    }
    const text = textOf(source, match, context);
    if (text !== undefined && text !== '') tags[name] = text;
  }
}

function tagText(value: Tree | undefined): string | undefined {
  if (value === undefined || value === null || Array.isArray(value)) return undefined;
  return isObject(value) || value instanceof Untold ? undefined : String(scalarOf(value));
}

export function textOf(source: TextSource, match: Match, context: RuleContext): string | undefined {
  if ('constant' in source) return fill(source.constant, match.names, context.names);
  if ('property' in source)
    return context.properties.find(([name]) => name === source.property)?.[1];
  return tagText(valueAt(match, source.path));
}

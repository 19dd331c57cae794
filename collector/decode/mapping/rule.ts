/**
 * Makes points of a document as a mapping's rule says: where they are, what their tags, fields and time are.
 * Nothing is bent on the way: a conversion that would lose something is an error, and the message goes to quarantine.
 */
import { isUtf8 } from 'node:buffer';
import {
  POINTS_MAX,
  Undecodable,
  setField,
  type Decoded,
  type FieldMeta,
} from '../../../shared/codecs/codec.ts';
import {
  fromEpoch,
  fromText,
  isLocalTime,
  isPlausible,
  type DeviceTime,
  type EpochUnit,
} from '../../../shared/codecs/time.ts';
import {
  Moment,
  flatten,
  isObject,
  own,
  scalarOf,
  type Tree,
} from '../../../shared/codecs/tree.ts';
import type { FieldValue } from '../../../shared/model/reading.ts';
import { select, valueAt, type Match, type Path } from './path.ts';

export const CONVERSIONS = ['number', 'text', 'bool', 'hex', 'base64', 'skip'] as const;
export type Conversion = (typeof CONVERSIONS)[number];

export const KINDS = ['object', 'array', 'scalar'] as const;
export type Kind = (typeof KINDS)[number];

const kindOf = (value: Tree): Kind =>
  Array.isArray(value) ? 'array' : isObject(value) ? 'object' : 'scalar';

/** What a value must be: there, not there, or one of these. */
export interface Condition {
  path: Path;
  expect: true | false | readonly Tree[];
}

export interface TimeSource {
  path: Path;
  unit: EpochUnit | undefined;
  /** Of a text that names no zone; undefined: it is UTC. 'local': only if the site's zone is configured. */
  zone: string | undefined;
}

/** A value from a constant with `{name}` in it, or from the document. */
export type TextSource = { constant: string } | { path: Path };

export interface Rule {
  each: Path;
  /** Its tags are the same for every message of a topic. */
  hasFixedTags: boolean;
  /** Only places of this kind. */
  is: Kind | undefined;
  when: Condition[];
  measurement: TextSource | undefined;
  /** Name of a bare value. */
  field: string | undefined;
  tags: [string, TextSource][];
  /** Flattened names of values that become tags. */
  tagFields: ReadonlySet<string>;
  time: TimeSource[];
  /** Named values; undefined: everything below the node. */
  fields: [string, Path][] | undefined;
  /** Flattened names that are left out. */
  drop: ReadonlySet<string>;
  /** Values of fields that the sender leaves out when they have them (proto3's zero). */
  defaults: ReadonlyMap<string, FieldValue>;
  types: ReadonlyMap<string, Conversion>;
  rename: ReadonlyMap<string, string>;
  units: ReadonlyMap<string, string>;
  /** A list of names and values. */
  pairs: { from: Path; name: string; value: string } | undefined;
  /** An object with this member is this member's value. */
  unwrap: { value: string; unit: string | undefined; name: string | undefined } | undefined;
}

/** What the topic gives: captured names, and names for what the payload does not name. */
export interface RuleContext {
  names: ReadonlyMap<string, string>;
  receivedMs: number;
  /** IANA name of the zone that devices without one mean; undefined: nobody has said. */
  localZone: string | undefined;
}

const NUMBER = /^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$/;
const TRUE = new Set(['true', 'on', 'yes', '1']);
const FALSE = new Set(['false', 'off', 'no', '0']);

export function holds(condition: Condition, match: Match): boolean {
  const value = valueAt(match, condition.path);
  if (condition.expect === true) return value !== undefined;
  if (condition.expect === false) return value === undefined;
  return value !== undefined && condition.expect.some((each) => each === value);
}

/** `{name}` replaced by what names have matched. */
function fill(text: string, ...names: ReadonlyMap<string, string>[]): string {
  return text.replaceAll(/\{([\w-]+)\}/g, (whole, name: string) => {
    for (const each of names) {
      const value = each.get(name);
      if (value !== undefined) return value;
    }
    return whole;
  });
}

export function textOf(source: TextSource, match: Match, context: RuleContext): string | undefined {
  if ('constant' in source) return fill(source.constant, match.names, context.names);
  const value = valueAt(match, source.path);
  if (value === undefined || value === null || Array.isArray(value) || isObject(value))
    return undefined;
  return String(scalarOf(value));
}

type Scalar = Exclude<Tree, null | Tree[] | { [key: string]: Tree }>;

function wrong(name: string, value: Scalar, wanted: string): never {
  const text = String(scalarOf(value)).slice(0, 40);
  throw new Undecodable(`'${name}' is to be ${wanted} and is '${text}'`);
}

/** A value as it is to be stored; undefined: left out. Throws Undecodable. */
function convert(
  name: string,
  value: Scalar,
  conversion: Conversion | undefined,
): FieldValue | bigint | undefined {
  switch (conversion) {
    case undefined:
      return scalarOf(value);
    case 'skip':
      return undefined;
    case 'number':
      if (typeof value === 'number' || typeof value === 'bigint') return value;
      if (typeof value !== 'string' || !NUMBER.test(value.trim()))
        return wrong(name, value, 'a number');
      return /^[-+]?\d+$/.test(value.trim())
        ? BigInt(value.trim().replace('+', ''))
        : Number(value);
    case 'text':
      if (!(value instanceof Uint8Array)) return String(scalarOf(value));
      return isUtf8(value) ? Buffer.from(value).toString('utf8') : wrong(name, value, 'text');
    case 'bool': {
      const text = String(value).toLowerCase();
      if (TRUE.has(text)) return true;
      return FALSE.has(text) ? false : wrong(name, value, 'true or false');
    }
    case 'hex':
    case 'base64':
      if (!(value instanceof Uint8Array)) return wrong(name, value, 'bytes');
      return Buffer.from(value).toString(conversion);
    default:
      return wrong(name, value, 'of a known type');
  }
}

/** The fields of one point, and what is known of them. */
class Point {
  readonly fields = new Map<string, FieldValue>();
  private meta: Map<string, FieldMeta> | undefined;
  private readonly rule: Rule;
  private readonly match: Match;
  private readonly context: RuleContext;
  /** The member of the node that became its time. */
  private timeKey: string | undefined;
  /** Names as they came. */
  private stored: Set<string> | undefined;

  constructor(rule: Rule, match: Match, context: RuleContext) {
    this.rule = rule;
    this.match = match;
    this.context = context;
  }

  decode(): Decoded {
    const { rule, match, context } = this;
    const time = this.time();
    if (rule.defaults.size > 0) this.stored = new Set();
    this.collect();
    for (const [name, value] of rule.defaults)
      if (this.stored?.has(name) === false) this.put(name, value);
    const tags: Record<string, string> = {};
    for (const [name, value] of match.names)
      if (name !== 'measurement' && name !== 'field') tags[name] = value;
    for (const [name, source] of rule.tags) {
      const text = textOf(source, match, context);
      if (text !== undefined && text !== '') tags[name] = text;
    }
    const decoded: Decoded = { tags, fields: this.fields };
    const named = match.names.get('measurement');
    const measurement =
      (rule.measurement === undefined ? undefined : textOf(rule.measurement, match, context)) ??
      named;
    if (measurement !== undefined && measurement !== '') decoded.measurement = measurement;
    if (time !== undefined) decoded.time = time;
    if (this.meta !== undefined) decoded.meta = this.meta;
    return decoded;
  }

  /** The first source that gives a plausible time. */
  private time(): DeviceTime | undefined {
    for (const { path, unit, zone } of this.rule.time) {
      const value = valueAt(this.match, path);
      const time = value === undefined ? undefined : this.timeOf(value, unit, zone);
      if (time === undefined || !isPlausible(time.ms, this.context.receivedMs)) continue;
      if (path.key !== undefined) this.timeKey = path.key;
      return time;
    }
    return undefined;
  }

  private timeOf(
    value: Tree,
    unit: EpochUnit | undefined,
    zone: string | undefined,
  ): DeviceTime | undefined {
    if (value instanceof Moment) return value.time;
    if (typeof value === 'number')
      return unit === undefined ? fromEpoch(value, undefined) : fromEpoch(value, undefined, unit);
    if (typeof value === 'bigint') return fromEpoch(Number(value), String(value));
    if (typeof value !== 'string') return undefined;
    if (unit !== undefined && NUMBER.test(value)) return fromEpoch(Number(value), value, unit);
    if (zone !== 'local' || !isLocalTime(value))
      return fromText(value, zone === 'local' ? 'UTC' : zone);
    // A clock reading of nobody knows which zone is not a time.
    return this.context.localZone === undefined
      ? undefined
      : fromText(value, this.context.localZone);
  }

  private collect(): void {
    const { rule, match } = this;
    const { node } = match;
    if (rule.pairs !== undefined) this.pairs(rule.pairs);
    if (rule.fields !== undefined) {
      for (const [name, path] of rule.fields) {
        const value = valueAt(match, path);
        if (value !== undefined) this.put(name, value);
      }
    } else if (isObject(node)) {
      if (rule.pairs !== undefined) return;
      for (const key of Object.keys(node))
        if (key !== this.timeKey) this.put(key, node[key] as Tree);
    } else if (rule.pairs === undefined) {
      this.put(Array.isArray(node) ? '' : this.bareName(), node);
    }
  }

  private bareName(): string {
    const { match, context, rule } = this;
    return match.names.get('field') ?? context.names.get('field') ?? rule.field ?? 'value';
  }

  /** `[{"value_type": "temperature", "value": "21.5"}]` and its like. */
  private pairs({ from, name, value }: NonNullable<Rule['pairs']>): void {
    const found = valueAt(this.match, from);
    if (found === undefined) return;
    const list = Array.isArray(found) ? found : [found];
    for (const each of list) {
      if (!isObject(each))
        throw new Undecodable(`'${from.text}' is not a list of names and values`);
      const key = own(each, name);
      const child = own(each, value);
      if (typeof key !== 'string')
        throw new Undecodable(`'${from.text}' has an element without '${name}'`);
      if (child !== undefined) this.put(key, child);
    }
  }

  private put(name: string, value: Tree): void {
    const { rule } = this;
    const opened = rule.unwrap === undefined ? value : this.unwrapped(name, value, rule.unwrap);
    if (typeof opened === 'number' || typeof opened === 'string' || typeof opened === 'boolean')
      this.store(name, opened);
    else flatten(this.fields, name, opened, (at, scalar) => this.store(at, scalar));
  }

  /** Objects that are a value with its unit and name beside it, at any depth. */
  private unwrapped(name: string, value: Tree, unwrap: NonNullable<Rule['unwrap']>): Tree {
    if (!isObject(value)) return value;
    const inner = own(value, unwrap.value);
    if (inner === undefined || isObject(inner) || Array.isArray(inner)) {
      return Object.fromEntries(
        Object.entries(value).map(([key, child]) => [
          key,
          this.unwrapped(name === '' ? key : `${name}_${key}`, child, unwrap),
        ]),
      );
    }
    const meta: FieldMeta = {};
    const unit = unwrap.unit === undefined ? undefined : own(value, unwrap.unit);
    const label = unwrap.name === undefined ? undefined : own(value, unwrap.name);
    if (typeof unit === 'string') meta.unit = unit;
    if (typeof label === 'string') meta.name = label;
    this.know(name, meta);
    const others = Object.entries(value).filter(
      ([key, child]) =>
        key !== unwrap.value &&
        !(key === unwrap.unit && typeof child === 'string') &&
        !(key === unwrap.name && typeof child === 'string'),
    );
    // What else the device says beside the value stays, under its own name.
    for (const [key, child] of others) this.put(`${name}_${key}`, child);
    return inner;
  }

  private know(name: string, more: FieldMeta): void {
    this.meta ??= new Map();
    this.meta.set(name, { ...this.meta.get(name), ...more });
  }

  private store(at: string, scalar: Scalar): void {
    const { rule } = this;
    if (rule.drop.size > 0 && rule.drop.has(at)) return;
    const { types } = rule;
    const conversion = types.size === 0 ? undefined : (types.get(at) ?? types.get('*'));
    const value = convert(at, scalar, conversion);
    if (value === undefined) return;
    this.stored?.add(at);
    const name = rule.rename.size === 0 ? at : (rule.rename.get(at) ?? at);
    if (rule.units.size > 0) {
      const unit = rule.units.get(name) ?? rule.units.get(at);
      if (unit !== undefined) this.know(name, { unit });
    }
    setField(this.fields, name, value);
  }
}

const NOTHING_ABOVE: Tree[] = [];
const NO_NAMES: ReadonlyMap<string, string> = new Map();

/** The points of a document. Throws Undecodable. */
export function applyRule(rule: Rule, document: Tree, context: RuleContext): Decoded[] {
  const decoded: Decoded[] = [];
  if (rule.each.segments.length === 0 && rule.is === undefined && rule.when.length === 0) {
    const whole: Match = { node: document, above: NOTHING_ABOVE, names: NO_NAMES };
    return [new Point(rule, whole, context).decode()];
  }
  for (const match of select(document, rule.each)) {
    if (rule.is !== undefined && kindOf(match.node) !== rule.is) continue;
    if (!rule.when.every((condition) => holds(condition, match))) continue;
    decoded.push(new Point(rule, match, context).decode());
    if (decoded.length > POINTS_MAX)
      throw new Undecodable(`more than ${POINTS_MAX} points in one message`);
  }
  return decoded;
}

/**
 * One point of a document, or of a codec's own point, as a mapping's rule says: names, types, values, units and time by
 * the same rules whatever codec the payload was of.
 */
import {
  Fields,
  Undecodable,
  plainName,
  type Decoded,
  type FieldMeta,
} from '../../../shared/codecs/codec.ts';
import { deviceTime } from '../../../shared/codecs/device-time.ts';
import { parseJson } from '../../../shared/codecs/exact-json.ts';
import { enclosedTime, isEnvelope, ownTime } from '../../../shared/codecs/time-keys.ts';
import { isHistoric, isLikely, type DeviceTime } from '../../../shared/codecs/time.ts';
import {
  flatten,
  isObject,
  own,
  scalarOf,
  type Scalar,
  type Tree,
  type TreeObject,
} from '../../../shared/codecs/tree.ts';
import type { FieldValue } from '../../../shared/model/reading.ts';
import { convert, quantityOf } from './convert.ts';
import { NO_NAMES, NOTHING_ABOVE, valueAt, type Match, type Path } from './path.ts';
import {
  addTags,
  textOf,
  type Rule,
  type RuleContext,
  type Scale,
  type TimeSource,
} from './rule.ts';
import { readPattern } from './time-pattern.ts';

const NS_PER_MS = 1_000_000;
const NONE: readonly Path[] = [];

function moved({ ms, ns, fine }: DeviceTime, seconds: number): DeviceTime {
  if (seconds === 0) return { ms, ns, fine };
  const nanos = ns + Math.round(seconds * 1e9);
  const rest = ((nanos % NS_PER_MS) + NS_PER_MS) % NS_PER_MS;
  return { ms: ms + (nanos - rest) / NS_PER_MS, ns: rest, fine: fine || rest !== 0 };
}

export class Point {
  readonly fields = new Fields();
  private meta: Map<string, FieldMeta> | undefined;
  private readonly rule: Rule;
  private readonly match: Match;
  private readonly context: RuleContext;
  /** The member of the node that became its time. */
  private timeKey: string | undefined;
  /** The name of the value below the node's members that became its time. */
  private timeName: string | undefined;
  /** Others that were joined to it. */
  private timeMore: readonly Path[] = NONE;
  /** Names as they came. */
  private stored: Set<string> | undefined;

  constructor(rule: Rule, match: Match, context: RuleContext) {
    this.rule = rule;
    this.match = match;
    this.context = context;
  }

  decode(): Decoded {
    const { rule, match, context } = this;
    if (rule.defaults.size > 0) this.stored = new Set();
    const time = rule.hasTime ? this.time() : this.usualTime();
    this.collect();
    this.addDefaults();
    const tags: Record<string, string> = match.names.size === 0 ? {} : this.namedTags();
    addTags(tags, rule, match, context);
    const decoded: Decoded = { tags, fields: this.fields };
    const measurement =
      (rule.measurement === undefined ? undefined : textOf(rule.measurement, match, context)) ??
      match.names.get('measurement');
    if (measurement !== undefined && measurement !== '') decoded.measurement = measurement;
    if (time !== undefined) decoded.time = time;
    if (this.meta !== undefined) decoded.meta = this.meta;
    return decoded;
  }

  /** What a rule makes of a codec's own point. */
  refine(given: Decoded): Decoded {
    const { rule } = this;
    if (rule.defaults.size > 0) this.stored = new Set();
    const time = rule.hasTime ? this.time() : undefined;
    if (rule.fields !== undefined) this.collect();
    else
      for (const [typed, value] of given.fields) {
        const name = plainName(typed, value);
        if (this.isTime(name)) continue;
        const known = given.meta?.get(name);
        if (known !== undefined) this.know(rule.rename.get(name) ?? name, known);
        this.store(name, value);
      }
    if (rule.fields === undefined)
      for (const [name, value] of given.fields.large ?? []) this.store(name, value);
    this.addDefaults();
    const tags = { ...given.tags };
    addTags(tags, rule, this.match, this.context);
    this.fields.inherit(given.fields);
    const decoded: Decoded = { tags, fields: this.fields };
    const measurement =
      rule.measurement === undefined
        ? undefined
        : textOf(rule.measurement, this.match, this.context);
    const name = measurement ?? given.measurement;
    if (name !== undefined && name !== '') decoded.measurement = name;
    // `time: false` says that the sender's time is none.
    const its = rule.hasTime && rule.time.length === 0 ? undefined : given.time;
    const at = time ?? its;
    if (at !== undefined) decoded.time = at;
    if (this.meta !== undefined) decoded.meta = this.meta;
    return decoded;
  }

  private namedTags(): Record<string, string> {
    const tags: Record<string, string> = {};
    for (const [name, value] of this.match.names)
      if (name !== 'measurement' && name !== 'field' && !name.startsWith('_') && value !== '')
        tags[name] = value;
    return tags;
  }

  private addDefaults(): void {
    const { stored, rule } = this;
    if (stored === undefined || this.fields.size === 0) return;
    for (const [name, value] of rule.defaults) if (!stored.has(name)) this.store(name, value);
  }

  /** The first source that gives a plausible time. */
  private time(): DeviceTime | undefined {
    for (const source of this.rule.time) {
      const { path } = source;
      const value = valueAt(this.match, path);
      const time = value === undefined ? undefined : this.timeOf(value, source);
      if (time === undefined) continue;
      this.timeKey = path.key;
      this.timeMore = source.more;
      return time;
    }
    return undefined;
  }

  /** Where nobody has said what it is: as without a mapping. */
  private usualTime(): DeviceTime | undefined {
    const { node } = this.match;
    if (!isObject(node)) return undefined;
    const { receivedMs, times } = this.context;
    const own = ownTime(node, receivedMs, times);
    if (own !== undefined) {
      this.timeKey = own.key;
      return own.time;
    }
    const keys = Object.keys(node);
    for (const key of keys) {
      const child = node[key] as Tree;
      if (!isEnvelope(key, child, keys.length)) continue;
      const found = enclosedTime(key, child, receivedMs, times);
      if (found === undefined) continue;
      this.timeName = found.name;
      return found.time;
    }
    return undefined;
  }

  private isTime(key: string): boolean {
    return key === this.timeKey || this.timeMore.some((path) => path.key === key);
  }

  private timeOf(value: Tree, source: TimeSource): DeviceTime | undefined {
    const { receivedMs, times } = this.context;
    const { more, pattern, step, isHistory } = source;
    let time: DeviceTime | undefined;
    if (pattern === undefined && more.length === 0)
      time = deviceTime(value, receivedMs, times, source);
    else {
      const parts = [value, ...more.map((path) => valueAt(this.match, path))];
      if (parts.some((part) => typeof part !== 'string' && typeof part !== 'number'))
        return undefined;
      const text = parts.map(String).join(' ');
      if (pattern === undefined) time = deviceTime(text, receivedMs, times, source);
      else {
        time = readPattern(pattern, text, source.zone ?? times.localZone);
        if (time !== undefined) {
          const isBelieved = isHistory
            ? isHistoric(time.ms, receivedMs)
            : isLikely(time.ms, receivedMs, times);
          if (!isBelieved) return undefined;
        }
      }
    }
    if (time === undefined || step === undefined) return time;
    const seconds = typeof step === 'number' ? step : Number(valueAt(this.match, step));
    return Number.isFinite(seconds) ? moved(time, seconds * this.match.index) : time;
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
      for (const key of Object.keys(node)) {
        const value = node[key] as Tree;
        if (!this.isTime(key) && (rule.nested || !isObject(value))) this.put(key, value);
      }
    } else if (rule.pairs === undefined) this.bare(node);
  }

  private bare(node: Tree): void {
    const name = this.bareName(Array.isArray(node) ? '' : 'value');
    if (typeof node !== 'string' || this.rule.types.get(name) !== 'json') this.put(name, node);
    else this.parsed(name, node);
  }

  /** A text that is a document: its values under their own names. */
  private parsed(name: string, text: string): void {
    try {
      const value = parseJson(text);
      if (!isObject(value)) this.put(name, value);
      else for (const key of Object.keys(value)) this.put(key, value[key] as Tree);
    } catch (error) {
      if (!(error instanceof Undecodable)) throw error;
      this.fields.problem(`'${name}': ${error.message}`);
    }
  }

  private bareName(usual: string): string {
    const { match, context, rule } = this;
    const said = rule.field === undefined ? undefined : textOf(rule.field, match, context);
    return match.names.get('field') || (context.names.get('field') ?? said ?? usual);
  }

  /** `[{"value_type": "temperature", "value": "21.5"}]` and its like. */
  private pairs({ from, name, value }: NonNullable<Rule['pairs']>): void {
    const found = valueAt(this.match, from);
    if (found === undefined) return;
    const list = Array.isArray(found) ? found : [found];
    for (const each of list) {
      const key = isObject(each) ? own(each, name) : undefined;
      if (!isObject(each) || typeof key !== 'string') {
        this.fields.problem(`'${from.text}' has an element without '${name}'`);
        continue;
      }
      const child = own(each, value);
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
    if (at === this.timeName) return;
    if (rule.drop.size > 0 && rule.drop.has(at)) {
      this.context.hasDropped = true;
      return;
    }
    const name = rule.rename.size === 0 ? at : (rule.rename.get(at) ?? at);
    const value = rule.converts ? this.converted(at, name, scalar) : scalarOf(scalar);
    if (value === undefined) return;
    this.stored?.add(at);
    if (rule.units.size > 0) {
      const source = rule.units.get(name) ?? rule.units.get(at) ?? rule.units.get('*');
      const unit = source === undefined ? undefined : textOf(source, this.match, this.context);
      if (unit !== undefined && unit !== '') this.know(name, { unit });
    }
    this.fields.set(name, value);
  }

  /** Undefined: left out, or this value's own problem. */
  private converted(at: string, name: string, scalar: Scalar): FieldValue | bigint | undefined {
    const { types, values, scale } = this.rule;
    const conversion = types.get(at) ?? types.get('*');
    try {
      const mapped = (values.get(at) ?? values.get('*'))?.get(String(scalarOf(scalar)));
      const given = mapped ?? scalar;
      if (conversion === 'json' && typeof given === 'string') {
        this.inner(at, given);
        return undefined;
      }
      if (conversion === 'skip') this.context.hasDropped = true;
      if (conversion === 'quantity') {
        const { unit } = quantityOf(at, given);
        if (unit !== undefined) this.know(name, { unit });
      }
      const value = convert(at, given, conversion === 'json' ? undefined : conversion);
      const factor = scale.get(at) ?? scale.get('*');
      return factor === undefined || value === undefined ? value : scaled(value, factor);
    } catch (error) {
      if (!(error instanceof Undecodable)) throw error;
      this.fields.problem(error.message);
      return undefined;
    }
  }

  private document(at: string, text: string): Tree {
    try {
      return parseJson(text);
    } catch (error) {
      if (!(error instanceof Undecodable)) throw error;
      throw new Undecodable(`'${at}': ${error.message}`, { cause: error });
    }
  }

  /** JSON inside a text. */
  private inner(at: string, text: string): void {
    flatten(this.fields, at, this.document(at, text), (name, scalar) => {
      if (name === at) this.fields.set(name, scalarOf(scalar));
      else this.store(name, scalar);
    });
  }
}

/** Numbers alone; to the digits that a double has of them, not to those of its binary rest. */
function scaled(value: FieldValue | bigint, { by, add }: Scale): FieldValue | bigint {
  if (typeof value !== 'number' && typeof value !== 'bigint') return value;
  const result = Number(value) * by + add;
  return Number.isFinite(result) ? Number(result.toPrecision(15)) : result;
}

/** The points of a codec as a document, for the paths of a rule. */
export function refined(rule: Rule, given: Decoded, context: RuleContext): Decoded {
  const node: TreeObject = {};
  for (const [typed, value] of given.fields) {
    const name = plainName(typed, value);
    if (!Object.hasOwn(node, name))
      Object.defineProperty(node, name, { value, enumerable: true, configurable: true });
  }
  for (const [name, value] of given.fields.large ?? [])
    if (!Object.hasOwn(node, name)) node[name] = value;
  const match: Match = { node, above: NOTHING_ABOVE, names: NO_NAMES, index: 0 };
  return new Point(rule, match, context).refine(given);
}

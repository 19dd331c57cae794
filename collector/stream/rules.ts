/**
 * Stream rules as a user writes them in YAML, checked whole at the start: `docs/streams.md` describes them.
 * Names of rules are identities: results of a renamed rule are another rule's.
 */
import { createHash } from 'node:crypto';
import { parse } from 'yaml';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { wildcard } from '../../shared/model/wildcard.ts';
import { SIMPLE, isAggregate } from './aggregate.ts';
import { parseExpression, type Expression } from './expression.ts';
import { StreamFunction } from './function.ts';

export interface Source {
  measurement: (name: string) => boolean;
  /** It can mean more than one measurement. */
  isWide: boolean;
  /** Which fields; undefined: all that hold numbers. */
  field: ((name: string) => boolean) | undefined;
  tags: readonly [string, (value: string) => boolean][];
}

export interface Derivation {
  field: string;
  expression: Expression;
}

interface Common {
  name: string;
  /** As its author wrote it. */
  entry: Readonly<Record<string, unknown>>;
  /** Of what it says: its state is another's when that changes. */
  hash: string;
  /** Of results. */
  measurement: string;
  /** Tags that results keep; undefined: all, so that each series is by itself. */
  group: readonly string[] | undefined;
}

/** Windows over each field, or over several inputs that an expression combines. */
export interface WindowRule extends Common {
  kind: 'window';
  /** By name; one without a name stands for the field's own. */
  inputs: readonly { name: string | undefined; source: Source }[];
  sizeMs: number;
  /** From the begin of one window to that of the next. */
  everyMs: number;
  /** Of every field; of inputs as far as expressions ask for them. */
  compute: readonly string[];
  latenessMs: number;
  derive: readonly Derivation[];
}

export interface DeriveRule extends Common {
  kind: 'derive';
  source: Source;
  derive: readonly Derivation[];
}

export interface Bound {
  above?: number;
  below?: number;
  /** Where it ends; the bound itself unless something else is said. */
  clear: number;
}

export interface AlertRule extends Common {
  kind: 'alert';
  source: Source;
  /** Of the value, or of its change. */
  bounds: readonly Bound[];
  /** The value is its change in so many milliseconds. */
  ratePerMs: number | undefined;
  forMs: number;
}

export interface SilenceRule extends Common {
  kind: 'silence';
  source: Source;
  afterMs: number;
}

export interface FunctionRule extends Common {
  kind: 'function';
  source: Source;
  run: StreamFunction;
}

export type Rule = WindowRule | DeriveRule | AlertRule | SilenceRule | FunctionRule;

/** All alerts are of this measurement, with the rule as a tag. */
export const ALERTS = 'alerts';

const RULES_MAX = 1000;
/** A reading is in so many sliding windows at most. */
const OVERLAP_MAX = 100;
const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;

type Entry = Record<string, unknown>;

const isEntry = (value: unknown): value is Entry =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function fail(where: string, why: string): never {
  throw new HeadwaterError('RULE_INVALID', `${where}: ${why}`);
}

function known(entry: Entry, keys: readonly string[], where: string): void {
  for (const key of Object.keys(entry))
    if (!keys.includes(key)) fail(where, `'${key}' is not known; known are ${keys.join(', ')}`);
}

const UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

function duration(value: unknown, where: string): number {
  const [, count, unit = ''] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(String(value)) ?? [];
  const ms = Number(count) * (UNITS[unit] ?? Number.NaN);
  if (!Number.isInteger(ms) || ms <= 0)
    fail(where, `'${String(value)}' is not a duration such as 30s, 5m, 1h or 1d`);
  return ms;
}

function number(value: unknown, where: string): number {
  return typeof value === 'number' && Number.isFinite(value)
    ? value
    : fail(where, `'${String(value)}' is not a number`);
}

function texts(value: unknown, where: string): string[] {
  const list = Array.isArray(value) ? value : [value];
  if (list.length === 0 || list.some((each) => typeof each !== 'string' || each === ''))
    fail(where, 'is not a text or a list of texts');
  return list as string[]; // Checked above.
}

/** Exact names, with `*` for any characters. */
function pattern(value: unknown, where: string): (name: string) => boolean {
  const list = texts(
    Array.isArray(value)
      ? value.map((each) => (typeof each === 'number' ? String(each) : each))
      : typeof value === 'number'
        ? String(value)
        : value,
    where,
  );
  const exact = new Set(list.filter((each) => !each.includes('*')));
  const others = list.filter((each) => each.includes('*')).map(wildcard);
  return (name) => exact.has(name) || others.some((matches) => matches(name));
}

function sourceOf(value: unknown, where: string): Source {
  if (!isEntry(value)) fail(where, 'says which readings: measurement, field, tags');
  known(value, ['measurement', 'field', 'tags'], where);
  const { measurement, field, tags = {} } = value;
  if (measurement === undefined) fail(where, 'measurement is missing');
  if (!isEntry(tags)) fail(`${where}.tags`, 'is not a list of names and values');
  return {
    measurement: pattern(measurement, `${where}.measurement`),
    isWide: Array.isArray(measurement) || `${measurement as string | number}`.includes('*'),
    field: field === undefined ? undefined : pattern(field, `${where}.field`),
    tags: Object.entries(tags).map(([name, each]) => [
      name,
      pattern(each, `${where}.tags.${name}`),
    ]),
  };
}

function derivations(value: unknown, where: string): Derivation[] {
  if (!isEntry(value) || Object.keys(value).length === 0)
    fail(where, 'names fields and their expressions');
  return Object.entries(value).map(([field, source]) => {
    const at = `${where}.${field}`;
    if (typeof source !== 'string' && typeof source !== 'number') fail(at, 'is not an expression');
    return { field, expression: parseExpression(String(source), at) };
  });
}

function windowRule(entry: Entry, common: Common, where: string): WindowRule {
  const { window, compute, lateness = '1h', from, inputs, derive } = entry;
  let size: unknown = window;
  let every: unknown = window;
  if (isEntry(window)) {
    known(window, ['size', 'every'], `${where}.window`);
    size = window['size'];
    every = window['every'] ?? size;
  }
  const sizeMs = duration(size, `${where}.window`);
  const everyMs = duration(every, `${where}.window.every`);
  if (sizeMs % everyMs !== 0 || sizeMs / everyMs > OVERLAP_MAX)
    fail(`${where}.window`, `size is a multiple of every, at most ${OVERLAP_MAX} times`);
  const base = { ...common, kind: 'window' as const, sizeMs, everyMs };
  const latenessMs = duration(lateness, `${where}.lateness`);
  if (inputs === undefined) {
    const names = texts(compute ?? ['count', 'mean', 'min', 'max'], `${where}.compute`);
    const wrong = names.find((name) => !isAggregate(name));
    if (wrong !== undefined)
      fail(
        `${where}.compute`,
        `'${wrong}' is no aggregate; known are ${SIMPLE.join(', ')}, median, p1 to p100`,
      );
    const source = sourceOf(from, `${where}.from`);
    const own = [{ name: undefined, source }];
    return { ...base, inputs: own, compute: names, latenessMs, derive: [] };
  }
  if (from !== undefined || compute !== undefined)
    fail(where, 'a rule with inputs has no from and no compute');
  if (!isEntry(inputs) || Object.keys(inputs).length === 0)
    fail(`${where}.inputs`, 'names inputs and their readings');
  if (common.group === undefined)
    fail(where, 'a rule with inputs needs group: the tags whose values they share ([] for none)');
  const list = Object.entries(inputs).map(([name, source]) => ({
    name,
    source: sourceOf(source, `${where}.inputs.${name}`),
  }));
  const own = derivations(derive, `${where}.derive`);
  const asked = new Set<string>();
  for (const { field, expression } of own)
    for (const name of expression.names) {
      const [input, aggregate] = splitName(name);
      const at = `${where}.derive.${field}`;
      if (!Object.hasOwn(inputs, input)) fail(at, `there is no input '${input}'`);
      if (!isAggregate(aggregate)) fail(at, `'${aggregate}' is no aggregate`);
      asked.add(aggregate);
    }
  return { ...base, inputs: list, compute: [...asked], latenessMs, derive: own };
}

/** `input.aggregate`, or the input alone. */
export function splitName(name: string): [input: string, aggregate: string] {
  const cut = name.indexOf('.');
  return cut < 0 ? [name, 'mean'] : [name.slice(0, cut), name.slice(cut + 1)];
}

function bound(entry: Entry, where: string): Bound[] {
  const { above, below, clear } = entry;
  if (above === undefined && below === undefined) fail(where, 'needs above or below');
  if (clear !== undefined && above !== undefined && below !== undefined)
    fail(where, 'clear goes with above or with below: make two rules');
  const bounds: Bound[] = [];
  if (above !== undefined) {
    const limit = number(above, `${where}.above`);
    const end = clear === undefined ? limit : number(clear, `${where}.clear`);
    if (end > limit) fail(`${where}.clear`, 'is not above the bound');
    bounds.push({ above: limit, clear: end });
  }
  if (below !== undefined) {
    const limit = number(below, `${where}.below`);
    const end = clear === undefined ? limit : number(clear, `${where}.clear`);
    if (end < limit) fail(`${where}.clear`, 'is not below the bound');
    bounds.push({ below: limit, clear: end });
  }
  return bounds;
}

function alertRule(entry: Entry, common: Common, where: string): AlertRule | SilenceRule {
  const at = `${where}.alert`;
  const { alert } = entry;
  const source = sourceOf(entry['from'], `${where}.from`);
  if (!isEntry(alert)) fail(at, 'says when: above, below, clear, for, rate, or silent');
  known(alert, ['above', 'below', 'clear', 'for', 'rate', 'silent'], at);
  const { silent, rate } = alert;
  if (silent !== undefined) {
    known(alert, ['silent'], at);
    return { ...common, kind: 'silence', source, afterMs: duration(silent, `${at}.silent`) };
  }
  const forMs = alert['for'] === undefined ? 0 : duration(alert['for'], `${at}.for`);
  let limits: Entry = alert;
  let ratePerMs: number | undefined;
  if (rate !== undefined) {
    if (!isEntry(rate)) fail(`${at}.rate`, 'has above or below, clear, and per');
    known(rate, ['above', 'below', 'clear', 'per'], `${at}.rate`);
    known(alert, ['rate', 'for'], at);
    ratePerMs = duration(rate['per'], `${at}.rate.per`);
    limits = rate;
  }
  return { ...common, kind: 'alert', source, bounds: bound(limits, at), ratePerMs, forMs };
}

/** Reads a file that a rule names. */
export type ReadFile = (name: string) => string;

function ruleOf(entry: unknown, where: string, read: ReadFile): Rule {
  if (!isEntry(entry)) fail(where, 'is not a rule');
  const { name, measurement, group } = entry;
  if (typeof name !== 'string' || !NAME.test(name))
    fail(where, `name '${String(name)}' is not a name: letters, digits, . _ -`);
  const at = `${where} (${name})`;
  const kinds = ['window', 'alert', 'function', 'derive'].filter(
    (kind) => entry[kind] !== undefined,
  );
  const own = ['name', 'measurement', 'group', 'from'];
  const common: Common = {
    name,
    entry,
    hash: createHash('sha256').update(JSON.stringify(entry)).digest('hex').slice(0, 8),
    measurement:
      measurement === undefined ? name : (texts(measurement, `${at}.measurement`)[0] ?? name),
    group:
      group === undefined
        ? undefined
        : Array.isArray(group) && group.length === 0
          ? []
          : texts(group, `${at}.group`).toSorted(),
  };
  if (entry['window'] !== undefined) {
    known(entry, [...own, 'window', 'compute', 'lateness', 'inputs', 'derive'], at);
    return windowRule(entry, common, at);
  }
  if (kinds.length !== 1) fail(at, 'is one of window, derive, alert, function');
  if (entry['derive'] !== undefined) {
    known(entry, ['name', 'measurement', 'from', 'derive'], at);
    const source = sourceOf(entry['from'], `${at}.from`);
    const derive = derivations(entry['derive'], `${at}.derive`);
    return { ...common, kind: 'derive', source, derive };
  }
  if (entry['alert'] !== undefined) {
    known(entry, ['name', 'group', 'from', 'alert'], at);
    return { ...alertRule(entry, common, at), measurement: ALERTS };
  }
  known(entry, [...own, 'function'], at);
  const [file = ''] = texts(entry['function'], `${at}.function`);
  const text = read(file);
  const hash = createHash('sha256').update(common.hash).update(text).digest('hex').slice(0, 8);
  const source = sourceOf(entry['from'], `${at}.from`);
  return { ...common, hash, kind: 'function', source, run: new StreamFunction(file, text) };
}

/** Throws RULE_INVALID, naming file and place. */
export function parseRules(text: string, file: string, read: ReadFile): Rule[] {
  let document: unknown;
  try {
    document = parse(text);
  } catch (error) {
    return fail(file, messageOf(error).split('\n')[0] ?? '');
  }
  if (!isEntry(document)) fail(file, 'has no rules');
  known(document, ['rules', 'deliver'], file);
  const { rules = [] } = document;
  if (!Array.isArray(rules)) fail(`${file}: rules`, 'is not a list');
  if (rules.length > RULES_MAX) fail(`${file}: rules`, `are more than ${RULES_MAX}`);
  const made = rules.map((entry, index) => ruleOf(entry, `${file}: rules[${index}]`, read));
  const names = new Set<string>();
  const measurements = new Map<string, string>();
  for (const { name, measurement } of made) {
    if (names.has(name)) fail(`${file}: rules`, `two are named '${name}'`);
    names.add(name);
    const other = measurements.get(measurement);
    // Their points would be each other's.
    if (other !== undefined && measurement !== ALERTS)
      fail(
        `${file}: rules`,
        `'${name}' and '${other}' both write the measurement '${measurement}'`,
      );
    measurements.set(measurement, name);
  }
  return made;
}

/** What a SELECT's columns are made of: base values from SQL, what runs over them, and sums of both. Throws QUERY_INVALID. */
import type { Kind } from '../store/duckdb-catalog.ts';
import type { Call, Expr, Reference, Select } from './ast.ts';
import { functionOf } from './functions.ts';
import { invalid } from './time.ts';

/** A field's points, or a function's value of each bucket. */
export interface Base {
  /** Null: the points themselves. */
  fn: string | null;
  field: string;
  kind: Kind;
  isDistinct: boolean;
  /** N, or a unit in nanoseconds. */
  argument: number;
  /** Why its field's type cannot be answered: said where there are such series. */
  refused?: string;
}

export interface Running {
  name: string;
  argument: number | undefined;
}

export interface Stream {
  base: Base;
  running: Running[];
}

export type Value =
  | { type: 'constant'; value: number }
  | { type: 'tag'; name: string }
  | { type: 'stream'; index: number }
  | { type: 'binary'; op: string; left: Value; right: Value }
  | { type: 'math'; name: string; args: Value[] };

export interface Names {
  fields: ReadonlyMap<string, Kind>;
  tags: ReadonlySet<string>;
  /** Of all tags and fields, which a regular expression finds. */
  found: (source: string) => ReadonlySet<string>;
}

export interface Plan {
  columns: { name: string; value: Value }[];
  streams: Stream[];
  /** Points as they are; else values of buckets or runs. */
  isRaw: boolean;
  /** A selector beside fields or tags of its point. */
  isPicked: boolean;
}

export const TYPE_NAMES: Record<Kind, string> = { num: 'float', txt: 'string', bool: 'boolean' };

/** As InfluxDB names a column. */
function nameOf(expr: Expr): string {
  if (expr.type === 'reference' || expr.type === 'call') return expr.name;
  if (expr.type !== 'binary') return '';
  const names = (each: Expr): string[] =>
    each.type === 'binary'
      ? [...names(each.left), ...names(each.right)]
      : each.type === 'reference' || each.type === 'call'
        ? [each.name]
        : [];
  return names(expr).join('_');
}

/** An alias stays what it is, however often it is there; of names that are made, a later one gets a number. */
function titlesOf(fields: Select['fields']): string[] {
  const counts = new Map<string, number>();
  for (const { alias } of fields) if (alias !== null) counts.set(alias, 1);
  return fields.map(({ expr, alias }) => {
    if (alias !== null) return alias;
    const wished = nameOf(expr);
    let count = counts.get(wished) ?? 0;
    let name = wished;
    if (count > 0) {
      while (counts.has(`${wished}_${count}`)) count++;
      name = `${wished}_${count}`;
      counts.set(wished, count + 1);
    }
    counts.set(name, (counts.get(name) ?? 0) + 1);
    return name;
  });
}

const isTag = ({ name, kind }: Reference, { fields, tags }: Names): boolean =>
  kind === 'tag' || (kind === null && !fields.has(name) && tags.has(name));

const wildcardOf = (expr: Expr): Extract<Expr, { type: 'wildcard' | 'regex' }> | undefined => {
  if (expr.type === 'wildcard' || expr.type === 'regex') return expr;
  if (expr.type !== 'call') return undefined;
  return expr.args[0] === undefined ? undefined : wildcardOf(expr.args[0]);
};

const replaceFirst = (expr: Expr, by: Expr): Expr =>
  expr.type === 'call'
    ? { ...expr, args: [replaceFirst(expr.args[0] as Expr, by), ...expr.args.slice(1)] } // It has one: a wildcard.
    : by;

/** The innermost function around a wildcard decides which fields it can be of. */
function takes(expr: Expr, kind: Kind): boolean {
  if (expr.type !== 'call' || kind === 'num') return true;
  const inner = expr.args[0];
  if (inner?.type === 'call') return takes(inner, kind);
  const { ofAnything, ofTruth } = functionOf(expr.name);
  return ofAnything === true || (ofTruth === true && kind === 'bool');
}

/** `*`, `/…/` and functions of them, as the fields that there are. */
function expanded(select: Select, names: Names, grouped: ReadonlySet<string>): Select['fields'] {
  // Where tags are grouped by a wildcard, none is a column.
  const isApart = select.groupBy.some(({ type }) => type === 'wildcard' || type === 'regex');
  return select.fields.flatMap((field) => {
    const { expr, alias } = field;
    const wildcard = wildcardOf(expr);
    if (wildcard === undefined) return [field];
    const isCall = expr.type === 'call';
    const kind = wildcard.type === 'wildcard' ? wildcard.kind : null;
    const found = wildcard.type === 'regex' ? names.found(wildcard.source) : undefined;
    const has = (name: string): boolean => found?.has(name) !== false;
    const fields = kind === 'tag' ? [] : [...names.fields.keys()].filter(has);
    const tags =
      kind === 'field' || isCall || isApart
        ? []
        : [...names.tags].filter((tag) => !grouped.has(tag) && has(tag) && !names.fields.has(tag));
    const all = [
      ...fields.map((name) => ({ name, kind: 'field' })),
      ...tags.map((name) => ({ name, kind: 'tag' })),
    ].sort((a, b) => (a.name < b.name ? -1 : 1));
    return all
      .filter(({ name }) => takes(expr, names.fields.get(name) ?? 'num'))
      .map(({ name, kind }) => ({
        expr: replaceFirst(expr, { type: 'reference', name, kind }),
        alias: isCall ? `${alias ?? expr.name}_${name}` : name,
      }));
  });
}

function numberArgument(call: Call, index: number, fallback: number): number {
  const arg = call.args[index];
  if (arg === undefined) return fallback;
  if (arg.type === 'duration') {
    if (arg.ns <= 0n) return invalid(`duration argument must be positive, got ${arg.ns}ns`);
    return Number(arg.ns);
  }
  if (arg.type === 'number') return arg.value;
  return invalid(`invalid argument in ${call.name}(): a number or a duration is needed`);
}

const SECOND = 1e9;

const refusal = (fn: string, { kind }: Base): string =>
  `unsupported ${fn} iterator type: ${TYPE_NAMES[kind]}`;

class Planner {
  readonly streams: Stream[] = [];
  private readonly names: Names;
  private readonly everyNs: number | undefined;
  private readonly limit: number;
  /** Fields or tags as they are stand beside functions. */
  refersRaw = false;
  refersCall = false;

  constructor(names: Names, everyNs: number | undefined, limit: number) {
    this.names = names;
    this.everyNs = everyNs;
    this.limit = limit;
  }

  private stream(stream: Stream): Value {
    const text = JSON.stringify(stream);
    const known = this.streams.findIndex((each) => JSON.stringify(each) === text);
    return { type: 'stream', index: known >= 0 ? known : this.streams.push(stream) - 1 };
  }

  value(expr: Expr): Value {
    switch (expr.type) {
      case 'number':
        return { type: 'constant', value: expr.value };
      case 'reference':
        this.refersRaw = true;
        if (isTag(expr, this.names)) return { type: 'tag', name: expr.name };
        return this.stream({ base: this.base(null, expr), running: [] });
      case 'binary': {
        if (!['+', '-', '*', '/', '%', '&', '|', '^'].includes(expr.op))
          return invalid(`invalid operator ${expr.op} in SELECT clause`);
        const [left, right] = [this.value(expr.left), this.value(expr.right)];
        const [a, b] = [this.kindOf(left), this.kindOf(right)];
        if (a !== b)
          return invalid(
            `type error: ${nameOf(expr)}: incompatible types: ${TYPE_NAMES[a]} and ${TYPE_NAMES[b]}`,
          );
        return { type: 'binary', op: expr.op, left, right };
      }
      case 'call': {
        const { kind } = functionOf(expr.name);
        if (kind === 'math')
          return { type: 'math', name: expr.name, args: expr.args.map((arg) => this.value(arg)) };
        this.refersCall = true;
        return this.stream(this.streamOf(expr));
      }
      default:
        return invalid(`invalid expression in SELECT clause: ${expr.type}`);
    }
  }

  /** Of a column's value. */
  private kindOf(value: Value): Kind {
    if (value.type === 'tag') return 'txt';
    if (value.type !== 'stream') return 'num';
    const { base, running } = this.streams[value.index] as Stream; // One of them.
    return base.fn === 'count' || running.length > 0 ? 'num' : base.kind;
  }

  private base(fn: string | null, { name }: Reference): Base {
    const kind = this.names.fields.get(name) ?? 'num';
    return { fn, field: name, kind, isDistinct: false, argument: 0 };
  }

  private streamOf(call: Call): Stream {
    const { kind, ofAnything, ofTruth, args } = functionOf(call.name);
    const most = args.includes(',') ? 2 : 1;
    const least = args.includes(', N') ? 2 : 1;
    if (call.args.length < least || call.args.length > most)
      return invalid(
        `invalid number of arguments for ${call.name}, expected ${most === least ? most : `at least ${least} and at most ${most}`}, got ${call.args.length}`,
      );
    const [arg] = call.args as [Expr]; // At least one.
    if (kind === 'running') return this.runningOf(call, arg);
    const isDistinct = call.name === 'count' && arg.type === 'call' && arg.name === 'distinct';
    const of = isDistinct ? arg.args[0] : arg;
    if (of?.type !== 'reference') return invalid(`expected field argument in ${call.name}()`);
    const base: Base = { ...this.base(call.name, of), isDistinct };
    if (base.kind !== 'num' && ofAnything !== true && !(base.kind === 'bool' && ofTruth === true))
      base.refused = refusal(call.name, base);
    base.argument = numberArgument(call, 1, call.name === 'integral' ? SECOND : 0);
    if (kind === 'points' && call.name !== 'distinct' && !(base.argument >= 1))
      return invalid(`limit (${base.argument}) in ${call.name} function must be at least 1`);
    if (kind === 'points' && this.limit > 0 && base.argument > this.limit)
      return invalid(
        `limit (${base.argument}) in ${call.name} function can not be larger than the LIMIT (${this.limit}) in the select statement`,
      );
    return { base, running: [] };
  }

  private runningOf(call: Call, arg: Expr): Stream {
    const { name } = call;
    const isCall = arg.type === 'call';
    if (isCall && this.everyNs === undefined && functionOf(arg.name).kind !== 'running')
      return invalid(`${name} aggregate requires a GROUP BY interval`);
    if (!isCall && this.everyNs !== undefined)
      return invalid(`aggregate function required inside the call to ${name}`);
    if (!isCall && arg.type !== 'reference') return invalid(`expected field argument in ${name}()`);
    const inner: Stream = isCall ? this.streamOf(arg) : { base: this.base(null, arg), running: [] };
    if (inner.base.fn !== 'count' && inner.base.kind !== 'num' && name !== 'elapsed')
      inner.base.refused ??= refusal(name, inner.base);
    const argument = this.argumentOf(call, isCall);
    return { ...inner, running: [...inner.running, { name, argument }] };
  }

  private argumentOf(call: Call, isCall: boolean): number | undefined {
    if (call.name.endsWith('derivative'))
      return numberArgument(call, 1, isCall && this.everyNs !== undefined ? this.everyNs : SECOND);
    if (call.name === 'elapsed') return numberArgument(call, 1, 1);
    if (call.name !== 'moving_average') return undefined;
    const count = numberArgument(call, 1, 0);
    if (!Number.isSafeInteger(count) || count <= 1)
      return invalid(`moving_average window must be greater than 1, got ${count}`);
    return count;
  }
}

/** InfluxDB takes one selector beside fields, and no more. */
function checkPicked(streams: readonly Stream[]): void {
  const [call, ...more] = streams.filter(({ base }) => base.fn !== null);
  if (
    call === undefined ||
    more.length > 0 ||
    call.running.length > 0 ||
    functionOf(call.base.fn ?? '').kind !== 'selector'
  )
    invalid('mixing aggregate and non-aggregate queries is not supported');
}

export function planOf(
  select: Select,
  names: Names,
  grouped: ReadonlySet<string>,
  everyNs: number | undefined,
): Plan {
  const planner = new Planner(names, everyNs, select.limit);
  const columns: Plan['columns'] = [];
  const fields = expanded(select, names, grouped).filter(
    ({ expr }) => expr.type !== 'reference' || expr.name.toLowerCase() !== 'time',
  );
  const titles = titlesOf(fields);
  for (const [at, { expr }] of fields.entries())
    columns.push({ name: titles[at] ?? '', value: planner.value(expr) });
  const { streams, refersRaw, refersCall } = planner;
  const isPicked = refersRaw && refersCall;
  if (isPicked) checkPicked(streams);
  if (!refersCall && everyNs !== undefined && streams.length > 0)
    invalid('GROUP BY requires at least one aggregate function');
  if (
    streams.length > 1 &&
    streams.some(({ base: { fn } }) => fn !== null && functionOf(fn).kind === 'points')
  )
    invalid('distinct(), top() and bottom() cannot be combined with other functions or fields');
  return { columns, streams, isRaw: !refersCall, isPicked };
}

/** It needs the bucket before the first one. */
export const looksBack = ({ running }: Stream): boolean =>
  running.some(({ name }) => name !== 'cumulative_sum');

/** The fields that columns are of. */
export const fieldsOf = ({ streams }: Plan): Set<string> =>
  new Set(streams.map(({ base: { field } }) => field));

/**
 * A query's answer in InfluxDB's JSON, as texts to send one after the other: nothing of it stands in memory longer than
 * a part. `chunked` gives one line of JSON for each series or 10,000 rows. What goes wrong in a statement is its `error`;
 * the statements behind it are not run.
 */
import { errorCode, messageOf } from '../../shared/errors.ts';
import type { Expr, Statement } from './ast.ts';
import { parseQuery } from './parse.ts';
import type { Context, Part } from './job.ts';
import { selectParts } from './select.ts';
import { showListings, type Listing } from './show.ts';
import { invalid, Zone } from './time.ts';

/** Of a time in an answer; undefined: RFC 3339. */
export const EPOCHS: Readonly<Record<string, bigint>> = {
  ns: 1n,
  n: 1n,
  u: 1000n,
  µ: 1000n,
  us: 1000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
};

export interface ReplyOptions {
  epoch: string | undefined;
  chunkRows: number | undefined;
  params: Readonly<Record<string, unknown>>;
}

const floor = (value: bigint, by: bigint): bigint =>
  value / by - (value % by !== 0n && value < 0n ? 1n : 0n);

/** As Go writes RFC 3339 with as many digits as it needs. */
function textTime(ns: bigint, zone: Zone | undefined): string {
  const offset = zone?.offset(ns) ?? 0n;
  const local = ns + offset;
  const seconds = floor(local, 1_000_000_000n);
  const rest = local - seconds * 1_000_000_000n;
  const digits = rest === 0n ? '' : `.${String(rest).padStart(9, '0').replace(/0+$/, '')}`;
  const base = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  if (offset === 0n) return `${base}${digits}Z`;
  const minutes = Number((offset < 0n ? -offset : offset) / 60_000_000_000n);
  const pad = (value: number): string => String(value).padStart(2, '0');
  return `${base}${digits}${offset < 0n ? '-' : '+'}${pad(Math.floor(minutes / 60))}:${pad(minutes % 60)}`;
}

function timeWriter(epoch: string | undefined, zone: Zone | undefined): (ns: bigint) => string {
  const unit = epoch === undefined ? undefined : EPOCHS[epoch];
  return unit === undefined ? (ns) => `"${textTime(ns, zone)}"` : (ns) => String(floor(ns, unit));
}

function rowsText({ rows }: Part, time: (ns: bigint) => string): string {
  return rows
    .map(([at, ...cells]) => `[${time(at)},${cells.map((cell) => JSON.stringify(cell)).join(',')}]`)
    .join(',');
}

const head = ({ name, tags, columns }: Pick<Part, 'name' | 'tags' | 'columns'>): string =>
  `{"name":${JSON.stringify(name)},${tags === undefined ? '' : `"tags":${JSON.stringify(tags)},`}"columns":${JSON.stringify(columns)},"values":[`;

/** Parameters in their places. Throws QUERY_INVALID for one that was not given. */
export function bound<T>(value: T, params: ReplyOptions['params']): T {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((each: unknown) => bound(each, params)) as T; // The same shape.
  const node = value as unknown as Expr;
  if (node.type === 'parameter') {
    const given = Object.hasOwn(params, node.name) ? params[node.name] : undefined;
    const made: Expr | undefined =
      typeof given === 'number'
        ? {
            type: 'number',
            value: given,
            ...(Number.isSafeInteger(given) ? { digits: String(given) } : {}),
          }
        : typeof given === 'string'
          ? { type: 'string', value: given }
          : typeof given === 'boolean'
            ? { type: 'boolean', value: given }
            : parameterObject(given);
    if (made === undefined) invalid(`missing parameter: ${node.name.slice(0, 100)}`);
    return made as T; // An expression for an expression.
  }
  return Object.fromEntries(
    Object.entries(value).map(([key, each]) => [key, bound(each as unknown, params)]),
  ) as T; // The same shape.
}

/** `{"regex":"…"}`, `{"duration":"10m"}`: as InfluxDB 1.8 has them. */
function parameterObject(given: unknown): Expr | undefined {
  if (typeof given !== 'object' || given === null) return undefined;
  const [[kind, value] = ['', ''] as const] = Object.entries(given);
  if (typeof value !== 'string') return undefined;
  if (kind === 'regex') return { type: 'regex', source: value };
  if (kind === 'identifier') return { type: 'reference', name: value, kind: null };
  if (kind !== 'duration' || !/^\d+(?:ns|u|ms|s|m|h|d|w)$/.test(value)) return undefined;
  const [statement] = parseQuery(`SELECT a FROM b GROUP BY time(${value})`);
  const [time] = statement?.type === 'select' ? statement.groupBy : [];
  return time?.type === 'time' ? time.every : undefined;
}

async function* statementSeries(
  statement: Statement,
  context: Context,
): AsyncGenerator<Part | Listing> {
  if (statement.type === 'select') yield* selectParts(statement, context);
  else if (statement.type === 'show') yield* await showListings(statement, context);
  else if (statement.type === 'refused')
    invalid(
      `${statement.words} is not done here: this server answers SELECT and SHOW, see docs/influxql.md`,
    );
}

/** Throws QUERY_INVALID. */
const zoneOf = (statement: Statement): Zone | undefined =>
  statement.type === 'select' && statement.tz !== null ? new Zone(statement.tz) : undefined;

const isPart = (each: Part | Listing): each is Part => 'rows' in each;

/** One statement's `{"statement_id":…}`. */
async function* whole(
  id: number,
  statement: Statement,
  context: Context,
  options: ReplyOptions,
): AsyncGenerator<string, boolean> {
  let state: 'none' | 'open' = 'none';
  yield `{"statement_id":${id}`;
  try {
    const time = timeWriter(options.epoch, zoneOf(statement));
    for await (const each of statementSeries(statement, context)) {
      const begin = state === 'none' ? ',"series":[' : ']},';
      if (!isPart(each)) {
        const { columns, values, name } = each;
        const title = name === undefined ? '' : `"name":${JSON.stringify(name)},`;
        yield `${begin}{${title}"columns":${JSON.stringify(columns)},"values":${JSON.stringify(values).slice(0, -1)}`;
      } else
        yield each.isNew
          ? `${begin}${head(each)}${rowsText(each, time)}`
          : `,${rowsText(each, time)}`;
      state = 'open';
    }
  } catch (error) {
    yield `${state === 'open' ? ']}]' : ''},"error":${JSON.stringify(told(error))}}`;
    return false;
  }
  yield `${state === 'open' ? ']}]' : ''}}`;
  return true;
}

/** What may be said of an error that comes when the answer has begun. */
const told = (error: unknown): string =>
  errorCode(error) === 'INTERNAL' ? 'internal error' : messageOf(error);

/** A part of a series as it goes out. */
interface Piece {
  /** Without its last brackets. */
  text: string;
  /** The first of its series. */
  isNew: boolean;
}

/** Pieces of `chunkRows` rows, the last of each series may have fewer. */
async function* piecesOf(
  statement: Statement,
  context: Context,
  { epoch }: ReplyOptions,
  chunkRows: number,
): AsyncGenerator<Piece> {
  const time = timeWriter(epoch, zoneOf(statement));
  let open: Part | undefined;
  let isNew = true;
  const piece = (part: Part, rows: Part['rows']): Piece => {
    const made = { text: `${head(part)}${rowsText({ ...part, rows }, time)}]`, isNew };
    isNew = false;
    return made;
  };
  for await (const each of statementSeries(statement, context)) {
    if (!isPart(each)) {
      yield* listingPieces(each, isChunked(statement) ? chunkRows : Infinity);
      continue;
    }
    if (open !== undefined && each.isNew) yield piece(open, open.rows);
    if (each.isNew) isNew = true;
    const rest: Part['rows'] = each.isNew ? [] : (open?.rows ?? []);
    open = { ...each, rows: rest.concat(each.rows) };
    while (open.rows.length > chunkRows) {
      yield piece(open, open.rows.slice(0, chunkRows));
      open = { ...open, rows: open.rows.slice(chunkRows) };
    }
  }
  if (open !== undefined) yield piece(open, open.rows);
}

/** What InfluxDB asks itself by a SELECT goes out in chunks. */
const isChunked = (statement: Statement): boolean =>
  statement.type === 'show' && ['fieldKeys', 'series'].includes(statement.what);

function* listingPieces({ name, columns, values }: Listing, chunkRows: number): Generator<Piece> {
  const title = name === undefined ? '' : `"name":${JSON.stringify(name)},`;
  for (let from = 0; from < values.length; from += chunkRows) {
    const some = values.slice(from, from + chunkRows);
    const text = `{${title}"columns":${JSON.stringify(columns)},"values":${JSON.stringify(some)}`;
    yield { text, isNew: from === 0 };
  }
}

async function* chunkedStatement(
  id: number,
  statement: Statement,
  context: Context,
  options: ReplyOptions,
  chunkRows: number,
): AsyncGenerator<string, boolean> {
  const isWhole = statement.type === 'show' && !isChunked(statement);
  const line = ({ text }: Piece, next: Piece | undefined): string => {
    const series = next === undefined || next.isNew ? '' : ',"partial":true';
    const result = next === undefined || isWhole ? '' : ',"partial":true';
    return `{"results":[{"statement_id":${id},"series":[${text}${series}}]${result}}]}\n`;
  };
  let waiting: Piece | undefined;
  try {
    for await (const piece of piecesOf(statement, context, options, chunkRows)) {
      if (waiting !== undefined) yield line(waiting, piece);
      waiting = piece;
    }
  } catch (error) {
    if (waiting !== undefined) yield line(waiting, { text: '', isNew: true });
    yield `{"results":[{"statement_id":${id},"error":${JSON.stringify(told(error))}}]}\n`;
    return false;
  }
  yield waiting === undefined ? `{"results":[{"statement_id":${id}}]}\n` : line(waiting, undefined);
  return true;
}

export async function* replyTexts(
  statements: readonly Statement[],
  context: Context,
  options: ReplyOptions,
): AsyncGenerator<string> {
  const { chunkRows } = options;
  if (chunkRows === undefined) yield '{"results":[';
  for (const [id, statement] of statements.entries()) {
    if (chunkRows !== undefined) {
      if (!(yield* chunkedStatement(id, statement, context, options, chunkRows))) return;
      continue;
    }
    if (id > 0) yield ',';
    if (!(yield* whole(id, statement, context, options))) {
      for (let next = id + 1; next < statements.length; next++)
        yield `,{"statement_id":${next},"error":"not executed"}`;
      break;
    }
  }
  if (chunkRows === undefined) yield ']}\n';
}

/**
 * A condition without its times: what is about tags alone decides which series are asked; what is about fields as well
 * becomes SQL over the fields of a row (`f0` … for numbers, `s0` … for texts) and its number of tags `t`.
 */
import { quote } from '../duckdb/database.ts';
import type { Kind } from '../store/duckdb-catalog.ts';
import type { Session } from '../store/session.ts';
import type { Binary, Expr, Reference } from './ast.ts';
import { invalid } from './time.ts';

export type Tags = Record<string, string>;
export type TagTest = (tags: Tags) => boolean;

/** Whether a name is a field, of those that are asked; undefined: it is a tag. */
export type FieldOf = (reference: Reference) => { index: number; kind: Kind } | undefined;

/** Which of some texts a regular expression finds; DuckDB's (RE2) take a time that grows with the text alone. */
export async function matching(
  session: Session,
  source: string,
  values: readonly string[],
): Promise<Set<string>> {
  if (values.length === 0) return new Set();
  const list = values.map(quote).join(',');
  const rows = await session.all(
    `SELECT v FROM (SELECT unnest([${list}]) AS v) WHERE regexp_matches(v, ${quote(source)})`,
  );
  return new Set(rows.map(([value]) => String(value)));
}

/** The conjuncts of a condition. */
export const conjuncts = (expr: Expr | null): Expr[] =>
  expr === null
    ? []
    : expr.type === 'binary' && expr.op === 'AND'
      ? [...conjuncts(expr.left), ...conjuncts(expr.right)]
      : [expr];

export function referencesOf(expr: Expr): Reference[] {
  if (expr.type === 'reference') return [expr];
  if (expr.type === 'binary') return [...referencesOf(expr.left), ...referencesOf(expr.right)];
  return expr.type === 'call' ? expr.args.flatMap(referencesOf) : [];
}

/** A comparison of a tag with a text or a regular expression. */
function tagTest(name: string, { op, right }: Binary, found: ReadonlySet<string>): TagTest {
  const value = (tags: Tags): string => tags[name] ?? '';
  if (op === '=~') return (tags) => found.has(value(tags));
  if (op === '!~') return (tags) => !found.has(value(tags));
  if (right.type !== 'string') return () => op === '!=';
  const text = right.value;
  if (op === '=') return (tags) => value(tags) === text;
  if (op === '!=') return (tags) => value(tags) !== text;
  return invalid(`tags are compared with =, !=, =~ and !~, not with ${op}`);
}

/** What a tag is said to be, where nothing else is said. */
export function equalsOf(expr: Expr): { name: string; value: string } | undefined {
  if (expr.type !== 'binary' || expr.op !== '=') return undefined;
  const { left, right } = expr;
  return left.type === 'reference' && right.type === 'string'
    ? { name: left.name, value: right.value }
    : undefined;
}

/** `expr` of tags alone. Throws QUERY_INVALID. */
export async function tagsTest(
  session: Session,
  expr: Expr,
  series: readonly { tags: Tags }[],
): Promise<TagTest> {
  if (expr.type === 'boolean') return () => expr.value;
  if (expr.type !== 'binary') return invalid('invalid condition: a comparison is missing');
  const { op } = expr;
  if (op === 'AND' || op === 'OR') {
    const left = await tagsTest(session, expr.left, series);
    const right = await tagsTest(session, expr.right, series);
    return op === 'AND' ? (tags) => left(tags) && right(tags) : (tags) => left(tags) || right(tags);
  }
  const flips = expr.left.type !== 'reference';
  const asked = flips ? { ...expr, left: expr.right, right: expr.left } : expr;
  // Of fields that are not there.
  if (asked.left.type !== 'reference') return () => false;
  const { name } = asked.left;
  if (op !== '=~' && op !== '!~') return tagTest(name, asked, new Set());
  if (asked.right.type !== 'regex') return invalid(`${op} needs a regular expression: /…/`);
  const values = [...new Set(series.map(({ tags }) => tags[name] ?? ''))];
  return tagTest(name, asked, await matching(session, asked.right.source, values));
}

const MATH: ReadonlySet<string> = new Set(['+', '-', '*', '/', '%']);

function numberSql(expr: Expr, fieldOf: FieldOf): string {
  if (expr.type === 'number') return `CAST(${expr.value} AS DOUBLE)`;
  if (expr.type === 'boolean') return expr.value ? '1' : '0';
  if (expr.type === 'reference') {
    const field = fieldOf(expr);
    return field === undefined || field.kind === 'txt' ? 'NULL' : `f${field.index}`;
  }
  if (expr.type === 'binary' && MATH.has(expr.op))
    return `(${numberSql(expr.left, fieldOf)} ${expr.op} ${numberSql(expr.right, fieldOf)})`;
  return invalid('invalid condition: a field is compared with a number, a text or a truth value');
}

const isField = (expr: Expr, fieldOf: FieldOf): boolean =>
  referencesOf(expr).some((reference) => fieldOf(reference) !== undefined);

/** A condition with fields. `tagsWith` gives the numbers of tags that pass a test. */
export async function rowSql(
  expr: Expr,
  fieldOf: FieldOf,
  tagsWith: (expr: Expr) => Promise<number[]>,
): Promise<string> {
  if (!isField(expr, fieldOf)) {
    const numbers = await tagsWith(expr);
    return numbers.length === 0 ? 'false' : `t IN (${numbers.join(',')})`;
  }
  if (expr.type !== 'binary') return invalid('invalid condition: a comparison is missing');
  const { op, left, right } = expr;
  if (op === 'AND' || op === 'OR')
    return `(${await rowSql(left, fieldOf, tagsWith)} ${op} ${await rowSql(right, fieldOf, tagsWith)})`;
  const text = right.type === 'string' || right.type === 'regex' ? right : undefined;
  if (text === undefined)
    return `coalesce(${numberSql(left, fieldOf)} ${op} ${numberSql(right, fieldOf)}, false)`;
  const field = left.type === 'reference' ? fieldOf(left) : undefined;
  if (field === undefined || field.kind !== 'txt') return 'false';
  const column = `s${field.index}`;
  if (text.type === 'string') return `coalesce(${column} ${op} ${quote(text.value)}, false)`;
  const not = op === '!~' ? 'NOT ' : '';
  return `coalesce(${not}regexp_matches(${column}, ${quote(text.source)}), false)`;
}

/** What a query says, as `influxql.peggy` reads it. Times and durations are nanoseconds. */

export type Expr =
  | { type: 'number'; value: number; digits?: string }
  | { type: 'string'; value: string }
  | { type: 'boolean'; value: boolean }
  | { type: 'duration'; ns: bigint }
  | { type: 'regex'; source: string }
  | { type: 'parameter'; name: string }
  | { type: 'wildcard'; kind: 'field' | 'tag' | null }
  | Reference
  | Call
  | Binary;

export interface Reference {
  type: 'reference';
  name: string;
  /** `::tag`, `::field`, or the type of a field. */
  kind: string | null;
}

export interface Call {
  type: 'call';
  name: string;
  args: Expr[];
}

export interface Binary {
  type: 'binary';
  op: string;
  left: Expr;
  right: Expr;
}

export type Name = { type: 'string'; value: string } | { type: 'regex'; source: string };

export interface Measurement {
  type: 'measurement';
  database: string | null;
  policy: string | null;
  name: Name;
}

export type Source = Measurement | { type: 'subquery'; select: Select };

export type Dimension =
  | { type: 'time'; every: Expr; offset: Expr | null }
  | { type: 'regex'; source: string }
  | { type: 'wildcard'; kind: 'field' | 'tag' | null }
  | { type: 'tag'; name: string };

export type Fill =
  | { type: 'null' | 'none' | 'previous' | 'linear' }
  | { type: 'number'; value: number };

export interface Select {
  type: 'select';
  fields: { expr: Expr; alias: string | null }[];
  sources: Source[];
  where: Expr | null;
  groupBy: Dimension[];
  fill: Fill;
  descending: boolean;
  limit: number;
  offset: number;
  slimit: number;
  soffset: number;
  tz: string | null;
}

export interface Show {
  type: 'show';
  what:
    | 'databases'
    | 'retentionPolicies'
    | 'measurements'
    | 'tagKeys'
    | 'tagValues'
    | 'fieldKeys'
    | 'series';
  database?: string | null;
  sources?: Measurement[] | null;
  name?: { op: '=' | '=~'; value: Name } | null;
  key?: { op: string; values: Name[] };
  where?: Expr | null;
  limit?: number;
  offset?: number;
}

export type Statement =
  | Select
  | Show
  | { type: 'createDatabase'; name: string }
  /** Known by its words, and not done here. */
  | { type: 'refused'; words: string };

/** Dashboards as code: what they ask and how it is shown. `grafana.ts` makes Grafana's JSON of it, the built-in page draws it. */

export interface QuerySpec {
  /** In the dashboard's language; `$timeFilter`, `$__interval`, `$__rate_interval` are Grafana's, `$name` is a variable. */
  query: string;
  /** How a series is called: `$tag_NAME` is a tag's value in InfluxQL, `{{NAME}}` a label's in PromQL. */
  alias?: string;
  table?: boolean;
  /** Gives nothing until something has gone wrong, or somebody has said something: no data is no news here. */
  quiet?: boolean;
}

/** From which value on a colour tells how urgent it is that someone looks; the first is from -Infinity. */
export interface Step {
  from: number;
  color: string;
}

/** What a value is called, and its colour: 0 and 1 as down and up. */
export type States = Record<string, { text: string; color: string }>;

/** What a number is called from so much on: what never comes, say. */
export interface Beyond {
  from: number;
  text: string;
  color: string;
}

/** What is particular about one column of a table, or one series by its name. */
export interface ColumnSpec {
  label?: string;
  unit?: string;
  thresholds?: Step[];
  states?: States;
  /** The dashboard that its cells lead to, and the variables that go along: `$__data` names a column of the row. */
  to?: Link;
  isHidden?: boolean;
  /** Pixels. */
  width?: number;
  /** Sentences: over several lines where they do not fit. */
  isText?: boolean;
}

export interface Link {
  title: string;
  /** Uid of a dashboard. */
  uid: string;
  /** Variable → its value there; `{column}` is that of the row. */
  with?: Record<string, string>;
  /** The column whose time the other one opens around; left out: the range of this one. */
  around?: string;
}

export type Kind =
  | 'timeseries'
  | 'table'
  | 'stat'
  | 'heatmap'
  | 'state-timeline'
  /** Of a table with `latitude` and `longitude`, and `state` for the colour. */
  | 'geomap';

export interface PanelSpec {
  title: string;
  kind: Kind;
  /** The question that it answers. */
  about: string;
  width: number;
  height: number;
  /** A unit of Grafana's; absent where what is shown decides, as with any field of any measurement. */
  unit?: string;
  thresholds?: Step[];
  states?: States;
  beyond?: Beyond;
  /** By the name of a column or series. */
  columns?: Record<string, ColumnSpec>;
  queries: QuerySpec[];
  /** What is told when it changes: it holds until the next word. */
  isStepped?: boolean;
  /** Bars, of what is counted in each interval. */
  isCounted?: boolean;
  /** A line is cut where nothing came for so long, and in more than no interval. */
  gapMs?: number;
  /** InfluxQL that gives one row with `unit`, and `name` for a figure that stands alone: as devices and mappings say them. */
  units?: string;
}

export interface VariableSpec {
  name: string;
  label: string;
  /** What lists its values, in the dashboard's language. */
  query: string;
  all: boolean;
  /** Those that fit this regular expression alone. */
  only?: string;
  /** Follows from the others. */
  isHidden?: boolean;
}

/** What happened, over the lines of every panel of a dashboard. */
export interface AnnotationSpec {
  name: string;
  color: string;
  query: string;
  /** InfluxQL: columns of the answer; PromQL: labels of the tags, and a text with `{{label}}` in it. */
  text: string;
  tags: string;
}

export type SourceName = 'influxdb' | 'prometheus';

export interface DashboardSpec {
  uid: string;
  title: string;
  about: string;
  /** What it asks; InfluxQL of the store where nothing is said. */
  source?: SourceName;
  /** Relative range it opens on. */
  from: string;
  variables: VariableSpec[];
  annotations?: AnnotationSpec[];
  panels: PanelSpec[];
}

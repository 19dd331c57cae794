/** Grafana dashboards as code: the few kinds of panel that ours are made of. Types are Grafana's own schema. */
import {
  MappingType,
  ThresholdsMode,
  type Dashboard,
  type DashboardLink,
  type FieldConfig,
  type Panel,
} from '@grafana/schema';

/** Data sources by the uids that provisioning gives them; a uid that changed would stop the whole file in Grafana. */
const SOURCES = {
  influxdb: { type: 'influxdb', uid: 'headwater' },
  prometheus: { type: 'prometheus', uid: 'headwater-prometheus' },
} as const;

export interface QuerySpec {
  /** In the dashboard's language; `$timeFilter`, `$__interval`, `$__rate_interval` are Grafana's, `$name` is a variable. */
  query: string;
  /** How a series is called: `$tag_NAME` is a tag's value in InfluxQL, `{{NAME}}` a label's in PromQL. */
  alias?: string;
  table?: boolean;
  /** Gives nothing until something has gone wrong: no data is good news here. */
  quiet?: boolean;
}

/** From which value on a colour tells how urgent it is that someone looks; the first is from -Infinity. */
export interface Step {
  from: number;
  color: string;
}

export interface PanelSpec {
  title: string;
  kind: 'timeseries' | 'table' | 'stat' | 'heatmap';
  /** The question that it answers. */
  about: string;
  width: number;
  height: number;
  /** A unit of Grafana's; absent where what is shown decides, as with any field of any measurement. */
  unit?: string;
  thresholds?: Step[];
  /** What a value is called: 0 and 1 as down and up. */
  states?: Record<string, { text: string; color: string }>;
  queries: QuerySpec[];
}

export interface VariableSpec {
  name: string;
  label: string;
  /** What lists its values, in the dashboard's language. */
  query: string;
  all: boolean;
  /** Fields alone that means can be made of: texts and truth values say by their name what they are (docs/readings.md). */
  isNumber?: boolean;
}

export interface DashboardSpec {
  uid: string;
  title: string;
  about: string;
  /** What it asks; InfluxQL of the store where nothing is said. */
  source?: keyof typeof SOURCES;
  /** Relative range it opens on. */
  from: string;
  variables: VariableSpec[];
  panels: PanelSpec[];
}

const GRID_WIDTH = 24;
const TAG = 'headwater';

/** From each dashboard to all others, with what is chosen and the range kept. */
const LINKS: DashboardLink[] = [
  {
    type: 'dashboards',
    title: 'Headwater',
    tags: [TAG],
    icon: 'external link',
    tooltip: '',
    asDropdown: false,
    targetBlank: false,
    includeVars: true,
    keepTime: true,
  },
];

function fieldConfig({ kind, unit, thresholds, states, queries }: PanelSpec): FieldConfig {
  return {
    custom:
      kind === 'timeseries' && thresholds !== undefined
        ? { thresholdsStyle: { mode: 'dashed' } }
        : {},
    ...(unit === undefined ? {} : { unit }),
    ...(queries.every(({ quiet }) => quiet === true) ? { noValue: 'none' } : {}),
    ...(thresholds === undefined
      ? {}
      : {
          thresholds: {
            mode: ThresholdsMode.Absolute,
            // JSON has no -Infinity: null is Grafana's mark of the lowest step.
            steps: thresholds.map(({ from, color }) => ({
              value: from === -Infinity ? null : from,
              color,
            })),
          },
        }),
    ...(states === undefined
      ? {}
      : {
          mappings: [
            {
              type: MappingType.ValueToText,
              options: Object.fromEntries(
                Object.entries(states).map(([value, state], index) => [value, { ...state, index }]),
              ),
            },
          ],
        }),
  };
}

function target(spec: DashboardSpec, kind: PanelSpec['kind'], asked: QuerySpec, at: number) {
  const source = SOURCES[spec.source ?? 'influxdb'];
  const { query, alias, table } = asked;
  const common = { refId: String.fromCharCode(65 + at), datasource: source };
  if (source.type === 'influxdb')
    return {
      ...common,
      rawQuery: true,
      query,
      resultFormat: table === true ? 'table' : 'time_series',
      ...(alias === undefined ? {} : { alias }),
    };
  // A table or a figure is of now, a line of the range.
  const instant = kind === 'table' || kind === 'stat';
  return {
    ...common,
    expr: query,
    format: kind === 'heatmap' ? 'heatmap' : table === true ? 'table' : 'time_series',
    instant,
    range: !instant,
    ...(alias === undefined ? {} : { legendFormat: alias }),
  };
}

const OPTIONS: Record<PanelSpec['kind'], Record<string, unknown>> = {
  timeseries: {
    legend: { showLegend: true, displayMode: 'list', placement: 'bottom' },
    tooltip: { mode: 'multi' },
  },
  stat: { reduceOptions: { calcs: ['lastNotNull'] }, textMode: 'auto', colorMode: 'value' },
  table: { showHeader: true },
  // The buckets are Prometheus' own, not counted from points.
  heatmap: { calculate: false, yAxis: { unit: 's' }, color: { scheme: 'Blues', mode: 'scheme' } },
};

/** Lays panels out in rows and gives the dashboard's JSON model. */
export function dashboard(spec: DashboardSpec): Dashboard {
  const datasource = SOURCES[spec.source ?? 'influxdb'];
  let [x, y, rowHeight] = [0, 0, 0];
  const panels = spec.panels.map((panel, index): Panel => {
    if (x + panel.width > GRID_WIDTH) [x, y, rowHeight] = [0, y + rowHeight, 0];
    const gridPos = { x, y, w: panel.width, h: panel.height };
    x += panel.width;
    rowHeight = Math.max(rowHeight, panel.height);
    return {
      id: index + 1,
      type: panel.kind,
      title: panel.title,
      description: panel.about,
      datasource,
      gridPos,
      fieldConfig: { defaults: fieldConfig(panel), overrides: [] },
      options: OPTIONS[panel.kind],
      targets: panel.queries.map((asked, at) => target(spec, panel.kind, asked, at)),
    };
  });
  return {
    uid: spec.uid,
    title: spec.title,
    description: spec.about,
    tags: [TAG],
    schemaVersion: 39,
    editable: true,
    timezone: 'browser',
    time: { from: spec.from, to: 'now' },
    refresh: '10s',
    links: LINKS,
    templating: {
      list: spec.variables.map(({ name, label, query, all, isNumber }) => ({
        type: 'query',
        name,
        label,
        query,
        datasource,
        refresh: 2,
        includeAll: all,
        multi: all,
        sort: 1,
        // Without a group in it Grafana takes a name that fits as it is.
        ...(isNumber === true ? { regex: '/^(?!.*_(?:text|bool)$).*$/' } : {}),
        ...(all ? { allValue: '.*', current: { text: 'All', value: '$__all' } } : {}),
      })),
    },
    panels,
  };
}

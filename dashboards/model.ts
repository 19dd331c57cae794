/** Grafana dashboards as code: the few kinds of panel that ours are made of. Types are Grafana's own schema. */
import type { Dashboard, Panel } from '@grafana/schema';

const DATASOURCE = { type: 'influxdb', uid: 'headwater' };

export interface QuerySpec {
  /** InfluxQL; `$timeFilter` and `$__interval` are Grafana's, `$name` a variable of the dashboard. */
  query: string;
  /** How a series is called; `$tag_NAME` is a tag's value. */
  alias?: string;
  table?: boolean;
}

export interface PanelSpec {
  title: string;
  kind: 'timeseries' | 'table' | 'stat';
  about: string;
  width: number;
  height: number;
  queries: QuerySpec[];
}

export interface VariableSpec {
  name: string;
  label: string;
  /** InfluxQL that lists its values. */
  query: string;
  all: boolean;
}

export interface DashboardSpec {
  uid: string;
  title: string;
  about: string;
  /** Relative range it opens on. */
  from: string;
  variables: VariableSpec[];
  panels: PanelSpec[];
}

const GRID_WIDTH = 24;

/** Lays panels out in rows and gives the dashboard's JSON model. */
export function dashboard(spec: DashboardSpec): Dashboard {
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
      datasource: DATASOURCE,
      gridPos,
      fieldConfig: { defaults: { custom: {} }, overrides: [] },
      options:
        panel.kind === 'timeseries'
          ? {
              legend: { showLegend: true, displayMode: 'list', placement: 'bottom' },
              tooltip: { mode: 'multi' },
            }
          : {},
      targets: panel.queries.map(({ query, alias, table }, at) => ({
        refId: String.fromCharCode(65 + at),
        datasource: DATASOURCE,
        rawQuery: true,
        query,
        resultFormat: table === true ? 'table' : 'time_series',
        ...(alias === undefined ? {} : { alias }),
      })),
    };
  });
  return {
    uid: spec.uid,
    title: spec.title,
    description: spec.about,
    tags: ['headwater'],
    schemaVersion: 39,
    editable: true,
    timezone: 'browser',
    time: { from: spec.from, to: 'now' },
    refresh: '10s',
    templating: {
      list: spec.variables.map(({ name, label, query, all }) => ({
        type: 'query',
        name,
        label,
        query,
        datasource: DATASOURCE,
        refresh: 2,
        includeAll: all,
        multi: all,
        sort: 1,
        ...(all ? { allValue: '.*', current: { text: 'All', value: '$__all' } } : {}),
      })),
    },
    panels,
  };
}

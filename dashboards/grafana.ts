/** Grafana's JSON of a dashboard, in the classic schema, which is what its files are read as. Types are Grafana's own. */
import {
  MappingType,
  ThresholdsMode,
  type AnnotationQuery,
  type Dashboard,
  type DashboardLink,
  type FieldConfig,
  type FieldConfigSource,
  type Panel,
  type ValueMapping,
  type VariableModel,
} from '@grafana/schema';
import { OPTIONS, colorOf, customOf, isLine } from './grafana-panels.ts';
import type {
  AnnotationSpec,
  Beyond,
  ColumnSpec,
  DashboardSpec,
  Kind,
  Link,
  PanelSpec,
  QuerySpec,
  SourceName,
  States,
  Step,
} from './model.ts';

/** Data sources by the uids that provisioning gives them; a uid that changed would stop the whole file in Grafana. */
export const SOURCES: Record<
  SourceName,
  { type: string; uid: string; variable: string; label: string }
> = {
  influxdb: { type: 'influxdb', uid: 'headwater', variable: 'store', label: 'Store' },
  prometheus: {
    type: 'prometheus',
    uid: 'headwater-prometheus',
    variable: 'metrics',
    label: 'Metrics',
  },
};

const GRID_WIDTH = 24;
const TAG = 'headwater';
/** In which devices, mappings and rules say units; a target of its own. */
const UNITS = 'units';

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

const asked = (source: SourceName) => {
  const { type, variable } = SOURCES[source];
  return { type, uid: `\${${variable}}` };
};

const beyondOf = ({ from, text, color }: Beyond): ValueMapping => ({
  type: MappingType.RangeToText,
  options: { from, to: null, result: { text, color, index: 0 } },
});

const thresholdsOf = (steps: readonly Step[]) => ({
  mode: ThresholdsMode.Absolute,
  // JSON has no -Infinity: null is Grafana's mark of the lowest step.
  steps: steps.map(({ from, color }) => ({ value: from === -Infinity ? null : from, color })),
});

const mappingsOf = (states: States, beyond?: Beyond): ValueMapping[] => [
  ...(beyond === undefined ? [] : [beyondOf(beyond)]),
  {
    type: MappingType.ValueToText,
    options: Object.fromEntries(
      Object.entries(states).map(([value, state], index) => [value, { ...state, index }]),
    ),
  },
];

function linkOf({ title, uid, with: given = {}, around }: Link) {
  // By itself Grafana leaves `&` and `#` as they are: a device's topic would set other variables of the dashboard that it leads to.
  const field = (name: string): string => `\${__data.fields["${name}"]:percentencode}`;
  const variables = Object.entries(given).map(
    ([name, value]) =>
      `var-${name}=${value.replaceAll(/\{([^}]+)\}/g, (_, column: string) => field(column))}`,
  );
  const range =
    around === undefined ? '${__url_time_range}' : `time=${field(around)}&time.window=86400000`;
  return { title, url: `/d/${uid}?${[...variables, range].join('&')}`, targetBlank: false };
}

function overridesOf(columns: Record<string, ColumnSpec>): FieldConfigSource['overrides'] {
  return Object.entries(columns).map(([name, column]) => {
    const { label, unit, thresholds, states, to, isHidden, width, isText } = column;
    const properties: { id: string; value: unknown }[] = [];
    const set = (id: string, value: unknown): unknown =>
      value !== undefined && properties.push({ id, value });
    set('displayName', label);
    set('unit', unit);
    set('thresholds', thresholds && thresholdsOf(thresholds));
    set('mappings', states && mappingsOf(states));
    if (thresholds !== undefined || states !== undefined)
      set('custom.cellOptions', { type: 'color-text' });
    set('links', to && [linkOf(to)]);
    if (isText === true) set('custom.cellOptions', { type: 'auto', wrapText: true });
    set('custom.width', width);
    if (isHidden === true) set('custom.hidden', true);
    return { matcher: { id: 'byName', options: name }, properties };
  });
}

/** A time in full. */
const withTime = ({ Time, ...rest }: Record<string, ColumnSpec> = {}) => ({
  Time: { width: 170, ...Time },
  ...rest,
});

function fieldConfig(panel: PanelSpec, source: SourceName): FieldConfigSource {
  const { kind, unit, thresholds, states, beyond, queries } = panel;
  const columns = kind === 'table' ? withTime(panel.columns) : panel.columns;
  const defaults: FieldConfig = {
    custom: customOf(panel, source),
    ...colorOf(panel),
    ...(unit === undefined ? {} : { unit }),
    ...(kind === 'stat' && queries.every(({ quiet }) => quiet === true) ? { noValue: 'none' } : {}),
    ...(thresholds === undefined ? {} : { thresholds: thresholdsOf(thresholds) }),
    ...(states === undefined && beyond === undefined
      ? {}
      : { mappings: mappingsOf(states ?? {}, beyond) }),
  };
  return { defaults, overrides: overridesOf(columns ?? {}) };
}

/** With the intervals in which nothing came: Grafana's lines are cut at them. The page sees by itself where nothing came. */
const withEmpty = (spec: QuerySpec): QuerySpec => ({
  ...spec,
  query: spec.query.replace(/fill\(none\)$/, 'fill(null)'),
});

function target(source: SourceName, kind: Kind, spec: QuerySpec, refId: string) {
  const { query, alias, table } = spec;
  const common = { refId, datasource: asked(source) };
  if (source === 'influxdb')
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

/** What devices say of a field is read with it: its unit, and of a figure that stands alone its name. */
const unitsTransformation = (kind: Kind) => ({
  id: 'configFromData',
  options: {
    configRefId: UNITS,
    mappings: [
      { fieldName: 'unit', handlerKey: 'unit' },
      ...(kind === 'stat' ? [{ fieldName: 'name', handlerKey: 'displayName' }] : []),
    ],
  },
});

const isNamed = ({ kind, units, queries, title }: PanelSpec): boolean =>
  kind === 'stat' &&
  (units !== undefined ||
    queries.some(({ alias = '' }) => alias !== '{{instance}}' && alias !== title));

function panelsOf(spec: DashboardSpec, source: SourceName): Panel[] {
  let [x, y, rowHeight] = [0, 0, 0];
  return spec.panels.map((panel, index): Panel => {
    if (x + panel.width > GRID_WIDTH) [x, y, rowHeight] = [0, y + rowHeight, 0];
    const gridPos = { x, y, w: panel.width, h: panel.height };
    x += panel.width;
    rowHeight = Math.max(rowHeight, panel.height);
    const { kind, queries, units } = panel;
    const targets = queries.map((query, at) =>
      target(source, kind, isLine(panel) ? withEmpty(query) : query, String.fromCharCode(65 + at)),
    );
    if (units !== undefined)
      targets.push(target(source, kind, { query: units, table: true }, UNITS));
    return {
      id: index + 1,
      type: kind,
      title: panel.title,
      description: panel.about,
      datasource: asked(source),
      gridPos,
      fieldConfig: fieldConfig(panel, source),
      // A figure that stands alone has a name as well where that tells something.
      options: { ...OPTIONS[kind], ...(isNamed(panel) ? { textMode: 'value_and_name' } : {}) },
      targets,
      ...(units === undefined ? {} : { transformations: [unitsTransformation(kind)] }),
    };
  });
}

function annotationOf(spec: AnnotationSpec, source: SourceName): AnnotationQuery {
  const { name, color, query, text, tags } = spec;
  const common = { name, enable: true, iconColor: color, datasource: asked(source) };
  if (source === 'prometheus') {
    const said = { expr: query, titleFormat: name, textFormat: text, tagKeys: tags };
    return { ...common, ...said };
  }
  const columns = { textColumn: text, tagsColumn: tags };
  const question = { refId: 'Anno', rawQuery: true, fromAnnotations: true, query, ...columns };
  return { ...common, ...{ target: question } };
}

function variablesOf(spec: DashboardSpec, source: SourceName): VariableModel[] {
  const { type, uid, variable, label } = SOURCES[source];
  const chosen: VariableModel = {
    type: 'datasource',
    name: variable,
    label,
    query: type,
    includeAll: false,
    multi: false,
    current: { text: uid, value: uid },
  };
  const asking = spec.variables.map(
    ({ name, label: of, query, all, only, isHidden }): VariableModel => ({
      type: 'query',
      name,
      label: of,
      query,
      datasource: asked(source),
      refresh: 2,
      includeAll: all,
      multi: all,
      sort: 1,
      ...(isHidden === true ? { hide: 2 } : {}),
      // Without a group in it Grafana takes a name that fits as it is.
      ...(only === undefined ? {} : { regex: `/${only}/` }),
      ...(all ? { allValue: '.*', current: { text: 'All', value: '$__all' } } : {}),
    }),
  );
  return [chosen, ...asking];
}

/** Lays panels out in rows and gives the dashboard's JSON model. */
export function dashboard(spec: DashboardSpec): Dashboard {
  const source = spec.source ?? 'influxdb';
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
    templating: { list: variablesOf(spec, source) },
    annotations: { list: (spec.annotations ?? []).map((each) => annotationOf(each, source)) },
    panels: panelsOf(spec, source),
  };
}

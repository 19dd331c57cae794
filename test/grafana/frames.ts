/** Answers as Grafana's data sources make frames of them: of InfluxQL a frame for each series or one table, of PromQL one for each series. */
/** As InfluxQL is answered. */
export interface Series {
  name: string;
  tags: Record<string, string>;
  columns: string[];
  values: (string | number | boolean | null)[][];
}

export interface Field {
  name: string;
  type: 'time' | 'number' | 'string' | 'boolean';
  values: unknown[];
  labels?: Record<string, string>;
  config: { displayNameFromDS?: string; interval?: number };
}

export interface Frame {
  refId: string;
  name?: string;
  fields: Field[];
}

export interface Target {
  refId: string;
  query?: string;
  expr?: string;
  alias?: string;
  legendFormat?: string;
  resultFormat?: string;
  instant?: boolean;
}

function typeOf(values: readonly unknown[]): Field['type'] {
  const first = values.find((value) => value !== null && value !== undefined);
  if (typeof first === 'string') return 'string';
  return typeof first === 'boolean' ? 'boolean' : 'number';
}
const fieldOf = (name: string, values: unknown[]): Field => ({
  name,
  type: name === 'Time' ? 'time' : typeOf(values),
  values,
  config: {},
});

export function influxFrames(target: Target, series: readonly Series[]): Frame[] {
  const { refId, alias, resultFormat } = target;
  if (resultFormat === 'table') {
    const tags = [...new Set(series.flatMap((each) => Object.keys(each.tags)))];
    const columns = [...new Set(series.flatMap((each) => each.columns.slice(1)))];
    const rows = series.flatMap((each) =>
      each.values.map((row) => [
        row[0],
        ...tags.map((tag) => each.tags[tag] ?? ''),
        ...columns.map((column) => row[each.columns.indexOf(column)] ?? null),
      ]),
    );
    const names = ['Time', ...tags, ...columns];
    return [
      {
        refId,
        fields: names.map((name, at) =>
          fieldOf(
            name,
            rows.map((row) => row[at]),
          ),
        ),
      },
    ];
  }
  return series.flatMap(({ name, tags, columns, values }) =>
    columns.slice(1).map((column, at): Frame => {
      const shown = Object.entries(tags).map(([tag, value]) => `${tag}: ${value}`);
      const label =
        alias?.replaceAll(/\$tag_(\w+)/g, (_, tag: string) => tags[tag] ?? '') ??
        `${name}.${column}${shown.length === 0 ? '' : ` {${shown.join(', ')}}`}`;
      const value = fieldOf(
        'Value',
        values.map((row) => row[at + 1]),
      );
      value.config.displayNameFromDS = label;
      return {
        refId,
        name: label,
        fields: [
          fieldOf(
            'Time',
            values.map(([time]) => time),
          ),
          value,
        ],
      };
    }),
  );
}

interface Sample {
  metric: Record<string, string>;
  value?: [number, string];
  values?: [number, string][];
}

/** `stepMs`: of a range, as Grafana's data source says it with the times. */
export function prometheusFrames(
  { refId, legendFormat = '' }: Target,
  result: readonly Sample[],
  stepMs: number | undefined,
): Frame[] {
  return result.map(({ metric, value, values = value === undefined ? [] : [value] }): Frame => {
    const label = legendFormat.replaceAll(
      /\{\{(\w+)\}\}/g,
      (_, name: string) => metric[name] ?? '',
    );
    const number = fieldOf(
      'Value',
      values.map(([, text]) => Number(text.replace('Inf', 'Infinity'))),
    );
    number.type = 'number';
    number.labels = metric;
    number.config.displayNameFromDS = label.trim();
    const times = fieldOf(
      'Time',
      values.map(([seconds]) => seconds * 1000),
    );
    if (stepMs !== undefined) times.config.interval = stepMs;
    return { refId, name: label.trim(), fields: [times, number] };
  });
}

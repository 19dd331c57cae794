/** One field of one measurement, series by series: mean, spread, the raw points, and why there is nothing where there is none. */
import type { DashboardSpec, PanelSpec } from './model.ts';
import { ANNOTATIONS, STATE_TIMELINE } from './states.ts';
import { GATEWAY_OF, MEASUREMENT, numberField } from './variables.ts';

export const unitsOf = (measurement: string, field: string): string =>
  `SELECT last("unit_text") AS "unit", last("name_text") AS "name" FROM "headwater_fields" WHERE "measurement" = '$${measurement}' AND "field" = '$${field}'`;

const OF = '"$measurement" WHERE $timeFilter AND "gateway" =~ /^$gateway$/';
const units = unitsOf('measurement', 'field');

const PANELS: PanelSpec[] = [
  {
    title: '$measurement $field',
    kind: 'timeseries',
    about:
      'What does each series do? The mean of each interval; a line is cut where nothing came for long (in Grafana an hour, or an interval where those are wider), and what is below says why.',
    width: 20,
    height: 11,
    units,
    queries: [
      { query: `SELECT mean("$field") FROM ${OF} GROUP BY time($__interval), * fill(none)` },
    ],
  },
  {
    title: 'Newest',
    kind: 'stat',
    about: 'What came last of any series, whenever that was? By the name that its device gives it.',
    width: 4,
    height: 11,
    units,
    queries: [
      {
        query: 'SELECT last("$field") FROM "$measurement" WHERE "gateway" =~ /^$gateway$/',
        alias: '$field',
      },
    ],
  },
  STATE_TIMELINE,
  {
    title: 'Least, mean and most',
    kind: 'timeseries',
    about: 'How far do values spread in each interval, over all series?',
    width: 12,
    height: 9,
    units,
    queries: (
      [
        ['min', 'least'],
        ['mean', 'mean'],
        ['max', 'most'],
      ] as const
    ).map(([fn, alias]) => ({
      query: `SELECT ${fn}("$field") FROM ${OF} GROUP BY time($__interval) fill(none)`,
      alias,
    })),
  },
  {
    title: 'Newest readings',
    kind: 'table',
    about: 'What came last? The last hundred points as they were stored.',
    width: 12,
    height: 9,
    units,
    queries: [{ query: `SELECT "$field" FROM ${OF} ORDER BY time DESC LIMIT 100`, table: true }],
  },
];

export const EXPLORER: DashboardSpec = {
  uid: 'headwater-explorer',
  title: 'Headwater / Sensor explorer',
  about: 'Any field of any measurement, by series, and why a line has a gap.',
  from: 'now-6h',
  variables: [MEASUREMENT, numberField('field', 'Field', 'measurement'), GATEWAY_OF],
  annotations: ANNOTATIONS,
  panels: PANELS,
};

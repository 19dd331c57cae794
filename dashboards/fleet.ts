/** The fleet: how each gateway stands and where it is, how much it brings, and what came last. */
import type { DashboardSpec, PanelSpec, QuerySpec } from './model.ts';
import {
  ANNOTATIONS,
  GATEWAY_COLUMNS,
  GATEWAY_STATES,
  NEWEST_WORD,
  STATED,
  STATE_TIMELINE,
} from './states.ts';
import { GATEWAY_OF, MEASUREMENT } from './variables.ts';

const countOf = (state: string): QuerySpec => ({
  query: `SELECT count("state") FROM (SELECT last("state_text") AS "state" FROM ${STATED} GROUP BY "gateway") WHERE "state" = '${state}'`,
  alias: state,
  quiet: true,
});

const GATEWAYS: PanelSpec[] = [
  {
    title: 'Gateways',
    kind: 'stat',
    about:
      'How many gateways are fresh, silent, still sending what they held (on the way), or waiting for a clock (unsure)? Each is spoken of a minute after it came.',
    width: 8,
    height: 8,
    unit: 'short',
    thresholds: [{ from: -Infinity, color: 'green' }],
    columns: Object.fromEntries(
      Object.entries(GATEWAY_STATES).map(([state, { color }]) => [
        state,
        { thresholds: [{ from: -Infinity, color }] },
      ]),
    ),
    queries: Object.keys(GATEWAY_STATES).map(countOf),
  },
  {
    title: 'Map',
    kind: 'geomap',
    about:
      'Where are the gateways that say where they are (`location.latitude`, `location.longitude`), and how do they stand?',
    width: 16,
    height: 8,
    states: GATEWAY_STATES,
    columns: { Time: { isHidden: true } },
    queries: [
      {
        query: `SELECT last("latitude") AS "latitude", last("longitude") AS "longitude", last("state_text") AS "state" FROM ${STATED} GROUP BY "gateway"`,
        table: true,
        quiet: true,
      },
    ],
  },
  {
    title: 'How each gateway stands',
    kind: 'table',
    about: 'Which gateway is not fresh, since when and why, and what does it still hold?',
    width: 24,
    height: 8,
    columns: {
      ...GATEWAY_COLUMNS,
      why: {
        isText: true,
        to: {
          title: 'Its ledger',
          uid: 'headwater-ledger',
          with: { gateway: '{gateway}' },
        },
      },
    },
    queries: [{ query: NEWEST_WORD, table: true, quiet: true }],
  },
  { ...STATE_TIMELINE, title: 'States' },
];

const READINGS: PanelSpec[] = [
  {
    title: 'Readings by gateway',
    kind: 'timeseries',
    about: 'Which gateways bring nothing? Count of $field in $measurement; 0 while there is none.',
    width: 16,
    height: 9,
    unit: 'short',
    queries: [
      {
        query:
          'SELECT count("$field") FROM "$measurement" WHERE $timeFilter AND "gateway" =~ /^$gateway$/ GROUP BY time($__interval), "gateway" fill(0)',
        alias: '$tag_gateway',
      },
    ],
  },
  {
    title: 'Readings in the range',
    kind: 'stat',
    about: 'How much did each gateway bring? Count of $field in $measurement over the whole range.',
    width: 8,
    height: 9,
    unit: 'short',
    queries: [
      {
        query:
          'SELECT count("$field") FROM "$measurement" WHERE $timeFilter AND "gateway" =~ /^$gateway$/ GROUP BY "gateway"',
        alias: '$tag_gateway',
      },
    ],
  },
  {
    title: 'Newest value of each series',
    kind: 'table',
    about:
      'What does each series say, whenever that was? Its time leads to the explorer, to the day around it.',
    width: 24,
    height: 12,
    columns: {
      Time: {
        to: {
          title: 'The day around it',
          uid: 'headwater-explorer',
          with: { measurement: '$measurement', field: '$field' },
          around: 'Time',
        },
      },
    },
    queries: [
      {
        query:
          'SELECT last("$field") AS "value" FROM "$measurement" WHERE "gateway" =~ /^$gateway$/ GROUP BY *',
        table: true,
      },
    ],
  },
];

export const FLEET: DashboardSpec = {
  uid: 'headwater-fleet',
  title: 'Headwater / Fleet',
  about:
    'How each gateway stands and where it is, how much it brings, and the newest value of every series.',
  from: 'now-24h',
  variables: [
    MEASUREMENT,
    { name: 'field', label: 'Field', query: 'SHOW FIELD KEYS FROM "$measurement"', all: false },
    GATEWAY_OF,
  ],
  annotations: ANNOTATIONS,
  panels: [...GATEWAYS, ...READINGS],
};

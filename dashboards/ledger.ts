/** The delivery ledger: what is missing, since when and why; told by the collector of every gateway, with its past. */
import type { DashboardSpec, PanelSpec } from './model.ts';
import {
  ANNOTATIONS,
  GATEWAY_COLUMNS,
  GONE,
  NEWEST_WORD,
  STATED,
  STATE_TIMELINE,
} from './states.ts';
import { GATEWAY } from './variables.ts';

const nowOf = (
  title: string,
  field: string,
  about: string,
  color: 'red' | 'orange',
): PanelSpec => ({
  title,
  kind: 'stat',
  about,
  width: 6,
  height: 5,
  unit: 'short',
  thresholds: [
    { from: -Infinity, color: 'green' },
    { from: 1, color },
  ],
  queries: [
    {
      query: `SELECT sum("${field}") FROM (SELECT last("${field}") AS "${field}" FROM ${STATED} GROUP BY "gateway")`,
      alias: title,
      quiet: true,
    },
  ],
});

const NOW: PanelSpec[] = [
  nowOf(
    'Missing',
    'missing',
    'How many messages were given out and are nowhere: not arrived, not held, not reported lost?',
    'red',
  ),
  nowOf(
    'Lost',
    'lost',
    'How many messages did gateways report as lost? The table below says why.',
    'red',
  ),
  nowOf(
    'On the way',
    'waiting',
    'How many messages do gateways still hold? They are expected, and nothing of them is missing.',
    'orange',
  ),
  nowOf(
    'Waits for a clock',
    'held',
    'How many frames are here whose time is not known yet, so that their readings are in no store?',
    'orange',
  ),
];

const ACCOUNT: PanelSpec[] = [
  {
    title: 'Account of each gateway',
    kind: 'table',
    about: 'Of which gateway is anything missing, lost or on its way, since when and why?',
    width: 24,
    height: 8,
    columns: GATEWAY_COLUMNS,
    queries: [{ query: NEWEST_WORD, table: true, quiet: true }],
  },
  {
    title: 'What is gone, since when and why',
    kind: 'table',
    about:
      'Which messages of which gateway are missing or lost? Since: when the collector learned of it; sequences count within an epoch, as `headwater ledger` has them.',
    width: 24,
    height: 8,
    columns: {
      Time: { label: 'since', width: 170 },
      gateway: { width: 150 },
      cause: { width: 90 },
      messages: { unit: 'short', thresholds: [{ from: -Infinity, color: 'red' }], width: 100 },
      from: { width: 110 },
      to: { width: 110 },
      epoch: { width: 160 },
      why: { isText: true },
    },
    queries: [
      {
        query: `SELECT "gateway", "cause", "messages", "from", "to", "epoch_text" AS "epoch", "reason_text" AS "why" FROM ${GONE} ORDER BY time DESC LIMIT 200`,
        table: true,
        quiet: true,
      },
    ],
  },
  STATE_TIMELINE,
  {
    title: 'On the way and gone',
    kind: 'timeseries',
    about: 'When was how much on its way, and when did anything get lost? As it was told.',
    width: 12,
    height: 9,
    unit: 'short',
    isStepped: true,
    queries: ['waiting', 'missing', 'lost'].map((field) => ({
      query: `SELECT max("${field}") FROM ${STATED} GROUP BY time($__interval), "gateway" fill(none)`,
      alias: `$tag_gateway ${field}`,
      quiet: true,
    })),
  },
  {
    title: 'What happened',
    kind: 'table',
    about: 'Which outages were there, and how much came late after each?',
    width: 12,
    height: 9,
    columns: {
      Time: { width: 170 },
      event: { width: 90 },
      gateway: { width: 110 },
      late: { label: 'came late', unit: 'short', width: 90 },
      why: { isText: true },
    },
    queries: [
      {
        query: `SELECT "event_text" AS "event", "gateway", "late", "reason_text" AS "why" FROM ${STATED} AND "event_text" =~ /./ ORDER BY time DESC LIMIT 100`,
        table: true,
        quiet: true,
      },
    ],
  },
];

export const LEDGER: DashboardSpec = {
  uid: 'headwater-ledger',
  title: 'Headwater / Delivery ledger',
  about: 'What is missing of what gateways have acknowledged, since when and why.',
  from: 'now-7d',
  variables: [GATEWAY],
  annotations: ANNOTATIONS,
  panels: [...NOW, ...ACCOUNT],
};

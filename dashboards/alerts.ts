/** Alerts of stream rules: which there are now, and which there were. */
import type { ColumnSpec, DashboardSpec, States } from './model.ts';
import { ANNOTATIONS } from './states.ts';
import { GATEWAY } from './variables.ts';

/** What each alert of a rule was about leads to its series. */
const TO_SERIES: ColumnSpec = {
  to: {
    title: 'The series around it',
    uid: 'headwater-explorer',
    with: { measurement: '{measurement}', field: '{field}' },
    around: 'Time',
  },
};
const YES_OR_NO: States = {
  true: { text: 'yes', color: 'orange' },
  false: { text: 'no', color: 'green' },
};

const COLUMNS: Record<string, ColumnSpec> = {
  measurement: { ...TO_SERIES, width: 120 },
  field: { width: 110 },
  rule: { width: 110 },
  active: { states: YES_OR_NO, width: 70 },
  late: { states: YES_OR_NO, width: 70 },
  message: { isText: true },
};

export const ALERTS: DashboardSpec = {
  uid: 'headwater-alerts',
  title: 'Headwater / Alerts',
  about: 'What stream rules have said: thresholds, rates of change, silence and its reason.',
  from: 'now-24h',
  variables: [{ ...GATEWAY, isHidden: true }],
  annotations: ANNOTATIONS,
  panels: [
    {
      title: 'Now',
      kind: 'table',
      about: 'What holds now? The newest word on each series and rule.',
      width: 24,
      height: 9,
      columns: COLUMNS,
      queries: [
        {
          query:
            'SELECT "active_bool" AS "active", "message_text" AS "message", "reason_text" AS "why" FROM "alerts" WHERE $timeFilter GROUP BY * ORDER BY time DESC LIMIT 1',
          table: true,
        },
      ],
    },
    {
      title: 'When they held',
      kind: 'state-timeline',
      about: 'From when to when did a rule hold of any series? The word that came last counts.',
      width: 24,
      height: 6,
      states: YES_OR_NO,
      queries: [
        {
          query: 'SELECT "active_bool" FROM "alerts" WHERE $timeFilter GROUP BY "rule"',
          alias: '$tag_rule',
        },
      ],
    },
    {
      title: 'By rule',
      kind: 'timeseries',
      isCounted: true,
      about: 'When did alerts begin or end, by rule?',
      width: 24,
      height: 7,
      unit: 'short',
      queries: [
        {
          query:
            'SELECT count("message_text") FROM "alerts" WHERE $timeFilter GROUP BY time($__interval), "rule" fill(0)',
          alias: '$tag_rule',
        },
      ],
    },
    {
      title: 'Events',
      kind: 'table',
      about:
        'What happened? The last hundred; late ones came of a backlog and were delivered to nobody.',
      width: 24,
      height: 9,
      columns: COLUMNS,
      queries: [
        {
          query:
            'SELECT "rule", "measurement", "field", "message_text" AS "message", "reason_text" AS "why", "active_bool" AS "active", "late_bool" AS "late" FROM "alerts" WHERE $timeFilter ORDER BY time DESC LIMIT 100',
          table: true,
        },
      ],
    },
  ],
};

/** How good what is stored is: silence, values that stand still or at the end of their range, what came late. */
import type { ColumnSpec, DashboardSpec } from './model.ts';
import { ANNOTATIONS, STATED, STATE_TIMELINE } from './states.ts';
import { GATEWAY_OF, MEASUREMENT, numberField } from './variables.ts';

const AT_THE_END: ColumnSpec = {
  unit: 'percentunit',
  thresholds: [
    { from: -Infinity, color: 'red' },
    { from: 0.000001, color: 'green' },
  ],
};

export const QUALITY: DashboardSpec = {
  uid: 'headwater-quality',
  title: 'Headwater / Data quality',
  about:
    'Where a series has gaps, which one stands still or at an end of its range, and what came late.',
  from: 'now-24h',
  variables: [MEASUREMENT, numberField('field', 'Field', 'measurement'), GATEWAY_OF],
  annotations: ANNOTATIONS,
  panels: [
    {
      title: 'Readings of each series',
      kind: 'timeseries',
      about:
        'When did a series say less than usual, or nothing? Its readings in each interval; 0 is a gap.',
      width: 24,
      height: 9,
      unit: 'short',
      queries: [
        {
          query:
            'SELECT count("$field") AS "readings" FROM "$measurement" WHERE $timeFilter AND "gateway" =~ /^$gateway$/ GROUP BY time($__interval), * fill(0)',
        },
      ],
    },
    STATE_TIMELINE,
    {
      title: 'Longest silence',
      kind: 'table',
      about: 'How long was the longest time between two readings of a series in the range?',
      width: 12,
      height: 9,
      columns: {
        'longest silence': {
          unit: 's',
          thresholds: [
            { from: -Infinity, color: 'green' },
            { from: 900, color: 'orange' },
            { from: 3600, color: 'red' },
          ],
        },
      },
      queries: [
        {
          query:
            'SELECT max("silence") AS "longest silence" FROM (SELECT elapsed("$field", 1s) AS "silence" FROM "$measurement" WHERE $timeFilter AND "gateway" =~ /^$gateway$/ GROUP BY *) WHERE $timeFilter GROUP BY *',
          table: true,
          quiet: true,
        },
      ],
    },
    {
      title: 'Values that differ',
      kind: 'table',
      about:
        'Which sensor is stuck? How many values that differ each series had in the range; 1 of many readings is stuck.',
      width: 12,
      height: 9,
      columns: {
        Time: { isHidden: true },
        'values that differ': {
          unit: 'short',
          thresholds: [
            { from: -Infinity, color: 'red' },
            { from: 2, color: 'green' },
          ],
        },
      },
      queries: [
        {
          query:
            'SELECT count(distinct("$field")) AS "values that differ" FROM "$measurement" WHERE $timeFilter AND "gateway" =~ /^$gateway$/ GROUP BY *',
          table: true,
        },
      ],
    },
    {
      title: 'Saturated',
      kind: 'table',
      about:
        'Which sensor stands at the end of its range? How far the upper tenth of its readings is from the greatest, and the lower tenth from the least, as a part of the range; 0 is a tenth of all at the very end. Empty: all are the same.',
      width: 12,
      height: 9,
      columns: {
        Time: { isHidden: true },
        'below the top': AT_THE_END,
        'above the bottom': AT_THE_END,
      },
      queries: [
        {
          query:
            'SELECT (max("$field") - percentile("$field", 90)) / spread("$field") AS "below the top", (percentile("$field", 10) - min("$field")) / spread("$field") AS "above the bottom" FROM "$measurement" WHERE $timeFilter AND "gateway" =~ /^$gateway$/ GROUP BY *',
          table: true,
        },
      ],
    },
    {
      title: 'Came late',
      isCounted: true,
      kind: 'timeseries',
      about: 'How many messages of each gateway came after an outage, later than ten seconds?',
      width: 12,
      height: 9,
      unit: 'short',
      queries: [
        {
          query: `SELECT sum("late") FROM ${STATED} GROUP BY time($__interval), "gateway" fill(none)`,
          alias: '$tag_gateway',
          quiet: true,
        },
      ],
    },
    {
      title: 'Spread',
      kind: 'timeseries',
      about:
        'Since when does a series stand still? Greatest less least of each interval; 0 is one value alone.',
      width: 12,
      height: 9,
      queries: [
        {
          query:
            'SELECT spread("$field") AS "spread" FROM "$measurement" WHERE $timeFilter AND "gateway" =~ /^$gateway$/ GROUP BY time($__interval), * fill(none)',
        },
      ],
    },
    {
      title: 'Late alerts',
      isCounted: true,
      kind: 'timeseries',
      about: 'Which rules found something in a backlog only, too late to warn anybody of it?',
      width: 12,
      height: 9,
      unit: 'short',
      queries: [
        {
          query:
            'SELECT count("late_bool") AS "late" FROM "alerts" WHERE $timeFilter AND "late_bool" = true GROUP BY time($__interval), "rule" fill(0)',
          alias: '$tag_rule',
          quiet: true,
        },
      ],
    },
  ],
};

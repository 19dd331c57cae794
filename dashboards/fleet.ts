/** The fleet: which gateways bring how much, and what came last. */
import type { DashboardSpec } from './model.ts';

export const FLEET: DashboardSpec = {
  uid: 'headwater-fleet',
  title: 'Headwater / Fleet',
  about: 'How many readings each gateway brings, and the newest value of every series.',
  from: 'now-24h',
  variables: [
    { name: 'measurement', label: 'Measurement', query: 'SHOW MEASUREMENTS', all: false },
    { name: 'field', label: 'Field', query: 'SHOW FIELD KEYS FROM "$measurement"', all: false },
    {
      name: 'gateway',
      label: 'Gateway',
      query: 'SHOW TAG VALUES FROM "$measurement" WITH KEY = "gateway"',
      all: true,
    },
  ],
  panels: [
    {
      title: 'Readings by gateway',
      kind: 'timeseries',
      about: 'Which gateways are silent? Count of $field in $measurement; 0 while there is none.',
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
      about:
        'How much did each gateway bring? Count of $field in $measurement over the whole range.',
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
      about: 'What does each series say now, and since when has it said no more?',
      width: 24,
      height: 12,
      queries: [
        {
          query:
            'SELECT last("$field") AS "value" FROM "$measurement" WHERE $timeFilter AND "gateway" =~ /^$gateway$/ GROUP BY *',
          table: true,
        },
      ],
    },
  ],
};

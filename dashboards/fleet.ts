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
      about: 'Count of $field in $measurement; a gateway that is silent shows 0.',
      width: 16,
      height: 9,
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
      about: 'Count of $field in $measurement over the whole range.',
      width: 8,
      height: 9,
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
      about: 'One row a series, with the time of its newest reading.',
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

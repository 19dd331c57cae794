/** What stream rules and batch jobs made, beside what they made it of. */
import type { DashboardSpec } from './model.ts';
import { unitsOf } from './explorer.ts';
import { ANNOTATIONS } from './states.ts';
import { GATEWAY, MEASUREMENT, numberField } from './variables.ts';

/** Of windows and jobs of up to a day. */
const DAY_MS = 25 * 3_600_000;

export const RESULTS: DashboardSpec = {
  uid: 'headwater-results',
  title: 'Headwater / Results',
  about: 'Results of stream rules and batch jobs beside the readings that they come from.',
  from: 'now-24h',
  variables: [
    MEASUREMENT,
    numberField('field', 'Field', 'measurement'),
    { ...MEASUREMENT, name: 'result', label: 'Result' },
    numberField('result_field', 'Field of it', 'result'),
    { ...GATEWAY, isHidden: true },
  ],
  annotations: ANNOTATIONS,
  panels: [
    {
      title: '$result $result_field beside $measurement $field',
      kind: 'timeseries',
      about: 'Do results follow the readings? Both over one axis, by the mean of each interval.',
      width: 24,
      height: 11,
      units: unitsOf('measurement', 'field'),
      gapMs: DAY_MS,
      queries: [
        {
          query:
            'SELECT mean("$field") FROM "$measurement" WHERE $timeFilter GROUP BY time($__interval) fill(none)',
          alias: 'readings',
        },
        {
          query:
            'SELECT mean("$result_field") FROM "$result" WHERE $timeFilter GROUP BY time($__interval) fill(none)',
          alias: 'results',
        },
      ],
    },
    {
      title: '$result $result_field',
      gapMs: DAY_MS,
      kind: 'timeseries',
      about: 'What did the rule or job say of each series or group?',
      width: 12,
      height: 9,
      queries: [
        {
          query:
            'SELECT mean("$result_field") FROM "$result" WHERE $timeFilter GROUP BY time($__interval), * fill(none)',
        },
      ],
    },
    {
      title: 'Newest results',
      kind: 'table',
      about: 'What came last? The last hundred results with all their fields.',
      width: 12,
      height: 9,
      queries: [
        {
          query: 'SELECT * FROM "$result" WHERE $timeFilter ORDER BY time DESC LIMIT 100',
          table: true,
        },
      ],
    },
  ],
};

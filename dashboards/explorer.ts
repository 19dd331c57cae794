/** One field of one measurement, series by series: mean, spread, and the raw points. */
import type { DashboardSpec } from './model.ts';
import { MEASUREMENT, numberField } from './variables.ts';

export const EXPLORER: DashboardSpec = {
  uid: 'headwater-explorer',
  title: 'Headwater / Sensor explorer',
  about: 'Any field of any measurement, by series.',
  from: 'now-6h',
  variables: [MEASUREMENT, numberField('field', 'Field', 'measurement')],
  panels: [
    {
      title: '$measurement $field',
      kind: 'timeseries',
      about: 'What does each series do? The mean of each interval.',
      width: 24,
      height: 11,
      queries: [
        {
          query:
            'SELECT mean("$field") FROM "$measurement" WHERE $timeFilter GROUP BY time($__interval), * fill(none)',
        },
      ],
    },
    {
      title: 'Least, mean and most',
      kind: 'timeseries',
      about: 'How far do values spread in each interval, over all series?',
      width: 12,
      height: 9,
      queries: [
        {
          query:
            'SELECT min("$field") FROM "$measurement" WHERE $timeFilter GROUP BY time($__interval) fill(none)',
          alias: 'least',
        },
        {
          query:
            'SELECT mean("$field") FROM "$measurement" WHERE $timeFilter GROUP BY time($__interval) fill(none)',
          alias: 'mean',
        },
        {
          query:
            'SELECT max("$field") FROM "$measurement" WHERE $timeFilter GROUP BY time($__interval) fill(none)',
          alias: 'most',
        },
      ],
    },
    {
      title: 'Newest readings',
      kind: 'table',
      about: 'What came last? The last hundred points as they were stored.',
      width: 12,
      height: 9,
      queries: [
        {
          query:
            'SELECT "$field" FROM "$measurement" WHERE $timeFilter ORDER BY time DESC LIMIT 100',
          table: true,
        },
      ],
    },
  ],
};

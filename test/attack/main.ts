/** `npm run attack -- [--site up|apart] [--only TEXT] [--seconds N] [--no-times]`: see run.ts. */
import { parseArgs } from 'node:util';
import { attackAll } from './run.ts';
import type { SITES } from './site.ts';

const { values } = parseArgs({
  options: {
    site: { type: 'string', default: '' },
    only: { type: 'string', default: '' },
    seconds: { type: 'string', default: '6' },
    'no-times': { type: 'boolean', default: false },
  },
});
const problems = await attackAll({
  sites: (values.site === '' ? ['up', 'apart'] : [values.site]) as (keyof typeof SITES)[], // As the line above says.
  only: values.only,
  ms: Number(values.seconds) * 1000,
  judgesTimes: !values['no-times'],
  say: (line) => void process.stdout.write(`${line}\n`),
});
process.stdout.write(`\n${problems.length} things went wrong\n`);
for (const text of new Set(problems)) process.stdout.write(`${text}\n`);
process.exit(problems.length === 0 ? 0 : 1);

/** `npm run attack -- [--site up|apart] [--only TEXT,…] [--seconds N] [--times N] [--no-times] [--profile DIR]`: see run.ts. */
import { attackAll } from './run.ts';
import { flagsOf } from '../../scripts/flags.mjs';

const { values } = flagsOf(import.meta.url, {
  options: {
    site: { type: 'string', choices: ['up', 'apart'] },
    only: { type: 'string', default: '', about: "parts of attacks' names, with commas between" },
    seconds: { type: 'number', default: 6, min: 1, about: 'of an attack and its control' },
    times: {
      type: 'integer',
      default: 3,
      min: 1,
      about: 'pairs at most, of which the median counts',
    },
    'no-times': { type: 'boolean', about: 'only what is lost is judged' },
    profile: { type: 'string', default: '', about: 'a folder for profiles of the processor' },
  },
});
const problems = await attackAll({
  sites: values.site === undefined ? ['up', 'apart'] : [values.site],
  only: values.only.split(','),
  timesMax: values.times,
  profile: values.profile,
  ms: values.seconds * 1000,
  judgesTimes: !values['no-times'],
  say: (line) => void process.stdout.write(`${line}\n`),
});
process.stdout.write(`\n${problems.length} things went wrong\n`);
for (const text of new Set(problems)) process.stdout.write(`${text}\n`);
process.exit(problems.length === 0 ? 0 : 1);

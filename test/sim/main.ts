/**
 * `npm run sim -- --seeds N [--from SEED] [--world whole|edge|each] [--control NAME] [--until-broken]`: so many simulated
 * runs, of the whole collector, of one without lake and streams, or of each in turn. A seed that breaks
 * a law is printed with what broke, and replays bit for bit: `npm run sim -- --seeds 1 --from SEED`. `--until-broken`
 * ends with the first seed that does: all that a control has to show.
 */
import { VirtualTime } from './time.ts';
import { installFiles } from './file-calls.ts';
import { CONTROLS, START_US, World } from './world.ts';
import { flagsOf } from '../../scripts/flags.mjs';

const { values } = flagsOf(import.meta.url, {
  options: {
    seeds: { type: 'integer', default: 200, min: 1 },
    from: { type: 'integer', default: 1 },
    world: { type: 'string', choices: ['whole', 'edge', 'each'], default: 'whole' },
    control: { type: 'string', choices: CONTROLS },
    'until-broken': { type: 'boolean' },
    verbose: { type: 'boolean' },
  },
});
const { seeds, from, control } = values;

const isWhole = {
  whole: () => true,
  edge: () => false,
  each: (seed: number) => seed % 2 === 0,
}[values.world];

process.on('unhandledRejection', (error) => {
  process.stdout.write(`unhandled: ${error instanceof Error ? error.stack : String(error)}\n`);
  process.exit(1);
});

const started = process.hrtime();
const time = new VirtualTime();
installFiles();
time.install(START_US / 1000);
let acknowledged = 0;
let events = 0;
let bad = 0;
let ran = 0;
const fired: Record<string, number> = {};
for (let seed = from; seed < from + seeds; seed++) {
  if (bad > 0 && values['until-broken']) break;
  ran++;
  const outcome = await new World(seed, time, isWhole(seed), control).run();
  acknowledged += outcome.acknowledged;
  events += outcome.events;
  for (const [fault, count] of Object.entries(outcome.fired))
    fired[fault] = (fired[fault] ?? 0) + count;
  if (outcome.broken.length > 0) {
    bad++;
    for (const text of outcome.broken) process.stdout.write(`seed ${seed}: ${text}\n`);
  }
  if (values.verbose || seeds === 1)
    process.stdout.write(
      `seed ${seed}: trace ${outcome.trace}, ${outcome.acknowledged} acknowledged, ${outcome.stored} stored, ${outcome.events} events\n`,
    );
}
const faults = Object.entries(fired)
  .sort(([a], [b]) => (a < b ? -1 : 1))
  .map(([fault, count]) => `${fault} ${count}`)
  .join(', ');
const [seconds] = process.hrtime(started);
const { user, system } = process.cpuUsage();
const cpu = (user + system) / 1e6;
process.stdout.write(
  `${bad} of ${ran} seeds broke a law${bad === 0 ? ` (95 % bound ${(3 / ran).toPrecision(2)})` : ''}; ${acknowledged} acknowledged messages, ${events} events, ${seconds} s, ${Math.round(cpu)} s of CPU, ${Math.round(events / cpu)} events for each\nfired: ${faults}\n`,
);
process.exit(bad === 0 ? 0 : 1);

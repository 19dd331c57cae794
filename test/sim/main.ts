/**
 * `npm run sim -- --seeds N [--from SEED] [--also SEED,…] [--world whole|edge|each|thin] [--control NAME,…] [--until-broken]`: so many
 * simulated runs, of the whole collector, of one without lake and streams, of each in turn, or of the whole with a gateway whose
 * buffer is small and sheds; and first these of the whole collector. A seed that breaks
 * a law is printed with what broke, and replays bit for bit: `npm run sim -- --seeds 1 --from SEED`. `--until-broken`
 * ends with the first seed that does: all that a control has to show. Of several controls each has its seeds; the end is 1
 * when each of them broke a law.
 */
import { VirtualTime } from './time.ts';
import { installFiles } from './file-calls.ts';
import { CONTROLS, START_US, World, type Control } from './world.ts';
import { flagsOf } from '../../scripts/flags.mjs';

const { values } = flagsOf(import.meta.url, {
  options: {
    seeds: { type: 'integer', default: 200, min: 1 },
    from: { type: 'integer', default: 1 },
    also: { type: 'integer', list: true, min: 1 },
    world: { type: 'string', choices: ['whole', 'edge', 'each', 'thin'], default: 'whole' },
    control: { type: 'string', list: true, choices: CONTROLS },
    'until-broken': { type: 'boolean' },
    verbose: { type: 'boolean' },
  },
});
const { seeds, from } = values;
const controls: readonly (Control | undefined)[] = values.control ?? [undefined];

const isWhole = {
  whole: () => true,
  edge: () => false,
  each: (seed: number) => seed % 2 === 0,
  thin: () => true,
}[values.world];

const wanted = [
  ...(values.also ?? []).map((seed) => ({ seed, whole: true })),
  ...Array.from({ length: seeds }, (_, at) => from + at).map((seed) => ({
    seed,
    whole: isWhole?.(seed) === true,
  })),
];

process.on('unhandledRejection', (error) => {
  process.stdout.write(`unhandled: ${error instanceof Error ? error.stack : String(error)}\n`);
  process.exit(1);
});

const say = (text: string): void => void process.stdout.write(`${text}\n`);
const started = process.hrtime();
const time = new VirtualTime();
installFiles();
time.install(START_US / 1000);
const of = { acknowledged: 0, events: 0 };
const fired: Record<string, number> = {};

/** So many broke a law, of so many. */
async function run(control: Control | undefined): Promise<{ bad: number; ran: number }> {
  let bad = 0;
  let ran = 0;
  for (const { seed, whole } of wanted) {
    if (bad > 0 && values['until-broken']) break;
    ran++;
    const outcome = await new World(seed, time, whole, control, values.world === 'thin').run();
    of.acknowledged += outcome.acknowledged;
    of.events += outcome.events;
    for (const [fault, count] of Object.entries(outcome.fired))
      fired[fault] = (fired[fault] ?? 0) + count;
    if (outcome.broken.length > 0) bad++;
    for (const text of outcome.broken) say(`seed ${seed}: ${text}`);
    const { trace, acknowledged, stored, events } = outcome;
    if (values.verbose || seeds === 1)
      say(
        `seed ${seed}: trace ${trace}, ${acknowledged} acknowledged, ${stored} stored, ${events} events`,
      );
  }
  return { bad, ran };
}

let found = 0;
for (const control of controls) {
  const { bad, ran } = await run(control);
  if (bad > 0) found++;
  const name = control === undefined ? '' : `control ${control}: `;
  const bound = bad === 0 ? ` (95 % bound ${(3 / ran).toPrecision(2)})` : '';
  say(`${name}${bad} of ${ran} seeds broke a law${bound}`);
}
const faults = Object.entries(fired)
  .sort(([a], [b]) => (a < b ? -1 : 1))
  .map(([fault, count]) => `${fault} ${count}`)
  .join(', ');
const [seconds] = process.hrtime(started);
const { user, system } = process.cpuUsage();
const cpu = (user + system) / 1e6;
say(
  `${of.acknowledged} acknowledged messages, ${of.events} events, ${seconds} s, ${Math.round(cpu)} s of CPU, ${Math.round(of.events / cpu)} events for each\nfired: ${faults}`,
);
process.exit(found === controls.length ? 1 : 0);

/**
 * `npm run files:try [-- --damages N] [--seed S] [--at-once N] [--minutes M] [--rounds S,S]`: damages every kind of file that a collector writes
 * (bits, sectors of zeros, cut short, emptied, deleted, an older copy, a folder or pipe in its place, calls that fail with EACCES
 * and EIO), several at once, stopped and while it runs. Everything has to be there again, or it is told; a start that is refused says why in
 * one sentence. Ends with 1 when a promise was broken. The seed replays a run, and that of a round this round alone.
 */
import { faultyDisk } from '../support/faulty-disk.ts';
import {
  Tally,
  contentTrial,
  faultTrial,
  placeTrial,
  type Outcome,
} from '../support/file-damage.ts';
import { FileSite } from '../support/file-site.ts';
import { rng } from '../support/seed.ts';
import { flagsOf } from '../../scripts/flags.mjs';

const { values } = flagsOf(import.meta.url, {
  options: {
    damages: { type: 'integer', default: 2000 },
    seed: { type: 'integer' },
    'at-once': { type: 'integer', default: 40, min: 1 },
    minutes: { type: 'number', default: 90 },
    rounds: { type: 'integer', list: true, about: 'seeds of rounds, which alone are run' },
  },
});
const seed = values.seed ?? Date.now() % 1_000_000_007;
const { damages: wanted, 'at-once': atOnce } = values;
const end = performance.now() + values.minutes * 60_000;
const disk = faultyDisk();
const site = new FileSite(disk?.environment);
const say = (text: string): void => void process.stdout.write(`${text}\n`);

await site.open();
say(`seed ${seed}: ${JSON.stringify(site.print)}`);
const tally = new Tally();
const isOver = (round: number): boolean =>
  values.rounds === undefined ? tally.damages >= wanted : round >= values.rounds.length;
for (let round = 0; !isOver(round) && performance.now() < end; round++) {
  const own = values.rounds?.[round] ?? seed + round;
  const next = rng(own);
  const run = (): Promise<Outcome> => {
    if (own % 10 === 3) return placeTrial(site, next);
    if (own % 10 === 8 && disk !== undefined) return faultTrial(site, disk, next);
    // One alone, and all of a kind's neighbours with it.
    return contentTrial(site, 1 + Math.floor(next() * atOnce), own % 3 === 0, next);
  };
  const outcome = await run().catch(
    (error: unknown): Outcome => ({ damages: [], told: [], broken: [String(error)] }),
  );
  tally.add(outcome);
  if (outcome.broken.length > 0)
    say(
      `--- round ${round} (seed ${own}): ${JSON.stringify(outcome.damages)}\n${outcome.broken.join('\n')}`,
    );
  if (round % 5 === 4) say(`${tally.line()}, ${Math.round(performance.now() / 1000)} s`);
}
await site.close();
say(tally.table());
say(`seed ${seed}: ${tally.line()}`);
process.exitCode = tally.broken === 0 ? 0 : 1;

/**
 * `npm run files:try [-- --damages N] [--seed S] [--at-once N] [--minutes M]`: damages every kind of file that a collector writes
 * (bits, sectors of zeros, cut short, emptied, deleted, an older copy, a folder or pipe in its place, calls that fail with EACCES
 * and EIO), several at once, stopped and while it runs. Everything has to be there again, or it is told; a start that is refused says why in
 * one sentence. Ends with 1 when a promise was broken. The seed replays a run.
 */
import { parseArgs } from 'node:util';
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

const { values } = parseArgs({
  options: {
    damages: { type: 'string', default: '2000' },
    seed: { type: 'string' },
    'at-once': { type: 'string', default: '40' },
    minutes: { type: 'string', default: '90' },
  },
});
const seed = Number(values.seed ?? Date.now() % 1_000_000_007);
const [wanted, atOnce] = [Number(values.damages), Number(values['at-once'])];
const end = performance.now() + Number(values.minutes) * 60_000;
const disk = faultyDisk();
const site = new FileSite(disk?.environment);
const say = (text: string): void => void process.stdout.write(`${text}\n`);

await site.open();
say(`seed ${seed}: ${JSON.stringify(site.print)}`);
const tally = new Tally();
for (let round = 0; tally.damages < wanted && performance.now() < end; round++) {
  const own = seed + round;
  const next = rng(own);
  const run = (): Promise<Outcome> => {
    if (round % 10 === 3) return placeTrial(site, next);
    if (round % 10 === 8 && disk !== undefined) return faultTrial(site, disk, next);
    // One alone, and all of a kind's neighbours with it.
    return contentTrial(site, 1 + Math.floor(next() * atOnce), round % 3 === 1, next);
  };
  const outcome = await run().catch(
    (error: unknown): Outcome => ({ damages: [], told: [], broken: [String(error)] }),
  );
  tally.add(outcome);
  if (outcome.broken.length > 0)
    say(
      `--- round ${round} (seed ${own}): ${JSON.stringify(outcome.damages)}\n${outcome.broken.join('\n')}`,
    );
  if (round % 5 === 4) say(tally.line());
}
await site.close();
say(tally.table());
say(`seed ${seed}: ${tally.line()}`);
process.exitCode = tally.broken === 0 ? 0 : 1;

/**
 * `node --import tsx test/chaos/lake.ts [--damages N] [--seed S] [--portion P] [--minutes M]`: flips, truncations and deletions in files of
 * a lake of every kind, many at once, on a running collector and between stop and start. Each has to be told, and every
 * row has to be there again, byte for byte. Ends with 1 when one was not. The seed replays a run.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { allRows, damage, filesOf, fill, trial } from '../support/lake-damage.ts';
import { LakeSite } from '../support/lake-site.ts';
import { temporaryFolder } from '../support/process.ts';
import { rng } from '../support/seed.ts';
import { flagsOf } from '../../scripts/flags.mjs';

const { values } = flagsOf(import.meta.url, {
  options: {
    damages: { type: 'integer', default: 2000 },
    seed: { type: 'integer' },
    portion: { type: 'number', default: 0.4, about: "of the lake's files, damaged at once" },
    minutes: { type: 'number', default: 60 },
  },
});
const seed = values.seed ?? Date.now() % 1_000_000_007;
const next = rng(seed);
const { damages: wanted, portion } = values;
const end = performance.now() + values.minutes * 60_000;

let damages = 0;
let rounds = 0;
let failures = 0;

async function site(): Promise<LakeSite> {
  const made = new LakeSite(temporaryFolder());
  await made.open();
  await fill(made);
  return made;
}

let at = await site();
let before = await allRows(at);
while (damages < wanted && performance.now() < end) {
  rounds++;
  const share = rounds % 3 === 0 ? 1 / filesOf(at.lakeFolder).length : portion;
  const keys = filesOf(at.lakeFolder).filter(() => next() < share);
  const isStopped = next() < 0.3;
  if (isStopped) await at.close();
  const done = isStopped ? keys.map((key) => damage(join(at.lakeFolder, key), next)) : [];
  if (isStopped) {
    at.said.length = 0;
    await at.open();
  }
  const result = await trial(at, before, keys, next, isStopped ? done : undefined);
  damages += result.damages;
  if (result.untold.length + result.differing.length > 0) {
    failures++;
    process.stdout.write(
      `round ${rounds}${isStopped ? ', between stop and start' : ''}: ${JSON.stringify(result, null, 1)}\n`,
    );
    await at.close();
    rmSync(at.folder, { recursive: true });
    at = await site();
    before = await allRows(at);
  }
  // Files of every round pile up, as they would; a new lake now and then.
  if (rounds % 25 === 0) {
    await at.close();
    rmSync(at.folder, { recursive: true });
    at = await site();
    before = await allRows(at);
    process.stdout.write(`${damages} damages in ${rounds} rounds, ${failures} failed\n`);
  }
}
await at.close();
process.stdout.write(
  `seed ${seed}: ${damages} damages in ${rounds} rounds: ${failures} rounds with a row changed, hidden or untold\n`,
);
process.exitCode = failures === 0 ? 0 : 1;

/** `npm run fuzz -- [--connections N] [--seed S]`: see fuzz.ts. A printed seed gives the same conversations. */
import { parseArgs } from 'node:util';
import { fuzz } from './fuzz.ts';

const { values } = parseArgs({
  options: {
    connections: { type: 'string', default: '100000' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  },
});
const [connections, seed] = [Number(values.connections), Number(values.seed)];
process.stdout.write(`fuzz: ${connections} connections, seed ${seed}\n`);
const result = await fuzz({
  connections,
  seed,
  onProgress: (done) => {
    if (process.stdout.isTTY) process.stdout.write(`\r${done} connections`);
  },
});
process.stdout.write(
  `${result.connections} connections in ${result.seconds.toFixed(0)} s (seed ${seed}): ${result.accepted} accepted, ${result.acknowledged} messages acknowledged and on disk, memory ${(result.grownBytes / 2 ** 20).toFixed(1)} MB more, ${result.problems.length} problems\n`,
);
for (const problem of result.problems) process.stdout.write(`${problem}\n`);
process.exit(result.problems.length === 0 && result.grownBytes < 64 * 2 ** 20 ? 0 : 1);

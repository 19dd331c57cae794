/**
 * `npm run fuzz -- [--connections N] [--seed S]`: conversations over real sockets, see fuzz.ts.
 * `npm run fuzz -- --decoder NAME|all [--minutes N] [--seed S]`: a decoder in this process, see decode.ts.
 * A printed seed gives the same conversations; a find of a decoder is printed with its input.
 */
import { fuzzDecoder, type Fuzzed } from './decode.ts';
import { DECODERS, prepare } from './decoders.ts';
import { fuzz } from './fuzz.ts';
import { flagsOf } from '../../scripts/flags.mjs';

const { values } = flagsOf(import.meta.url, {
  options: {
    connections: { type: 'integer', default: 100_000, min: 1 },
    decoder: { type: 'string', choices: ['all', ...Object.keys(DECODERS)] },
    minutes: { type: 'number', default: 1 },
    seed: { type: 'integer', default: Date.now() % 1_000_000 },
  },
});
const { connections, decoder, seed } = values;

async function conversations(): Promise<number> {
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
  return result.problems.length === 0 && result.grownBytes < 64 * 2 ** 20 ? 0 : 1;
}

function tell({ name, inputs, kept, blocks, slowestMs, slowestBytes, problems }: Fuzzed): void {
  process.stdout.write(
    `${name.padEnd(22)} ${String(inputs).padStart(9)} inputs, ${String(kept).padStart(4)} batches reached something new, ${blocks} blocks, slowest ${slowestMs.toFixed(1)} ms for ${slowestBytes} bytes, ${problems.length} problems\n`,
  );
  for (const problem of problems) process.stdout.write(`  ${problem}\n`);
}

async function decoders(asked: string): Promise<number> {
  const names = asked === 'all' ? Object.keys(DECODERS) : [asked];
  await prepare();
  process.stdout.write(
    `fuzz: ${names.length} decoders, ${values.minutes} minutes each, seed ${seed}\n`,
  );
  let problems = 0;
  for (const name of names) {
    const ms = values.minutes * 60_000;
    const fuzzed = await fuzzDecoder({ name, ms, inputsMax: Infinity, seed, isGuided: true });
    tell(fuzzed);
    problems += fuzzed.problems.length;
  }
  return problems === 0 ? 0 : 1;
}

process.exit(decoder === undefined ? await conversations() : await decoders(decoder));

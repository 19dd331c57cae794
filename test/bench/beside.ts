/**
 * Decoding beside an older commit, in one run: a process for each tree, asked by turns for every codec, messages a second
 * of processor time. The ratio is the median of the pairs.
 *
 *     node --import tsx test/bench/beside.ts [--commit 2044e52] [--rounds 15] [--messages 20000]
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { CASES } from './codecs.ts';
import { median } from './measure.ts';
import { flagsOf } from '../../scripts/flags.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** Rounds before it is measured: the compiler is done then. */
const WARM_UP = 3;

const { values } = flagsOf(import.meta.url, {
  options: {
    commit: { type: 'string', default: '2044e52' },
    rounds: { type: 'integer', default: 15, min: 1 },
    messages: { type: 'integer', default: 20_000, min: 1 },
  },
});

/** The commit's files in a folder, with the packages of this tree. */
function checkedOut(folder: string): string {
  const tree = join(folder, 'tree');
  mkdirSync(tree);
  const archive = execFileSync('git', ['archive', '--format=tar', values.commit], {
    cwd: ROOT,
    maxBuffer: 1 << 30,
  });
  execFileSync('tar', ['-x', '-C', tree], { input: archive });
  symlinkSync(join(ROOT, 'node_modules'), join(tree, 'node_modules'));
  return tree;
}

interface Side {
  rate(index: number): Promise<number>;
  close(): void;
}

function side(tree: string): Side {
  const worker = join(ROOT, 'test/bench/beside-worker.ts');
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', worker, tree, String(values.messages)],
    {
      cwd: ROOT,
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    rate: async (index) => {
      child.stdin.write(`${index}\n`);
      const line = await lines.next();
      if (line.done === true) throw new Error(`the process of ${tree} ended`);
      return Number(line.value);
    },
    close: () => child.stdin.end(),
  };
}

const folder = mkdtempSync(join(tmpdir(), 'headwater-beside-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
const [before, now] = [side(checkedOut(folder)), side(ROOT)];
console.log(`messages/s of processor time; before: ${values.commit}; ${values.rounds} pairs`);
console.log(
  `${'codec'.padEnd(42)}${'before'.padStart(10)}${'now'.padStart(10)}${'ratio'.padStart(8)}`,
);
for (const [index, { name }] of CASES.entries()) {
  const pairs: [number, number][] = [];
  for (let round = 0; round < values.rounds + WARM_UP; round++) {
    const isOdd = round % 2 === 1;
    const first = await (isOdd ? now : before).rate(index);
    const second = await (isOdd ? before : now).rate(index);
    if (round >= WARM_UP) pairs.push(isOdd ? [second, first] : [first, second]);
  }
  const [one, other] = [median(pairs.map(([a]) => a)), median(pairs.map(([, b]) => b))];
  const ratio = median(pairs.map(([a, b]) => b / a));
  console.log(
    name.padEnd(42) +
      String(Math.round(one)).padStart(10) +
      String(Math.round(other)).padStart(10) +
      ratio.toFixed(2).padStart(8),
  );
}
before.close();
now.close();

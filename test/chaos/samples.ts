/** What a process takes, as Linux and its data folder tell it, and whether that grows. */
import { lstatSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** With what a measure may grow and mean nothing: less than that no percentage is looked at. */
export const MEASURES = {
  rssBytes: 2 * 1024 * 1024,
  heapBytes: 1024 * 1024,
  /** Buffers, and what native code says that it holds for JavaScript. */
  externalBytes: 1024 * 1024,
  /** The rest that is resident and of no file: DuckDB, LevelDB, librdkafka, and what malloc keeps. */
  nativeBytes: 2 * 1024 * 1024,
  fds: 3,
  threads: 2,
  files: 10,
  diskBytes: 4 * 1024 * 1024,
} as const;
export type Measure = keyof typeof MEASURES;

export type Sample = Record<Measure, number> & {
  atMs: number;
  /** Acknowledged until then, of the whole run. */
  messages: number;
};

/** Files under a folder and their bytes; what goes meanwhile is not there. */
function folderOf(path: string): { files: number; bytes: number } {
  let files = 0;
  let bytes = 0;
  const walk = (folder: string): void => {
    let names: string[];
    try {
      names = readdirSync(folder);
    } catch {
      return; // It was there a moment ago.
    }
    for (const name of names) {
      const at = join(folder, name);
      try {
        const facts = lstatSync(at);
        if (facts.isDirectory()) walk(at);
        else {
          files++;
          bytes += facts.blocks * 512;
        }
      } catch {
        // The same.
      }
    }
  };
  walk(path);
  return { files, bytes };
}

/** `heapFile`: where the process writes its heap (see `PROBE`). Throws when the process is gone. */
export function sampleOf(pid: number, folder: string, heapFile: string): Record<Measure, number> {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const of = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? Number.NaN);
  const { files, bytes } = folderOf(folder);
  const rssBytes = of('VmRSS') * 1024;
  const [heapBytes = 0, externalBytes = 0, ofNode = 0] = readFileSync(heapFile, 'utf8')
    .split(' ')
    .map(Number);
  return {
    rssBytes,
    heapBytes,
    externalBytes,
    nativeBytes: of('RssAnon') * 1024 - ofNode,
    fds: readdirSync(`/proc/${pid}/fd`).length,
    threads: of('Threads'),
    files,
    diskBytes: bytes,
  };
}

/**
 * A module that a process is started with: every ten seconds it collects all garbage (V8 may put that off for minutes, and a
 * process would seem to grow), and writes heap and external memory into the file that SOAK_HEAP names, and what V8 holds.
 * SOAK_LEAK is the control: it keeps 20 KiB more each second.
 */
export const PROBE = `import { renameSync, writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { isMainThread } from 'node:worker_threads';
const file = process.env.SOAK_HEAP;
if (isMainThread && file !== undefined) {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc');
  const look = () => {
    collect();
    const { heapUsed, heapTotal, external } = process.memoryUsage();
    writeFileSync(file + '.new', [heapUsed, external, heapTotal + external].join(' '));
    renameSync(file + '.new', file);
  };
  look();
  setInterval(look, 10_000).unref();
  const { SOAK_LEAK: leak } = process.env;
  const kept = [];
  if (leak !== undefined)
    setInterval(() => {
      const bytes = 20 * 1024;
      kept.push(leak === 'heap' ? Array.from({ length: bytes / 40 }, (_, at) => ({ at })) : Buffer.alloc(bytes, 1));
    }, 1000).unref();
}
`;

export const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

/** Theil and Sen: the median of the slopes of all pairs, which a few outliers do not move. */
export function slopeOf(points: readonly (readonly [x: number, y: number])[]): number {
  const slopes: number[] = [];
  for (const [at, [x, y]] of points.entries())
    for (const [laterX, laterY] of points.slice(at + 1))
      if (laterX !== x) slopes.push((laterY - y) / (laterX - x));
  return slopes.length === 0 ? 0 : median(slopes);
}

export interface Growth {
  median: number;
  /** Of the last tenth of the samples. */
  last: number;
  /** Over the whole of the samples, by their slope. */
  grown: number;
  share: number;
  isTooMuch: boolean;
}

/** What data that is kept for good explains: a file or more for each MiB. */
const FILES_PER_BYTE = 1 / (1024 * 1024);

/** `keeps`: its folder grows with what comes in, so what counts there is whether a message takes more and more. */
export function growthOf(
  samples: readonly Sample[],
  measure: Measure,
  shareMax: number,
  keeps: boolean,
): Growth {
  const of = (sample: Sample): number =>
    keeps && measure === 'files'
      ? sample.files - sample.diskBytes * FILES_PER_BYTE
      : sample[measure];
  const points = samples.map((sample) => [sample.atMs, of(sample)] as const);
  const span = (samples.at(-1)?.atMs ?? 0) - (samples[0]?.atMs ?? 0);
  const grown = slopeOf(points) * span;
  const middle = median(samples.map((sample) => sample[measure]));
  const share = grown / middle;
  const tenth = samples.slice(-Math.max(1, Math.floor(samples.length / 10)));
  const last = median(tenth.map((sample) => sample[measure]));
  if (keeps && measure === 'diskBytes') {
    const half = samples.length >> 1;
    const each = (part: readonly Sample[]): number =>
      slopeOf(part.map(({ messages, diskBytes }) => [messages, diskBytes] as const));
    const more = each(samples.slice(half)) / each(samples) - 1;
    return { median: each(samples), last, grown, share: more, isTooMuch: more > KEPT_SHARE_MAX };
  }
  const isTooMuch = share > shareMax && grown > MEASURES[measure];
  return { median: middle, last, grown, share, isTooMuch };
}

/** Files are merged and compacted now and then, so what a message takes differs by so much from half to half. */
const KEPT_SHARE_MAX = 0.5;

/**
 * Loaded into a server that is attacked (`--import`): what its event loop is kept from. A block is the processor time that the
 * main thread took between two turns of a timer, so that a machine with other work is not taken for a block. A SIGUSR2 begins,
 * the next one ends and writes what was found, also what memory was made of when there was most of it, to the folder of HEADWATER_PROBE, with a CPU profile where one is asked for.
 */
import { openSync, readSync, renameSync, writeFileSync } from 'node:fs';
import { Session } from 'node:inspector/promises';
import { join } from 'node:path';
import { isMainThread } from 'node:worker_threads';

const folder = process.env.HEADWATER_PROBE;
const EVERY_MS = 5;
const LONG_MS = 50;
const MEMORY_MS = 100;
const stat = openSync(`/proc/self/task/${process.pid}/schedstat`, 'r');
const text = Buffer.alloc(100);
/** Of the main thread: on a processor, and waiting for one. */
const times = () => {
  const length = readSync(stat, text, 0, 100, 0);
  const [ran, waited] = text.toString('latin1', 0, length).split(' ');
  return { ranMs: Number(ran) / 1e6, waitedMs: Number(waited) / 1e6 };
};

function watch() {
  let begun;
  let last;
  let found;
  setInterval(() => {
    const now = times();
    if (begun !== undefined) {
      const block = now.ranMs - last.ranMs;
      found.blockMs = Math.max(found.blockMs, block);
      if (block > LONG_MS) found.blocks++;
    }
    last = now;
  }, EVERY_MS).unref();
  setInterval(() => {
    const { rss, heapTotal, external } = process.memoryUsage();
    if (begun !== undefined && rss > found.rss) Object.assign(found, { rss, heapTotal, external });
  }, MEMORY_MS).unref();

  const session = process.env.HEADWATER_PROBE_PROFILE === undefined ? undefined : new Session();
  session?.connect();
  void session?.post('Profiler.enable');

  function begin() {
    // It is done when this returns, and took the profiler's own time: no block of the server's.
    void session?.post('Profiler.start');
    found = { blockMs: 0, blocks: 0, rss: 0, heapTotal: 0, external: 0 };
    last = begun = times();
  }

  async function end() {
    const now = times();
    const said = {
      ...found,
      mainMs: now.ranMs - begun.ranMs,
      waitedMs: now.waitedMs - begun.waitedMs,
    };
    begun = undefined;
    const name = join(folder, String(process.pid));
    if (session !== undefined) {
      const { profile } = await session.post('Profiler.stop');
      writeFileSync(`${name}.cpuprofile`, JSON.stringify(profile));
    }
    writeFileSync(`${name}.part`, JSON.stringify(said));
    renameSync(`${name}.part`, `${name}.json`);
  }

  process.on('SIGUSR2', () => {
    if (begun === undefined) begin();
    else void end();
  });
}

if (isMainThread) watch();

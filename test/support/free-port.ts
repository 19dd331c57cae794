import { createServer } from 'node:net';

/** Below what the system gives to outgoing connections, so that none of them takes a port that was found to be free. */
const FIRST = 12_000;
const WORKERS = 16;
const EACH = 1200;
/** Files that run side by side look in different places, also where two runs are (scripts/test.mjs). */
const lane = Number(process.env['VITEST_POOL_ID'] ?? process.pid);
const lanes = Number(process.env['HEADWATER_TEST_LANES'] ?? 0);
const base = FIRST + ((lanes + lane) % WORKERS) * EACH;
let next = process.pid % EACH;

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });

/** A loopback port that was free a moment ago, and that nobody here is given again soon. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < EACH; tries++) {
    const port = base + (next++ % EACH);
    if (await isFree(port)) return port;
  }
  throw new Error(`no free port from ${base} on`);
}

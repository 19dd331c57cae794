// What scripts know of the checkout and the machine.
import { createServer } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';

export const root = join(import.meta.dirname, '..');

/** What is fetched once a machine, as test/services/install.sh has it. */
export const cache =
  process.env.HEADWATER_CACHE ??
  join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'headwater');

/** A loopback port that was free a moment ago. */
export const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

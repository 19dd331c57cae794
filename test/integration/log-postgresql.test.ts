/** The Log contract on a real PostgreSQL, by an adapter that knows `@headwater/contracts` alone. */
import postgresql from '../adapters/postgresql/index.ts';
import { startPostgres } from '../services/servers.ts';
import { logContract } from '../contract/log.ts';

/** What a killed server leaves behind ends within this, and the next one waits for none of it. */
const ORPHANS_MS = 500;

logContract('PostgreSQL', async () => {
  const server = await startPostgres();
  return {
    supports: postgresql.supports,
    create: (place) =>
      postgresql.create({
        ...place,
        address: `${server.address}/postgres`,
        options: { user: 'postgres', password: '', leaseMs: 4000 },
        retired: [],
        notify: () => undefined,
        nowMs: () => Date.now(),
      }),
    crash: async () => {
      await server.kill();
      await new Promise((resolve) => setTimeout(resolve, ORPHANS_MS));
      await server.restart();
    },
    stop: () => server.stop(),
  };
});

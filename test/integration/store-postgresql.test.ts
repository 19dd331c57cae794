/** The TimeSeriesStore contract on a real PostgreSQL, by an adapter that knows `@headwater/contracts` alone. */
import { postgresqlStore } from '../adapters/postgresql/index.ts';
import { storeContract } from '../contract/store.ts';
import { startPostgres } from '../services/servers.ts';

storeContract('PostgreSQL', async () => {
  const server = await startPostgres();
  return {
    supports: postgresqlStore.supports,
    create: () =>
      postgresqlStore.create({
        address: `${server.address}/postgres`,
        options: { user: 'postgres', password: '', schema: 'headwater' },
        folder: '',
        notify: () => undefined,
        nowMs: () => Date.now(),
      }),
    crash: async () => {
      await server.kill();
      await server.restart();
    },
    stop: () => server.stop(),
  };
});

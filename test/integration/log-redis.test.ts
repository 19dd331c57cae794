/** The Log contract on a real Redis, by an adapter that knows `@headwater/contracts` alone. */
import redis from '../adapters/redis/index.ts';
import { startRedis } from '../services/servers.ts';
import { logContract } from '../contract/log.ts';

logContract('Redis Streams', async () => {
  const server = await startRedis();
  return {
    supports: redis.supports,
    create: (place) =>
      redis.create({
        ...place,
        address: server.address,
        options: { user: '', password: '', leaseMs: 4000 },
        retired: [],
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

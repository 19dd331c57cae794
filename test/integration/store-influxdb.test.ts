import { InfluxStore, parseInfluxAddress } from '../../collector/store/influxdb.ts';
import { startInflux1, startInflux2 } from '../services/servers.ts';
import { storeContract } from '../contract/store.ts';

const supports = { progress: false, remove: 'tombstone', aggregates: true } as const;

storeContract('InfluxDB 1.8', async () => {
  const influx = await startInflux1();
  return {
    supports,
    create: () =>
      new InfluxStore(
        { ...parseInfluxAddress(influx.store), token: () => '', caFile: '' },
        () => undefined,
      ),
    stop: () => influx.stop(),
  };
});

storeContract('InfluxDB 2', async () => {
  const influx = await startInflux2();
  return {
    supports,
    create: () =>
      new InfluxStore(
        { ...parseInfluxAddress(influx.store), token: () => influx.token, caFile: '' },
        () => undefined,
      ),
    stop: () => influx.stop(),
  };
});

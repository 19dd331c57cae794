/** In the guest: makes the persistent session of the subscriber that is away, and leaves. */
import { connect } from 'mqtt';

for (let i = 0; i < 600; i++) {
  const client = connect('mqtt://127.0.0.1:1883', {
    clientId: 'forwarder',
    clean: false,
    reconnectPeriod: 0,
  });
  const isThere = await new Promise((resolve) => {
    client.once('connect', () => resolve(true));
    client.once('error', () => resolve(false));
    client.once('close', () => resolve(false));
  });
  if (isThere) {
    await client.subscribeAsync('chaos/#', { qos: 1 });
    await client.endAsync();
    break;
  }
  await new Promise((resolve) => setTimeout(resolve, 100));
}

/** An MQTT connection for the commands that publish. */
import { connectAsync, type MqttClient } from 'mqtt';
import { HeadwaterError, messageOf } from '../shared/errors.ts';

/** `HOST:PORT` or a URL. Throws UNREACHABLE. */
export async function connectTo(address: string, clientId: string): Promise<MqttClient> {
  const url = address.includes('://') ? address : `mqtt://${address}`;
  try {
    const client = await connectAsync(url, {
      clientId,
      clean: true,
      protocolVersion: 4,
      reconnectPeriod: 0,
      connectTimeout: 10_000,
      ...(process.env['HEADWATER_MQTT_USER'] === undefined
        ? {}
        : { username: process.env['HEADWATER_MQTT_USER'] }),
      ...(process.env['HEADWATER_MQTT_PASSWORD'] === undefined
        ? {}
        : { password: process.env['HEADWATER_MQTT_PASSWORD'] }),
    });
    client.on('error', () => undefined); // What matters is whether each publish is acknowledged.
    return client;
  } catch (error) {
    throw new HeadwaterError(
      'UNREACHABLE',
      `no gateway answers at ${address} (${messageOf(error) || 'connection refused'}): is it running? --mqtt HOST:PORT names another`,
      { cause: error },
    );
  }
}

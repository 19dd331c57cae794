/** An MQTT connection for the commands that publish. Each way to fail has its own sentence: what, where, what to do. */
import { connectAsync, type IClientOptions, type MqttClient } from 'mqtt';
import type { Flags } from '../shared/config/flags.ts';
import { readUserFile } from '../shared/config/user-file.ts';
import { HeadwaterError, codeOf, messageOf } from '../shared/errors.ts';
import { distrust } from '../shared/net/distrust.ts';

/** Flags of every command that connects to a gateway. */
export const MQTT_FLAGS: Flags = {
  mqtt: {
    value: 'HOST:PORT',
    about: 'The gateway; mqtts://HOST:PORT for TLS, ws(s)://HOST:PORT for WebSocket.',
    default: '127.0.0.1:1883',
  },
  user: {
    value: 'NAME',
    about: 'User name; its password comes from HEADWATER_MQTT_PASSWORD.',
  },
  ca: { value: 'FILE', about: "Certificate of the authority that signed the gateway's (PEM)." },
};

export const MQTT_NOTE =
  'User name and password may come from HEADWATER_MQTT_USER and HEADWATER_MQTT_PASSWORD.';

const CONNECT_MS = 10_000;

/** CONNACK return codes of MQTT 3.1.1 [3.2.2.3]. */
const REFUSED: Record<number, string> = {
  1: 'it does not speak this version of MQTT',
  2: "it does not accept the client id: it may be a collector's uplink, by default port 1884, which takes gateways only; devices connect to a gateway, by default port 1883",
  3: 'it takes nobody at the moment: try again in a minute',
  4: 'user name or password are wrong: --user NAME, and the password in HEADWATER_MQTT_PASSWORD',
  5: 'Not authorized: it wants a user name and a password that it knows: --user NAME, and the password in HEADWATER_MQTT_PASSWORD',
};

function why(error: unknown, url: URL, user: string | undefined): string {
  const code = codeOf(error);
  const text = messageOf(error);
  const returned = (error as { code?: unknown }).code as number;
  if (returned === 5 && user !== undefined)
    return `the gateway at ${url.host} refuses user '${user}': name or password are wrong (Not authorized); the password comes from HEADWATER_MQTT_PASSWORD`;
  const refused = REFUSED[returned];
  if (refused !== undefined) return `the gateway at ${url.host} refuses the connection: ${refused}`;
  const distrusted = distrust(error);
  if (distrusted !== undefined) return `the gateway at ${url.host}: ${distrusted}`;
  if (/^ERR_SSL|EPROTO/.test(code) || /before secure TLS connection/.test(text))
    return `${url.host} does not speak TLS: use mqtt://${url.host}, or the gateway's --mqtts port`;
  // Before what a text says: a machine's name may be in it.
  if (/ENOTFOUND|EAI_AGAIN/.test(code)) return `there is no machine called ${url.hostname}`;
  if (url.protocol.startsWith('ws') && /socket hang up|server response|ECONNRESET/.test(text))
    return `what answers at ${url.host} does not speak MQTT over WebSocket: use mqtt://${url.host}, or the gateway's --ws port`;
  if (/packet|header|Invalid|protocol/i.test(text))
    return `what answers at ${url.host} is not MQTT, it may be an HTTP port (${text}): --mqtt HOST:PORT names the gateway's MQTT port, by default 1883`;
  if (
    /connection (?:closed|refused)|client disconnected|connack timeout|couldn't connect/i.test(text)
  )
    return `${url.host} accepts the connection and says nothing that is MQTT: it may be a TLS port (mqtts://${url.host}) or an HTTP port; --mqtt HOST:PORT names the gateway's MQTT port, by default 1883`;
  return `no gateway answers at ${url.host} (${text || code || 'connection refused'}): is it running? --mqtt HOST:PORT names another`;
}

/** Throws USAGE for what is no address. */
function urlOf(address: string): URL {
  try {
    const url = new URL(address.includes('://') ? address : `mqtt://${address}`);
    if (/^(?:mqtts?|wss?):$/.test(url.protocol) && url.hostname !== '') return url;
  } catch {
    // Said below.
  }
  throw new HeadwaterError(
    'USAGE',
    `--mqtt '${address}' is no address: HOST:PORT, or mqtts://HOST:PORT for TLS`,
  );
}

type Values = Record<string, string | boolean | undefined>;

/** Connects as the flags of MQTT_FLAGS say. Throws USAGE, INPUT_FILE, UNREACHABLE; never hangs. */
export async function connectWith(values: Values, clientId: string): Promise<MqttClient> {
  const address = String(values['mqtt'] ?? '127.0.0.1:1883');
  const url = urlOf(address);
  const options: IClientOptions = {
    clientId,
    clean: true,
    protocolVersion: 4,
    reconnectPeriod: 0,
    connectTimeout: CONNECT_MS,
  };
  const user = values['user'] ?? process.env['HEADWATER_MQTT_USER'];
  const password = process.env['HEADWATER_MQTT_PASSWORD'];
  if (typeof user === 'string') options.username = user;
  if (password !== undefined) options.password = password;
  if (typeof values['ca'] === 'string') {
    try {
      options.ca = readUserFile(values['ca']);
    } catch (error) {
      throw new HeadwaterError('INPUT_FILE', `--ca: ${messageOf(error)}`, { cause: error });
    }
  }
  try {
    // Without `false` it waits for ever for a server that closes before its CONNACK.
    const client = await connectAsync(url.href, options, false);
    client.on('error', () => undefined); // What matters is whether each publish is acknowledged.
    return client;
  } catch (error) {
    throw new HeadwaterError('UNREACHABLE', why(error, url, options.username), { cause: error });
  }
}

/** `HOST:PORT` or a URL, with the environment's credentials. Throws UNREACHABLE. */
export async function connectTo(address: string, clientId: string): Promise<MqttClient> {
  return await connectWith({ mqtt: address }, clientId);
}

/** Throws USAGE for what is no topic name [MQTT-3.3.2-2, MQTT-4.7.1-1, MQTT-4.7.3-1, MQTT-4.7.3-2]. */
export function checkTopic(topic: string): void {
  const wrong =
    topic === ''
      ? 'it is empty'
      : /[+#]/.test(topic)
        ? "'+' and '#' stand for other topics in subscriptions only; name one topic"
        : topic.includes('\0')
          ? 'it holds a NUL character'
          : Buffer.byteLength(topic) > 65_535
            ? 'it is longer than 65,535 bytes'
            : undefined;
  if (wrong !== undefined)
    throw new HeadwaterError('USAGE', `'${topic.slice(0, 100)}' cannot be published to: ${wrong}`);
}

/**
 * What of a gateway's settings a collector may declare from afar: how it speaks to its collectors, how fast, and where it
 * is. Never what listens, who may come in, what it is called, a path, a secret, nor what gives readings up: what a wrong
 * one of those does is not undone by going back. Both sides check against this one table.
 */
import { HeadwaterError, messageOf } from '../errors.ts';
import type { RemoteValues } from '../model/remote.ts';
import { convertOption, type ConfigSpec } from './spec.ts';

const MIB = 1024 * 1024;

/** Which end of the backlog goes first. */
export const BACKLOG_ORDERS = ['oldest', 'newest'] as const;
export type BacklogOrder = (typeof BACKLOG_ORDERS)[number];

export const REMOTE_SETTINGS = {
  collectors: {
    type: 'list',
    default: [],
    flag: 'collector',
    about:
      'Collectors as mqtt://HOST:PORT or mqtts://HOST:PORT, tried in turn. Empty: buffer only.',
  },
  'uplink.windowBytes': {
    type: 'integer',
    default: 4 * MIB,
    min: 65536,
    max: 256 * MIB,
    unit: 'bytes',
    about: 'Sent and not yet acknowledged by the collector.',
  },
  'uplink.publishBytesMax': {
    type: 'integer',
    default: 256 * 1024,
    min: 4096,
    max: 4 * MIB,
    unit: 'bytes',
    about: 'Frames joined into one MQTT message to the collector.',
  },
  'uplink.ackTimeoutMs': {
    type: 'integer',
    default: 15_000,
    min: 500,
    max: 600_000,
    unit: 'ms',
    about: 'Silence after which a link with frames on their way is given up.',
  },
  'uplink.keepAliveSeconds': {
    type: 'integer',
    default: 20,
    min: 1,
    max: 3600,
    unit: 's',
    about: 'MQTT keep alive of the uplink.',
  },
  'uplink.reconnectMsMax': {
    type: 'integer',
    default: 30_000,
    min: 100,
    max: 3_600_000,
    unit: 'ms',
    about: 'Longest wait between attempts to connect.',
  },
  'uplink.statusMs': {
    type: 'integer',
    default: 10_000,
    min: 100,
    max: 3_600_000,
    unit: 'ms',
    about: 'How often the collector is told what is held here, when that has changed.',
  },
  'uplink.bytesPerSecond': {
    type: 'integer',
    default: 0,
    min: 0,
    max: 2 ** 40,
    unit: 'bytes/s',
    about: 'What the uplink may send in a second, live readings first. 0: no limit.',
  },
  'uplink.bytesPerDay': {
    type: 'integer',
    default: 0,
    min: 0,
    max: 2 ** 50,
    unit: 'bytes',
    about:
      'What the uplink may send in a day (UTC); the last fifth is for live readings alone. 0: no limit.',
  },
  'uplink.liveAgeMs': {
    type: 'integer',
    default: 2000,
    min: 100,
    max: 3_600_000,
    unit: 'ms',
    about:
      'What waits for less than this is live and goes in order; what has waited longer is backlog.',
  },
  'uplink.backlogOrder': {
    type: 'string',
    default: 'oldest',
    choices: BACKLOG_ORDERS,
    about: 'Which end of the backlog is sent first: oldest or newest.',
  },
  'board.enduranceBytes': {
    type: 'integer',
    default: 0,
    min: 0,
    max: 2 ** 52,
    unit: 'bytes',
    about:
      'What the card may have written to it in its life, as its maker says (TBW): metrics then tell the years that it lasts. 0: not known.',
  },
  'limits.messagesPerSecond': {
    type: 'integer',
    default: 0,
    min: 0,
    max: 10_000_000,
    unit: 'messages/s',
    about: 'Of one connection; beyond it reading from it is held back. 0: no limit.',
  },
  'limits.keepAliveMaxSeconds': {
    type: 'integer',
    default: 0,
    min: 0,
    max: 65_535,
    unit: 's',
    about:
      'Longest keep alive of an MQTT 5 client; one that asks for more or for none is told this one (Server Keep Alive) and cut when it is silent for one and a half of it. 0: what the client says.',
  },
  'location.latitude': {
    type: 'string',
    default: '',
    about:
      'Where this gateway is: degrees north, -90 to 90, for the fleet view and its map. Empty: not said.',
  },
  'location.longitude': {
    type: 'string',
    default: '',
    about: 'Degrees east, -180 to 180.',
  },
} as const satisfies ConfigSpec;

export type RemoteKey = keyof typeof REMOTE_SETTINGS;
const TEXT_CHARS_MAX = 1000;
const LIST_MAX = 16;

const isValue = (value: unknown): boolean =>
  (typeof value === 'string' && value.length <= TEXT_CHARS_MAX) ||
  typeof value === 'number' ||
  typeof value === 'boolean' ||
  (Array.isArray(value) &&
    value.length <= LIST_MAX &&
    value.every((each) => typeof each === 'string' && each.length <= TEXT_CHARS_MAX));

function degrees(values: Record<string, unknown>, key: RemoteKey, most: number): void {
  const { [key]: value } = values;
  const text = typeof value === 'string' ? value : '';
  if (text === '') return;
  const number = Number(text);
  if (!/^-?\d{1,3}(\.\d{1,10})?$/.test(text) || Math.abs(number) > most)
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `${key}: '${text.slice(0, 40)}' is not a number of degrees from -${most} to ${most}`,
    );
}

/** Both or neither, and each on the globe. Throws CONFIG_INVALID. */
export function checkLocation(values: Record<string, unknown>): void {
  degrees(values, 'location.latitude', 90);
  degrees(values, 'location.longitude', 180);
  const [latitude, longitude] = [values['location.latitude'], values['location.longitude']];
  if ((latitude ?? '') === '' ? (longitude ?? '') !== '' : (longitude ?? '') === '')
    throw new HeadwaterError(
      'CONFIG_INVALID',
      'location.latitude and location.longitude are given together',
    );
}

function checkCollectors(urls: readonly string[]): void {
  for (const url of urls) {
    let parsed: URL | undefined;
    try {
      parsed = new URL(url);
    } catch {
      // Said below.
    }
    if (parsed?.protocol !== 'mqtts:' && parsed?.protocol !== 'mqtt:')
      throw new HeadwaterError(
        'CONFIG_INVALID',
        `collectors: '${url.slice(0, 100)}' is not of the form mqtts://HOST:PORT`,
      );
    if (parsed.username !== '' || parsed.password !== '')
      throw new HeadwaterError('CONFIG_INVALID', 'collectors: a password does not go into a URL');
  }
}

/**
 * Settings as they count, checked against the table. Throws CONFIG_INVALID for a value, and CONFIG_UNKNOWN_KEY for what may
 * not be declared from afar or is not known at all.
 */
export function remoteValues(given: RemoteValues): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(given)) {
    if (!Object.hasOwn(REMOTE_SETTINGS, key))
      throw new HeadwaterError(
        'CONFIG_UNKNOWN_KEY',
        `'${key.slice(0, 100)}' is no setting that may be changed from afar; those are ${Object.keys(REMOTE_SETTINGS).join(', ')}`,
      );
    if (!isValue(value))
      throw new HeadwaterError('CONFIG_INVALID', `${key}: the value is not a text, number or list`);
    values[key] = convertOption(REMOTE_SETTINGS[key as RemoteKey], value, key);
  }
  const { collectors } = values;
  if (Array.isArray(collectors)) {
    if (collectors.length === 0)
      throw new HeadwaterError('CONFIG_INVALID', 'collectors: an empty list would cut it off');
    checkCollectors(collectors as string[]); // What the table calls a list is one of texts.
  }
  checkLocation(values);
  return values;
}

/** One sentence about what is wrong with them; undefined: nothing is. */
export function remoteProblem(given: RemoteValues): string | undefined {
  try {
    remoteValues(given);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

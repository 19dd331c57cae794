/**
 * Every setting of the gateway: the check, `docs/configuration.md` and the sample file come from this table.
 * Long because it is one table, in the order of the reference.
 */
import { accessSettings } from '../shared/access/settings.ts';
import { CLIENT_ID_RULES, POLICIES, REMOTE_ACCEPTANCES } from './choices.ts';
import { LOGGING_SETTINGS } from '../shared/config/logging.ts';
import { REMOTE_SETTINGS } from '../shared/config/remote.ts';
import type { ConfigOf, ConfigSpec } from '../shared/config/spec.ts';

const MIB = 1024 * 1024;

export const GATEWAY_CONFIG = {
  data: {
    type: 'string',
    default: './headwater-data/gateway',
    flag: 'data',
    isFolder: true,
    about: 'Folder for everything that must survive a restart.',
  },
  id: {
    type: 'string',
    default: '',
    flag: 'id',
    about:
      "Name of this gateway, unique in the fleet (letters, digits, '_', '-', '.'; up to 64). Empty: the host's name.",
  },
  'mqtt.listen': {
    type: 'address',
    default: '127.0.0.1:1883',
    flag: 'mqtt',
    about: 'Where devices connect by MQTT over TCP.',
  },
  'mqtts.listen': {
    type: 'address',
    default: '',
    flag: 'mqtts',
    about: 'Where devices connect by MQTT over TLS. Empty: nowhere.',
  },
  'ws.listen': {
    type: 'address',
    default: '',
    flag: 'ws',
    about: 'Where devices connect by MQTT over WebSocket. Empty: nowhere.',
  },
  'wss.listen': {
    type: 'address',
    default: '',
    flag: 'wss',
    about: 'The same over TLS. Empty: nowhere.',
  },
  'http.listen': {
    type: 'address',
    default: '127.0.0.1:8081',
    flag: 'gateway-http',
    about: "The gateway's own API, health and metrics. Empty switches it off.",
  },
  'mqtt.passwordFile': {
    type: 'string',
    default: '',
    flag: 'password-file',
    about:
      'Users that may connect, a line each as `headwater password` prints it. Empty: everybody, which only loopback allows.',
  },
  'mqtt.aclFile': {
    type: 'string',
    default: '',
    flag: 'acl-file',
    about:
      'YAML file with what users may publish and subscribe to; what it does not grant is denied. Empty: everybody who may connect may do both.',
  },
  'mqtt.clientIds': {
    type: 'string',
    default: 'owner',
    choices: CLIENT_ID_RULES,
    about:
      "Whose client ids are whose: owner (an id in use stays its user's), user (an id must also begin with the user's name), any.",
  },
  'mqtt.useServer': {
    type: 'string',
    default: '',
    about:
      'HOST:PORT of the gateway to which devices are sent for now, once it is known who they are: MQTT 5 is told by 0x9C, 3.1.1 gets return code 3. Empty: nowhere.',
  },
  'mqtt.movedTo': {
    type: 'string',
    default: '',
    about: 'The same for good: MQTT 5 is told by 0x9D.',
  },
  ...accessSettings('devices'),
  ...LOGGING_SETTINGS,
  'uplink.secretFile': {
    type: 'string',
    default: '',
    flag: 'uplink-secret-file',
    about: 'File (mode 0600) with the secret that the collector asks for.',
  },
  'uplink.caFile': {
    type: 'string',
    default: '',
    flag: 'uplink-ca',
    about:
      "Authorities (PEM) that the collector's certificate must come from. Needed where the clock may be wrong at a start; without it the system's count.",
  },
  'uplink.certFile': {
    type: 'string',
    default: '',
    flag: 'uplink-cert',
    about: "This gateway's own certificate (PEM), whose common name is its id.",
  },
  'uplink.keyFile': {
    type: 'string',
    default: '',
    flag: 'uplink-key',
    about: 'Its key (PEM, mode 0600).',
  },
  'enroll.tokenFile': {
    type: 'string',
    default: '',
    flag: 'join',
    about:
      'File with a join token, as `headwater enroll` prints it: it names this gateway and its collector, is traded for a certificate, and then wiped. A file that is not there is no error.',
  },
  ...REMOTE_SETTINGS,
  'remote.accept': {
    type: 'string',
    default: 'secure',
    choices: REMOTE_ACCEPTANCES,
    about:
      'From whom settings are taken that a collector declares: secure (one at mqtts://, or on this machine), any, never. Which ones can be: docs/gateways.md.',
  },
  'uplink.backlogAgeMaxMs': {
    type: 'integer',
    default: 0,
    min: 0,
    max: 2 ** 50,
    unit: 'ms',
    about:
      'Readings older than this are not sent any more; that is reported as a loss, and they stay in local history. 0: all are sent.',
  },
  'clock.trusted': {
    type: 'boolean',
    default: false,
    about:
      "You answer for this machine's wall clock (a battery, NTP). Else readings wait at the collector until an uplink has shown what time it is.",
  },
  'buffer.historyBytesMax': {
    type: 'integer',
    default: 512 * MIB,
    min: 0,
    max: 2 ** 50,
    unit: 'bytes',
    about:
      'Messages that a collector has acknowledged and that stay here as local history, while there is room: they give way first.',
  },
  'buffer.whenFull': {
    type: 'string',
    default: 'block',
    choices: POLICIES,
    about:
      'What gives way at four fifths of the disk budget: block (acknowledgements are held back), shed (the fastest series are thinned to min, max and mean), dropOldest. Every loss is reported.',
  },
  'buffer.diskBytesMax': {
    type: 'integer',
    default: 1024 * MIB,
    min: 16 * MIB,
    max: 2 ** 50,
    unit: 'bytes',
    about:
      'What the buffer may take on disk. At nine tenths of it acknowledgements are held back until the uplink has taken some.',
  },
  'buffer.reserveBytes': {
    type: 'integer',
    default: 8 * MIB,
    min: MIB,
    max: 1024 * MIB,
    unit: 'bytes',
    about: 'Disk space held by a file of its own and given up to recover when the disk is full.',
  },
  'buffer.frameBytes': {
    type: 'integer',
    default: 64 * 1024,
    min: 1024,
    max: MIB,
    unit: 'bytes',
    about: 'A group of messages is cut into frames of about this size.',
  },
  'buffer.pendingBytesMax': {
    type: 'integer',
    default: 2 * MIB,
    min: 65536,
    max: 256 * MIB,
    unit: 'bytes',
    about: 'Received and not yet on disk; beyond it reading from devices stops.',
  },
  'buffer.cacheBytes': {
    type: 'integer',
    default: 2 * MIB,
    min: 65536,
    max: 256 * MIB,
    unit: 'bytes',
    about: 'Committed frames kept in memory for the uplink.',
  },
  'buffer.compress': {
    type: 'boolean',
    default: true,
    about: 'Compress frames (deflate level 1): fewer bytes on disk and uplink for some CPU time.',
  },
  'limits.packetBytesMax': {
    type: 'integer',
    default: MIB,
    min: 1024,
    max: 2 * MIB,
    unit: 'bytes',
    about:
      'Largest MQTT packet of a device. A larger one closes its connection, which the log says once a minute for each client.',
  },
  'limits.connectBytesMax': {
    type: 'integer',
    default: 4096,
    min: 256,
    max: 65536,
    unit: 'bytes',
    about: 'Largest CONNECT packet, read before anybody is known.',
  },
  'limits.clientIdBytesMax': {
    type: 'integer',
    default: 256,
    min: 23,
    max: 65535,
    unit: 'bytes',
    about: 'Longest MQTT client id.',
  },
  'limits.connectionsMax': {
    type: 'integer',
    default: 20_000,
    min: 1,
    max: 1_000_000,
    unit: 'connections',
    about:
      'Device connections at once. Of this limit, as of all that hold for everybody, one address or user may have half of what the others leave: docs/limits.md.',
  },
  'limits.connectionsPerAddressMax': {
    type: 'integer',
    default: 10_000,
    min: 1,
    max: 1_000_000,
    unit: 'connections',
    about: 'Device connections at once from one address (of IPv6: one /64).',
  },
  'limits.connectTimeoutMs': {
    type: 'integer',
    default: 8000,
    min: 100,
    max: 600_000,
    unit: 'ms',
    about: 'From the TCP connection to the CONNECT.',
  },
  'limits.authFailuresPerMinute': {
    type: 'integer',
    default: 60,
    min: 1,
    max: 1_000_000,
    unit: 'failures',
    about:
      'Wrong credentials from one address in a minute; beyond it the address is refused without a look at them.',
  },
  'limits.connectsPerMinute': {
    type: 'integer',
    default: 120,
    min: 1,
    max: 1_000_000,
    unit: 'connections',
    about:
      'Connects of one client id in a minute: two devices with the same id throw each other out no faster.',
  },
  'limits.sessionsMax': {
    type: 'integer',
    default: 20_000,
    min: 0,
    max: 1_000_000,
    unit: 'sessions',
    about:
      'Clients with subscriptions, those that are away included; further ones may publish but not subscribe. As many sessions may outlive their connection; further ones are refused.',
  },
  'limits.sessionExpiryMs': {
    type: 'integer',
    default: 7 * 24 * 3_600_000,
    min: 100,
    max: 2 ** 50,
    unit: 'ms',
    about:
      'A persistent session that is away for longer ends, and with it all that was kept for it.',
  },
  'limits.subscriptionsPerClientMax': {
    type: 'integer',
    default: 200,
    min: 0,
    max: 1_000_000,
    unit: 'filters',
    about:
      'Topic filters that one client may have, each 256 characters of a longer one counted as one more.',
  },
  'limits.subscriptionsMax': {
    type: 'integer',
    default: 100_000,
    min: 0,
    max: 10_000_000,
    unit: 'filters',
    about:
      'Topic filters of all clients, each 256 characters of a longer one counted as one more; each takes about a kilobyte of memory.',
  },
  'limits.subscriptionLevelsMax': {
    type: 'integer',
    default: 40_000,
    min: 0,
    max: 10_000_000,
    unit: 'levels',
    about:
      'Levels of the topic filters of all clients, beginnings that they share counted once; each takes about a kilobyte of memory.',
  },
  'limits.bodyBytesMax': {
    type: 'integer',
    default: 1024 * 1024,
    min: 1024,
    max: 2 * MIB,
    unit: 'bytes',
    about: 'Largest body of an HTTP request that brings readings.',
  },
  'limits.qos2InFlightMax': {
    type: 'integer',
    default: 1000,
    min: 1,
    max: 65535,
    unit: 'messages',
    about: 'QoS 2 messages of one session waiting for PUBREL.',
  },
  'limits.qos2Max': {
    type: 'integer',
    default: 200_000,
    min: 1,
    max: 10_000_000,
    unit: 'messages',
    about: 'QoS 2 messages of all sessions waiting for PUBREL.',
  },
  'limits.offlineMessagesMax': {
    type: 'integer',
    default: 1000,
    min: 0,
    max: 1_000_000,
    unit: 'messages',
    about:
      'QoS 1 and 2 messages queued for a local subscriber with a persistent session that is away; for more its session ends, which it is told when it comes back. The collector gets all of them.',
  },
  'limits.offlineBytesMax': {
    type: 'integer',
    default: 16 * MIB,
    min: 0,
    max: 1024 * MIB,
    unit: 'bytes',
    about:
      'Memory of the messages that are queued for all such sessions together, which are on disk as well: topic, payload and half a kilobyte each.',
  },
  'limits.retainedMessagesMax': {
    type: 'integer',
    default: 100_000,
    min: 0,
    max: 10_000_000,
    unit: 'messages',
    about:
      'Retained messages kept; further ones are stored as data but not retained, and take away what was retained on their topic.',
  },
  'limits.retainedBytesMax': {
    type: 'integer',
    default: 16 * MIB,
    min: 0,
    max: 1024 * MIB,
    unit: 'bytes',
    about: 'Bytes of all retained messages, their topics included.',
  },
  'limits.filtersMax': {
    type: 'integer',
    default: 100,
    min: 1,
    max: 10_000,
    unit: 'filters',
    about: 'Topic filters in one SUBSCRIBE.',
  },
  'limits.subscriberStallMs': {
    type: 'integer',
    default: 20_000,
    min: 100,
    max: 600_000,
    unit: 'ms',
    about: 'A subscriber that takes nothing for so long is disconnected.',
  },
} as const satisfies ConfigSpec;

export type GatewayConfig = ConfigOf<typeof GATEWAY_CONFIG>;

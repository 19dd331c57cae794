/**
 * Every limit that holds for all who come by MQTT: what it bounds, and what is said when it is reached. The page
 * `docs/limits.md` and the test that exhausts each one as one user and asks as another are made of this table.
 */
export interface LimitRow {
  /** Label of the metrics `headwater_limit_*`. */
  name: string;
  /** Setting of the whole. */
  setting: string;
  what: string;
  /** What the one who asks for more is told. */
  answer: string;
}

export const MQTT_LIMITS = [
  {
    name: 'connections',
    setting: 'limits.connectionsMax',
    what: 'device connections at once, by address, and once it is known by user',
    answer:
      'closed at once, and for an address that has none the connection that has said nothing for longest; CONNACK 3 where the user has too many',
  },
  {
    name: 'sessions',
    setting: 'limits.sessionsMax',
    what: 'clients with subscriptions, those that are away included',
    answer: 'SUBACK 0x80',
  },
  {
    name: 'mqtt5_sessions',
    setting: 'limits.sessionsMax',
    what: 'sessions of MQTT 5 clients, and those of 3.1.1 without a clean session, with or without a connection',
    answer: 'CONNACK 0x97 and 3',
  },
  {
    name: 'subscriptions',
    setting: 'limits.subscriptionsMax',
    what: 'topic filters of all clients, a shared one under each of its names, a long one as several',
    answer: 'SUBACK 0x80; of MQTT 5 0x97',
  },
  {
    name: 'subscription_levels',
    setting: 'limits.subscriptionLevelsMax',
    what: 'levels of all topic filters, each counted for whoever has it first',
    answer: 'SUBACK 0x80',
  },
  {
    name: 'qos2',
    setting: 'limits.qos2Max',
    what: 'QoS 2 messages that wait for their PUBREL, in sessions that are away too',
    answer: 'closed, and the message is not stored',
  },
  {
    name: 'offline_bytes',
    setting: 'limits.offlineBytesMax',
    what: 'memory of what is queued for persistent sessions',
    answer: 'the session ends: session present is 0 when it comes again',
  },
  {
    name: 'retained_messages',
    setting: 'limits.retainedMessagesMax',
    what: 'retained messages',
    answer: 'stored as a reading; the topic has no retained message any more, not an older one',
  },
  {
    name: 'retained_bytes',
    setting: 'limits.retainedBytesMax',
    what: 'bytes of retained messages, with their topics',
    answer: 'as above',
  },
  {
    name: 'begun_packets',
    setting: '32 MiB',
    what: 'bytes of packets that have begun and are not whole, as long as they will be; at least two of `limits.packetBytesMax`',
    answer:
      'it is not read from until others are whole: nothing lost; one that does not end within 20 s, while others wait, is closed',
  },
  {
    name: 'waiting_wills',
    setting: 'buffer.pendingBytesMax',
    what: 'bytes of wills that are not on disk yet',
    answer: 'the will is not stored; the audit log says `will_denied`',
  },
  {
    name: 'buffer_space',
    setting: 'buffer.diskBytesMax',
    what: 'bytes of the last ninth of the disk buffer, where `buffer.whenFull` is block; a principal that was always the only one has it whole',
    answer:
      'it is not read from until there is room: no acknowledgement, nothing lost; HTTP 503; its wills are not stored',
  },
] as const satisfies readonly LimitRow[];

/** The same for gateways that come to a collector by their uplinks. */
export const UPLINK_LIMITS = [
  {
    name: 'connections',
    setting: 'ingest.gatewaysMax',
    what: 'gateway connections at once, by address',
    answer:
      'closed at once, and for an address that has none the connection that has said nothing for longest',
  },
  {
    name: 'begun_packets',
    setting: '128 MiB',
    what: 'bytes of uplink messages that have begun and are not whole, as long as they will be',
    answer:
      'it is not read from until others are whole: nothing lost; one that does not end within 60 s, while others wait, is closed',
  },
  {
    name: 'pending',
    setting: 'ingest.pendingBytesMax',
    what: 'bytes of uplink messages that are not in the log yet',
    answer: 'it is not read from until there is room: nothing lost',
  },
] as const satisfies readonly LimitRow[];

/** The same for machines that would be gateways of a collector. */
export const ENROLL_LIMITS = [
  {
    name: 'waiting_machines',
    setting: '8',
    what: 'machines that wait for a person to let them in with one join token, by address',
    answer: '403: none more of its address',
  },
] as const satisfies readonly LimitRow[];

/** The same for what is kept of gateways, and told of all. */
export const OTHER_LIMITS = [
  {
    name: 'held_frames',
    setting: '64 MiB of a partition',
    what: 'frames of gateways whose clock is not known yet, by gateway',
    answer: 'quarantine, with the reason; it is decoded again from there',
  },
  {
    name: 'audit_lines',
    setting: '100 a second',
    what: 'lines of `audit.log`, by address, else user',
    answer: 'counted in the next line (`suppressedBefore`)',
  },
  {
    name: 'refusal_lines',
    setting: '20 a minute',
    what: 'lines of the log about who was refused, by address',
    answer: 'counted in the next line',
  },
  {
    name: 'seldom_lines',
    setting: '120 a minute',
    what: 'other lines of the log that somebody without rights can bring about, by address or user',
    answer: 'not said; what they say is counted by a metric',
  },
] as const satisfies readonly LimitRow[];

/** The same for HTTP, on both servers. */
export const HTTP_LIMITS = [
  {
    name: 'connections',
    setting: '2000',
    what: 'HTTP connections at once, by address',
    answer:
      'closed at once, and for an address that has none the connection that has asked nothing for longest',
  },
  {
    name: 'questions',
    setting: '4',
    what: 'questions that read much (series, latest, query, explain, export, SQL, InfluxQL, lake), at once; one whose answer nobody takes for 30 s ends',
    answer: 'they wait for their turn',
  },
  {
    name: 'queued_questions',
    setting: '64',
    what: 'questions that wait',
    answer: '429 with Retry-After',
  },
  {
    name: 'streams',
    setting: '500',
    what: 'event streams and WebSockets (`/api/v1/stream`)',
    answer: '429 with Retry-After',
  },
  {
    name: 'catch_ups',
    setting: '4',
    what: 'streams that read from the log what they have missed, at once',
    answer: 'they wait for their turn',
  },
  {
    name: 'bodies',
    setting: '32 MiB',
    what: 'bodies of requests, unpacked or not, until they are answered',
    answer: '429 with Retry-After',
  },
  {
    name: 'idempotency_keys',
    setting: '10000',
    what: 'Idempotency-Keys that are remembered',
    answer:
      'its own oldest key is forgotten: what comes again under it is stored again, and decoded once by the key that goes with it',
  },
] as const satisfies readonly LimitRow[];

export type MqttLimitName = (typeof MQTT_LIMITS)[number]['name'];
export type UplinkLimitName = (typeof UPLINK_LIMITS)[number]['name'];
export type EnrollLimitName = (typeof ENROLL_LIMITS)[number]['name'];
export type OtherLimitName = (typeof OTHER_LIMITS)[number]['name'];
export type HttpLimitName = (typeof HTTP_LIMITS)[number]['name'];
/** Of which a `Share` is one: there is none without its row. */
export type LimitName =
  | MqttLimitName
  | UplinkLimitName
  | EnrollLimitName
  | OtherLimitName
  | HttpLimitName;

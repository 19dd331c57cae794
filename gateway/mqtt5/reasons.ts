/** Reason codes of MQTT 5 (OASIS MQTT 5.0, 2.4), and the error that carries one to the packet that says it. */
export const REASON = {
  success: 0x00,
  disconnectWithWill: 0x04,
  noSubscriptionExisted: 0x11,
  unspecified: 0x80,
  malformedPacket: 0x81,
  protocolError: 0x82,
  implementationSpecific: 0x83,
  unsupportedVersion: 0x84,
  clientIdNotValid: 0x85,
  badUserNameOrPassword: 0x86,
  notAuthorized: 0x87,
  serverUnavailable: 0x88,
  serverBusy: 0x89,
  serverShuttingDown: 0x8b,
  badAuthenticationMethod: 0x8c,
  keepAliveTimeout: 0x8d,
  sessionTakenOver: 0x8e,
  topicFilterInvalid: 0x8f,
  topicNameInvalid: 0x90,
  packetIdInUse: 0x91,
  packetIdNotFound: 0x92,
  receiveMaximumExceeded: 0x93,
  topicAliasInvalid: 0x94,
  packetTooLarge: 0x95,
  quotaExceeded: 0x97,
  administrativeAction: 0x98,
  payloadFormatInvalid: 0x99,
  useAnotherServer: 0x9c,
  serverMoved: 0x9d,
  sharedNotSupported: 0x9e,
} as const;

export type Reason = (typeof REASON)[keyof typeof REASON];

/** Those that a CONNACK may have of what is said here (3.2.2.2); the others are a DISCONNECT's. */
export const CONNACK_REASONS: ReadonlySet<number> = new Set<number>([
  REASON.success,
  REASON.unspecified,
  REASON.malformedPacket,
  REASON.protocolError,
  REASON.implementationSpecific,
  REASON.unsupportedVersion,
  REASON.clientIdNotValid,
  REASON.badUserNameOrPassword,
  REASON.notAuthorized,
  REASON.serverUnavailable,
  REASON.serverBusy,
  REASON.badAuthenticationMethod,
  REASON.topicNameInvalid,
  REASON.packetTooLarge,
  REASON.quotaExceeded,
  REASON.payloadFormatInvalid,
  REASON.useAnotherServer,
  REASON.serverMoved,
]);

const codes = (...each: number[]): ReadonlySet<number> => new Set(each);

/** Of PUBACK and PUBREC (3.4.2.1, 3.5.2.1). */
export const ACK_REASONS = codes(0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99);
/** Of PUBREL and PUBCOMP (3.6.2.1, 3.7.2.1). */
export const RELEASE_REASONS = codes(REASON.success, REASON.packetIdNotFound);
/** Of DISCONNECT (3.14.2.1), whoever says it. */
export const DISCONNECT_REASONS = codes(
  ...[0, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94],
  ...[0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2],
);

/** A client did what it may not: the connection ends with this reason and sentence. */
export class Refusal extends Error {
  readonly reason: Reason;
  /** Where to go instead. */
  readonly server: string | undefined;
  constructor(reason: Reason, text: string, server?: string) {
    super(text);
    this.reason = reason;
    this.server = server;
  }
}

/** [MQTT-4.13.1-1]: bytes that are not a packet. */
export function malformed(text: string): never {
  throw new Refusal(REASON.malformedPacket, text);
}

/** A packet that is well formed and not allowed here. */
export function protocolError(text: string): never {
  throw new Refusal(REASON.protocolError, text);
}

/** Whether what a gateway says to a client of MQTT 5 is what a server may say: packets that are whole, each reason of its packet's table, one CONNACK first, a DISCONNECT last. */
import type { RawClient } from '../support/raw-mqtt.ts';
import { reader5, type Received5 } from '../support/raw-mqtt5.ts';

const set = (...codes: number[]): ReadonlySet<number> => new Set(codes);
const ACK = set(0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99);
const RELEASE = set(0, 0x92);
/** By type of packet: OASIS MQTT 5.0, 3.2.2.2 to 3.14.2.1. */
const REASONS: Record<number, ReadonlySet<number>> = {
  2: set(
    ...[0, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95],
    ...[0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f],
  ),
  4: ACK,
  5: ACK,
  6: RELEASE,
  7: RELEASE,
  9: set(0, 1, 2, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2),
  11: set(0, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91),
  14: set(
    ...[0, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95],
    ...[0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2],
  ),
};

const reasonsOf = ({ type, reason, payload }: Received5): number[] =>
  type === 9 || type === 11 ? [...Buffer.from(payload, 'hex')] : [reason];

/** What is wrong with it; undefined: nothing. What was cut off at the end is not looked at. */
export function wrongAnswer(received: Buffer): string | undefined {
  const packets = reader5({ received: () => received } as unknown as RawClient).packets();
  for (const [at, packet] of packets.entries()) {
    const { type } = packet;
    if ((type === 2) !== (at === 0)) return `packet ${at} is of type ${type}`;
    if (type === 14 && at !== packets.length - 1) return 'something after a DISCONNECT';
    const reasons = REASONS[type];
    if (reasons === undefined && type !== 3 && type !== 13) return `a packet of type ${type}`;
    const wrong =
      reasons === undefined ? undefined : reasonsOf(packet).find((each) => !reasons.has(each));
    if (wrong !== undefined) return `type ${type} with reason 0x${wrong.toString(16)}`;
  }
  if (packets[0] !== undefined && packets[0].reason > 0 && packets.length > 1)
    return 'something after a CONNACK that refuses';
  return undefined;
}

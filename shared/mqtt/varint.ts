/** Variable byte integers [MQTT-1.5.5-1], as they are written into a packet. */

export const varintBytes = (value: number): number =>
  value < 128 ? 1 : value < 16_384 ? 2 : value < 2_097_152 ? 3 : 4;

/** Gives the offset after it. */
export function putVarint(bytes: Buffer, value: number, offset: number): number {
  let rest = value;
  let at = offset;
  while (rest > 127) {
    bytes[at++] = (rest & 127) | 128;
    rest >>>= 7;
  }
  bytes[at++] = rest;
  return at;
}

/** Which partition a group of a rule belongs to. */

/** `hash` is in hexadecimal, at least eight digits. */
export function partitionOfHash(hash: string, partitions: number): number {
  return Number.parseInt(hash.slice(0, 8), 16) % partitions;
}

/** A gateway and an epoch as one name, of which both can be had again: each may have a `/` of its own. */
export const epochName = (gateway: string, epoch: string): string =>
  JSON.stringify([gateway, epoch]);

export function placeOf(name: string): { gateway: string; epoch: string } {
  const [gateway, epoch] = JSON.parse(name) as [string, string]; // As it was made.
  return { gateway, epoch };
}

/** What of the call says where things go: cards, files, folders, or machines that run. */
import { realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { HeadwaterError } from '../../shared/errors.ts';
import type { Card } from './provision.ts';
import { checkHost } from './remote.ts';

/** An image and a place, or machines that run. Throws USAGE. */
export function checkWays(
  image: string | undefined,
  hosts: readonly string[],
  to: readonly string[],
  values: Record<string, unknown>,
): void {
  if (hosts.length === 0) {
    if (image !== undefined) return;
    throw new HeadwaterError(
      'USAGE',
      'name the image: headwater flash IMAGE …, or a machine that runs: headwater flash --ssh HOST …',
    );
  }
  if (image !== undefined || to.length > 0)
    throw new HeadwaterError('USAGE', '--ssh needs no image and no --to: the machine has a system');
  const card = ['wifi-ssid', 'ssh-key', 'size'].find((flag) => values[flag] !== undefined);
  if (card !== undefined)
    throw new HeadwaterError('USAGE', `--${card} is for cards: that machine has its own`);
  for (const host of hosts) checkHost(host);
}

/** A card under its one name: /dev/disk/by-id/… is a link to it. */
function named(place: string): string {
  if (!place.startsWith('/dev/')) return place;
  try {
    const path = realpathSync(place);
    return path.startsWith('/dev/') ? path : place;
  } catch {
    return place; // It is not there, which is said of the list of disks.
  }
}

/** Throws USAGE. */
function checkKind(place: string, isTable: boolean): void {
  const isFolder = statSync(place, { throwIfNoEntry: false })?.isDirectory();
  if (isTable && isFolder === false)
    throw new HeadwaterError(
      'USAGE',
      `--to ${place} is a file: the cards of a table need a folder`,
    );
  if (!isTable && isFolder === true)
    throw new HeadwaterError('USAGE', `--to ${place} is a folder: name a file in it, FILE.img`);
}

/** Where each card goes: a file, a file in a folder, or a device that was named twice. Throws USAGE. */
export function placesOf(
  cards: readonly Card[],
  wanted: readonly string[],
  twice: readonly string[],
  isTable: boolean,
): string[] {
  const [to, confirmed] = [wanted.map(named), twice.map(named)];
  if (to.length === 0)
    throw new HeadwaterError(
      'USAGE',
      '--to names a card, a file or a folder; --list shows the cards',
    );
  const devices = to.filter((place) => place.startsWith('/dev/'));
  const unconfirmed = devices.find((device) => !confirmed.includes(device));
  if (unconfirmed !== undefined)
    throw new HeadwaterError(
      'USAGE',
      `everything on ${unconfirmed} will be gone: say --confirm ${unconfirmed} as well`,
    );
  if (devices.length > 0) {
    if (devices.length !== to.length || new Set(to).size !== to.length)
      throw new HeadwaterError('USAGE', '--to: cards or a file, and each card once');
    return devices;
  }
  const [first = ''] = to;
  if (to.length > 1) throw new HeadwaterError('USAGE', '--to: one file, or one folder for a table');
  checkKind(first, isTable);
  return isTable ? cards.map(({ name }) => join(first, `${name}.img`)) : [first];
}

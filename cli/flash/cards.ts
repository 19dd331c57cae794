/**
 * Which of this machine's disks are cards. A disk is refused as long as anything speaks against it: a wrong one that is
 * written is somebody's data. Decided on what lsblk says, so that it can be tested without a disk.
 */
import { execFile } from 'node:child_process';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';

/** Of `lsblk --json --bytes`; older ones write numbers and booleans as text. */
export interface Block {
  name: string;
  path?: string;
  size: number | string | null;
  rm?: boolean | string | null;
  hotplug?: boolean | string | null;
  ro?: boolean | string | null;
  type?: string | null;
  tran?: string | null;
  mountpoint?: string | null;
  mountpoints?: (string | null)[] | null;
  model?: string | null;
  serial?: string | null;
  fstype?: string | null;
  children?: Block[];
}

export interface Disk {
  path: string;
  sizeBytes: number;
  label: string;
  /** Why it is not written; undefined: it is a card. */
  refused: string | undefined;
}

/** Larger than any card: a disk with somebody's years on it. */
const CARD_BYTES_MAX = 2 ** 41;
const isTrue = (value: boolean | string | null | undefined): boolean =>
  value === true || value === '1' || value === 'true';

const all = (block: Block): Block[] => [block, ...(block.children ?? []).flatMap(all)];
const mountsOf = ({ mountpoint, mountpoints }: Block): string[] =>
  [mountpoint, ...(mountpoints ?? [])].filter(
    (each): each is string => typeof each === 'string' && each !== '',
  );

/** Used by something that is not a plain partition: a volume group, an array, an open container. */
const USES = new Set([
  'lvm',
  'crypt',
  'raid0',
  'raid1',
  'raid4',
  'raid5',
  'raid6',
  'raid10',
  'md',
  'dm',
  'mpath',
]);
const MEMBERS = new Set([
  'LVM2_member',
  'linux_raid_member',
  'zfs_member',
  'bcache',
  'ceph_bluestore',
]);

function refusalOf(disk: Block, sizeBytes: number): string | undefined {
  const parts = all(disk);
  const mounts = parts.flatMap(mountsOf);
  const system = mounts.find((each) =>
    ['/', '/boot', '/boot/efi', '/usr', '/var', '/home', '[SWAP]'].includes(each),
  );
  if (system !== undefined) return `this machine runs from it (${system})`;
  if (mounts.length > 0) return `it is mounted at ${mounts.join(', ')}: unmount it first`;
  if (
    parts.some(({ type }) => USES.has(type ?? '')) ||
    parts.some(({ fstype }) => MEMBERS.has(fstype ?? ''))
  )
    return 'it is a part of an array, a volume group or an encrypted disk';
  if (disk.type !== 'disk') return `it is no disk (${disk.type ?? 'unknown'})`;
  const isCard = disk.tran === 'usb' || disk.name.startsWith('mmcblk');
  if (!isCard) return `it is no card and no USB disk (${disk.tran ?? 'no transport is known'})`;
  if (isTrue(disk.ro)) return 'it is write-protected: the switch of the card or of its adapter';
  if (sizeBytes === 0) return 'there is no card in the reader';
  if (sizeBytes > CARD_BYTES_MAX) return 'it is larger than any card';
  return undefined;
}

/** Every disk, with why it is not taken. */
export function disksOf(blocks: readonly Block[]): Disk[] {
  return blocks
    .filter(({ type }) => type !== 'loop' && type !== 'rom')
    .map((block) => {
      const sizeBytes = Number(block.size ?? 0);
      const label = [block.model, block.serial].filter(Boolean).join(' ').trim() || 'no model';
      return {
        path: block.path ?? `/dev/${block.name}`,
        sizeBytes,
        label,
        refused: refusalOf(block, sizeBytes),
      };
    });
}

/** Throws NOT_FOUND and CONFIG_INVALID: one sentence, and nothing is written. */
export function cardAt(disks: readonly Disk[], path: string, neededBytes: number): Disk {
  const disk = disks.find((each) => each.path === path);
  if (disk === undefined)
    throw new HeadwaterError(
      'NOT_FOUND',
      `${path} is no disk of this machine (a partition is none): headwater flash --list shows them`,
    );
  const refused =
    disk.refused ??
    (disk.sizeBytes < neededBytes
      ? `it is too small: ${Math.floor(disk.sizeBytes / 1e6)} MB, and the image needs ${Math.ceil(neededBytes / 1e6)}`
      : undefined);
  if (refused !== undefined)
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `${path} (${disk.label}) is not written: ${refused}`,
    );
  return disk;
}

/** Throws NOT_FOUND where there is no lsblk. */
export function readDisks(): Promise<Disk[]> {
  const columns = 'NAME,PATH,SIZE,RM,HOTPLUG,RO,TYPE,TRAN,MOUNTPOINT,MODEL,SERIAL,FSTYPE';
  return new Promise((resolve, reject) => {
    execFile('lsblk', ['--json', '--bytes', '--output', columns], (error, text) => {
      if (error !== null)
        reject(
          new HeadwaterError(
            'NOT_FOUND',
            `the disks cannot be listed (lsblk): ${messageOf(error)}`,
            { cause: error },
          ),
        );
      else resolve(disksOf((JSON.parse(text) as { blockdevices: Block[] }).blockdevices));
    });
  });
}

/**
 * Which of this machine's disks are cards. A disk is refused as long as anything speaks against it: a wrong one that is
 * written is somebody's data. Decided on what lsblk says, so that it can be tested without a disk.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { HeadwaterError, codeOf, messageOf } from '../../shared/errors.ts';

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
  /** Of sysfs, where the kernel has it: `MMC` is soldered in, `SD` is a card. */
  kind?: string;
  /** Of sysfs: a number that no other disk had since this machine was started, nor another card in the same slot. */
  sequence?: string;
}

export interface Disk {
  path: string;
  sizeBytes: number;
  label: string;
  /** What another disk under the same path would not have. */
  identity: string;
  /** Why it is not written; undefined: it is a card. */
  refused: string | undefined;
}

/** Larger than any card: a disk with somebody's years on it. */
const CARD_BYTES_MAX = 2 ** 41;
const isTrue = (value: boolean | string | null | undefined): boolean =>
  value === true || value === '1' || value === 'true';

const all = (block: Block): Block[] => [block, ...(block.children ?? []).flatMap(all)];
const pathOf = ({ path, name }: Block): string => path ?? `/dev/${name}`;
const mountsOf = ({ mountpoint, mountpoints }: Block): string[] =>
  [mountpoint, ...(mountpoints ?? [])].filter(
    (each): each is string => typeof each === 'string' && each !== '',
  );

/** File systems of blkid that are a part of something else, whose other part says what is on them. */
const MEMBER = /_member$|^(?:crypto_|BitLocker|bcache|ceph_|drbd|stratis|DM_|vdo|oracleasm)/;

function refusalOf(disk: Block, sizeBytes: number): string | undefined {
  const parts = all(disk);
  const mounts = parts.flatMap(mountsOf);
  const system = mounts.find((each) =>
    ['/', '/boot', '/boot/efi', '/usr', '/var', '/home', '[SWAP]'].includes(each),
  );
  if (system !== undefined) return `this machine runs from it (${system})`;
  if (mounts.length > 0) return `it is mounted at ${mounts.join(', ')}: unmount it first`;
  if (disk.type !== 'disk') return `it is no disk (${disk.type ?? 'unknown'})`;
  // What lies on it is a partition, or something that uses it: an array, a volume, an open container.
  const use = parts.slice(1).find(({ type }) => type !== 'part');
  if (use !== undefined)
    return `it is a part of an array, a volume group or an encrypted disk, and in use (${use.name})`;
  if (/^mmcblk\d+(?:boot|rpmb|gp)/.test(disk.name)) return 'it is a part of a chip, and no card';
  if (disk.kind === 'MMC') return 'it is soldered in (eMMC), and no card';
  const isCard = disk.tran === 'usb' || disk.name.startsWith('mmcblk');
  if (!isCard) return `it is no card and no USB disk (${disk.tran ?? 'no transport is known'})`;
  const member = parts.find(({ fstype }) => MEMBER.test(fstype ?? ''));
  if (member !== undefined)
    return `it is a part of an array, a volume group or an encrypted disk (${member.name}: ${member.fstype}); if nothing on it is wanted any more: wipefs --all ${parts
      .toReversed()
      .map(pathOf)
      .join(' ')}`;
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
        path: pathOf(block),
        sizeBytes,
        label,
        identity: `${label}, ${sizeBytes} bytes${block.sequence === undefined ? '' : `, ${block.sequence}`}`,
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

/** Throws CONFIG_INVALID where another one is there than the one that was looked at. */
export function checkSame(disks: readonly Disk[], before: Disk): void {
  const found = disks.find(({ path }) => path === before.path);
  if (found?.identity === before.identity) return;
  throw new HeadwaterError(
    'CONFIG_INVALID',
    `${before.path} is not the card any more that it was at the start (${before.identity}): ${found === undefined ? 'it is gone' : `there is ${found.identity} now`}, and it does not get another's content; say the same again for the one that is there`,
  );
}

const ofSystem = (name: string, file: string): string | undefined => {
  try {
    return readFileSync(`/sys/class/block/${name}/${file}`, 'utf8').trim();
  } catch {
    return undefined; // Not of this kind of disk, or of this kernel.
  }
};

function known(block: Block): Block {
  const [kind, sequence] = [ofSystem(block.name, 'device/type'), ofSystem(block.name, 'diskseq')];
  return {
    ...block,
    ...(kind === undefined ? {} : { kind }),
    ...(sequence === undefined ? {} : { sequence }),
  };
}

/** Why there is no list of disks. */
function unlisted(error: Error, platform: string): string {
  if (codeOf(error) !== 'ENOENT') return `the disks cannot be listed (lsblk): ${messageOf(error)}`;
  return platform === 'linux'
    ? 'the command lsblk is not installed, which lists the disks: it comes with the package util-linux'
    : 'cards are listed and written on Linux alone: make a file with --to FILE.img, and write it with Raspberry Pi Imager (no settings of its own) or dd';
}

/** Throws NOT_FOUND where there is no lsblk. */
export function readDisks(platform: string = process.platform): Promise<Disk[]> {
  const columns = 'NAME,PATH,SIZE,RM,HOTPLUG,RO,TYPE,TRAN,MOUNTPOINT,MODEL,SERIAL,FSTYPE';
  return new Promise((resolve, reject) => {
    execFile('lsblk', ['--json', '--bytes', '--output', columns], (error, text) => {
      if (error !== null)
        reject(new HeadwaterError('NOT_FOUND', unlisted(error, platform), { cause: error }));
      else
        resolve(disksOf((JSON.parse(text) as { blockdevices: Block[] }).blockdevices.map(known)));
    });
  });
}

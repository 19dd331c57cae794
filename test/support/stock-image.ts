/** A made-up stock image, which `headwater flash` takes for one of Debian's. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const MIB = 1024 * 1024;
/** Its root file system. */
export const ROOT_AT = 8 * MIB;
/** With the tools of file systems, which are no user's. */
export const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;

/** A disk with a FAT partition (empty without mtools) and an ext4 one that has what of Debian is looked at. */
export function stockImage(folder: string, machine: number, files: Record<string, string>): string {
  const tree = join(folder, 'tree');
  const elf = Buffer.alloc(64);
  elf.writeUInt16LE(machine, 18);
  const all: Record<string, string | Buffer> = {
    'usr/lib/os-release': 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n',
    'usr/bin/dpkg': elf,
    'etc/systemd/system/multi-user.target.wants/x.service': '',
    ...files,
  };
  for (const [path, content] of Object.entries(all)) {
    mkdirSync(join(tree, path, '..'), { recursive: true });
    writeFileSync(join(tree, path), content);
  }
  const image = join(folder, 'stock.img');
  const disk = Buffer.alloc(512);
  const entry = (index: number, type: number, at: number, length: number): void => {
    disk[446 + index * 16 + 4] = type;
    disk.writeUInt32LE(at / 512, 454 + index * 16);
    disk.writeUInt32LE(length / 512, 458 + index * 16);
  };
  entry(0, 0x0c, MIB, 4 * MIB);
  entry(1, 0x83, ROOT_AT, 24 * MIB);
  disk.writeUInt16LE(0xaa55, 510);
  writeFileSync(image, disk);
  execFileSync('truncate', ['-s', '32M', image]);
  const args = ['-q', '-t', 'ext4', '-d', tree, '-E', `offset=${ROOT_AT}`, image, '24M'];
  execFileSync('mke2fs', args, { env: { ...process.env, PATH }, stdio: 'ignore' });
  return image;
}

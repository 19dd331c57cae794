/**
 * Files in the file systems of an image, without root and without mounting: ext4 by debugfs, FAT by mtools, both at an
 * offset of the image. debugfs says nothing by its exit code, so everything that was written is read back.
 */
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HeadwaterError, codeOf } from '../../shared/errors.ts';
import { inScratch } from './scratch.ts';

const OUTPUT_BYTES_MAX = 256 * 1024 * 1024;

interface Ran {
  code: number;
  out: Buffer;
  said: string;
}

const PACKAGES: Record<string, string> = { mcopy: 'mtools', mtype: 'mtools' };

function run(command: string, args: readonly string[]): Promise<Ran> {
  return new Promise((resolve, reject) => {
    execFile(
      command,
      args,
      {
        encoding: 'buffer',
        maxBuffer: OUTPUT_BYTES_MAX,
        env: {
          ...process.env,
          LC_ALL: 'C',
          PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`,
          MTOOLS_SKIP_CHECK: '1',
        },
      },
      (error, out, said) => {
        if (codeOf(error) === 'ENOENT')
          reject(
            new HeadwaterError(
              'NOT_FOUND',
              `the command ${command} is not installed: it comes with the package ${PACKAGES[command] ?? 'e2fsprogs'}`,
            ),
          );
        else
          resolve({
            code: error === null ? 0 : Number((error as { code?: unknown }).code) || 1,
            out,
            said: said.toString('utf8'),
          });
      },
    );
  });
}

/** What is to stand in a file system. */
export interface ImageFile {
  /** Absolute. */
  path: string;
  content: Buffer;
  mode: number;
}

/** Names that debugfs and mtools take as they are. */
function checkPath(path: string): void {
  if (!/^(?:\/[\w.@-]+)+$/.test(path))
    throw new HeadwaterError('CONFIG_INVALID', `'${path}' cannot be written into an image`);
}

/** An ext2, 3 or 4 file system in an image. */
export class Ext {
  private readonly at: string;

  constructor(image: string, offset: number) {
    this.at = `${image}?offset=${offset}`;
  }

  /** Undefined where there is no such file, or no such file system. */
  async read(path: string): Promise<Buffer | undefined> {
    checkPath(path);
    const { out, said } = await run('debugfs', ['-R', `cat ${path}`, this.at]);
    return /File not found|Bad magic|Filesystem not open/.test(said) ? undefined : out;
  }

  async freeBytes(): Promise<number> {
    const { out } = await run('debugfs', ['-R', 'stats -h', this.at]);
    const text = out.toString('latin1');
    const number = (name: string): number =>
      Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1]);
    return number('Free blocks') * number('Block size');
  }

  /** Writes them, and reads them back. Throws CONFIG_INVALID. */
  async write(
    files: readonly ImageFile[],
    links: readonly { path: string; to: string }[],
  ): Promise<void> {
    await inScratch(async (folder) => {
      const commands: string[] = [];
      const made = new Set<string>();
      const enter = (path: string): string => {
        checkPath(path);
        const parts = path.split('/').slice(1);
        const name = parts.pop() ?? '';
        let above = '';
        for (const part of parts) {
          above += `/${part}`;
          // One that is there already is said, and no harm.
          if (!made.has(above)) commands.push(`mkdir ${above}`);
          made.add(above);
        }
        // `write` takes no path with folders.
        commands.push(`cd ${above === '' ? '/' : above}`, `rm ${name}`);
        return name;
      };
      for (const [index, { path, content, mode }] of files.entries()) {
        const source = join(folder, String(index));
        await writeFile(source, content);
        const name = enter(path);
        commands.push(`write "${source}" ${name}`);
        commands.push(`set_inode_field ${name} mode 0${(0o100000 | mode).toString(8)}`);
        commands.push(`set_inode_field ${name} uid 0`, `set_inode_field ${name} gid 0`);
      }
      for (const { path, to } of links) commands.push(`symlink ${enter(path)} ${to}`);
      const script = join(folder, 'commands');
      await writeFile(script, `${commands.join('\n')}\n`);
      await run('debugfs', ['-w', '-f', script, this.at]);
      for (const { path, content } of files) {
        const back = await this.read(path);
        if (back?.equals(content) !== true)
          throw new HeadwaterError(
            'CONFIG_INVALID',
            `${path} could not be written into the image's root file system: is it full?`,
          );
      }
    });
  }

  /** Throws CONFIG_INVALID where the file system is not whole. */
  async check(): Promise<void> {
    const { code, out } = await run('e2fsck', ['-fn', this.at]);
    if (code !== 0)
      throw new HeadwaterError(
        'CONFIG_INVALID',
        `the image's root file system is not whole: ${out.toString('latin1').trim().split('\n').at(-1)}`,
      );
  }
}

/** A FAT file system in an image. */
export class Fat {
  private readonly at: string;

  constructor(image: string, offset: number) {
    this.at = `${image}@@${offset}`;
  }

  async read(path: string): Promise<Buffer | undefined> {
    checkPath(path);
    const { code, out } = await run('mtype', ['-i', this.at, `::${path}`]);
    return code === 0 ? out : undefined;
  }

  /** Into its root folder. Throws CONFIG_INVALID. */
  async write(name: string, content: Buffer): Promise<void> {
    await inScratch(async (folder) => {
      const source = join(folder, 'file');
      await writeFile(source, content);
      const { said } = await run('mcopy', ['-o', '-i', this.at, source, `::/${name}`]);
      const back = await this.read(`/${name}`);
      if (back?.equals(content) !== true)
        throw new HeadwaterError(
          'CONFIG_INVALID',
          `${name} could not be written into the image's boot partition: ${said.trim()}`,
        );
    });
  }
}

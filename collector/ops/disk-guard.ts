/**
 * Watches the free space under the data folder. When little is left the uplink is no longer acknowledged, so that
 * gateways keep what they have, while decoding, storing and queries go on. The same when the folder is not there any more.
 */
import { statfs } from 'node:fs/promises';
import { FolderWatch } from '../../shared/config/folder.ts';
import { messageOf } from '../../shared/errors.ts';
import type { FolderLock } from '../../shared/kv/folder-lock.ts';
import { NewFolder } from './new-folder.ts';
import type { Notify } from '../../shared/telemetry/log.ts';

const CHECK_MS = 250;

export class DiskGuard {
  /** Why nothing may be taken now, or undefined. */
  full: string | undefined;
  /** Where no database of ours keeps other processes away. */
  lock: FolderLock | undefined;
  /** Of log, store and lake, what is another one than at the start before: a sentence each. */
  others: readonly string[] = [];
  /** What was wrong with the folder's own note at the start, and was made again. */
  found: string | undefined;
  /** Whether it was new then, and who remembers that there was something. */
  newFolder: NewFolder;
  readonly folder: string;
  private readonly freeBytesMin: number;
  private readonly notify: Notify;
  private readonly watch: FolderWatch;
  /** Why it could not be looked at, told once. */
  private failure = '';
  private timer: NodeJS.Timeout | undefined;

  constructor(folder: string, freeBytesMin: number, notify: Notify) {
    this.folder = folder;
    this.freeBytesMin = freeBytesMin;
    this.notify = notify;
    this.watch = new FolderWatch(folder);
    this.newFolder = new NewFolder(folder, false, notify);
  }

  async start(): Promise<void> {
    await this.watch.accept();
    await this.check();
    this.timer = setInterval(() => void this.check(), CHECK_MS);
    this.timer.unref();
  }

  private async check(): Promise<void> {
    const was = this.full;
    try {
      // First: what is not there has no free space, and the file system says nothing better than ENOENT.
      this.full = (await this.watch.problem()) ?? (await this.shortage());
      this.failure = '';
    } catch (error) {
      const text = messageOf(error);
      if (text !== this.failure) this.notify({ level: 'warn', event: 'disk_check_failed', text });
      this.failure = text;
      return;
    }
    if (was === undefined && this.full !== undefined)
      this.notify({ level: 'error', event: 'disk_full', text: this.full });
    if (was !== undefined && this.full === undefined)
      this.notify({ level: 'info', event: 'disk_free', text: 'the uplink is acknowledged again' });
  }

  private async shortage(): Promise<string | undefined> {
    const { bavail, bsize } = await statfs(this.folder);
    const free = bavail * bsize;
    return free < this.freeBytesMin
      ? `the disk under ${this.folder} has ${free} bytes free, ${this.freeBytesMin} are needed: gateways keep their messages until there is space`
      : undefined;
  }

  stop(): void {
    clearInterval(this.timer);
  }
}

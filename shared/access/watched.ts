/**
 * Files that may change while a process runs: certificates, credentials, access rules. They are looked at every two
 * seconds; what is not valid is reported once and changes nothing, so that a half-written file locks nobody out.
 */
import { stat } from 'node:fs/promises';
import { messageOf } from '../errors.ts';
import type { Notify } from '../telemetry/log.ts';

const LOOK_MS = 2000;

async function stampOf(files: readonly string[]): Promise<string> {
  const parts = await Promise.all(
    files.map(async (file) => {
      const { mtimeMs, size, ino } = await stat(file);
      return `${file} ${mtimeMs} ${size} ${ino}`;
    }),
  );
  return parts.join('\n');
}

export class WatchedFiles {
  private readonly files: readonly string[];
  private readonly what: string;
  private readonly notify: Notify;
  private stamp: string | undefined;
  private said = '';
  private timer: NodeJS.Timeout | undefined;

  /** `what` names them in messages, as the beginning of a sentence. */
  constructor(files: readonly string[], what: string, notify: Notify) {
    this.files = files.filter((file) => file !== '');
    this.what = what;
    this.notify = notify;
  }

  /** `reload` throws when the new content is not valid. */
  start(reload: () => void | Promise<void>): void {
    if (this.files.length === 0) return;
    void stampOf(this.files)
      .then((stamp) => {
        this.stamp ??= stamp;
      })
      .catch(() => undefined); // It was read a moment ago; the next look says what is wrong.
    this.timer = setInterval(() => void this.look(reload), LOOK_MS);
    this.timer.unref();
  }

  private async look(reload: () => void | Promise<void>): Promise<void> {
    try {
      const stamp = await stampOf(this.files);
      if (this.stamp === undefined || stamp === this.stamp) {
        this.stamp = stamp;
        return;
      }
      await reload();
      this.stamp = stamp;
      this.said = '';
      this.notify({
        level: 'info',
        event: 'reloaded',
        text: `${this.what} changed and is in force`,
      });
    } catch (error) {
      const text = `${this.what}: ${messageOf(error)}; what was in force before stays`;
      if (text !== this.said) this.notify({ level: 'error', event: 'reload_failed', text });
      this.said = text;
    }
  }

  stop(): void {
    clearInterval(this.timer);
  }
}

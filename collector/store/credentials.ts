/** What a store on a server is given to let us in, and whether it may go there in clear. */
import { statSync } from 'node:fs';
import { clearSecret } from '../../shared/config/exposure.ts';
import { readPrivateFile } from '../../shared/config/secrets.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';

/** A token from a private file, read again when it changes; or one that is given. */
export class TokenSource {
  private readonly file: string;
  private readonly notify: Notify;
  private token: string;
  private stamp = '';
  private said = '';

  /** Throws CONFIG_INVALID. */
  constructor(file: string, given: string, notify: Notify) {
    this.file = file;
    this.notify = notify;
    this.token = given;
    if (file !== '') this.read();
  }

  private read(): void {
    const stamp = stampOf(this.file);
    if (stamp === this.stamp) return;
    const token = readPrivateFile(this.file, 'store.tokenFile').toString('utf8').trim();
    if (token === '')
      throw new HeadwaterError('CONFIG_INVALID', `store.tokenFile: ${this.file} holds no token`);
    this.token = token;
    if (this.stamp !== '')
      this.notify({
        level: 'info',
        event: 'reloaded',
        text: "the store's token changed and is in force",
      });
    this.stamp = stamp;
  }

  /** The one in force: while the file cannot be read, or holds none, the one before. */
  now(): string {
    if (this.file === '') return this.token;
    try {
      this.read();
      this.said = '';
    } catch (error) {
      const text = `the store's token: ${messageOf(error)}; the one before stays`;
      if (text !== this.said) this.notify({ level: 'error', event: 'reload_failed', text });
      this.said = text;
    }
    return this.token;
  }
}

/** Also of a file that is not there: reading it says so. */
function stampOf(file: string): string {
  try {
    const { mtimeMs, size, ino } = statSync(file);
    return `${mtimeMs} ${size} ${ino}`;
  } catch {
    return 'none';
  }
}

/** Throws CONFIG_INVALID: a token must not be read on the way unless somebody insists. */
export function checkPlaintext(
  url: string,
  hasToken: boolean,
  allowPlaintext: boolean,
  notify: Notify,
): void {
  const trouble = hasToken
    ? clearSecret({
        what: '--store',
        url,
        secret: 'the token',
        instead: 'influxdbs://',
        insist: 'add --allow-plaintext',
      })
    : undefined;
  if (trouble === undefined) return;
  if (!allowPlaintext) throw new HeadwaterError('CONFIG_INVALID', trouble);
  notify({
    level: 'warn',
    event: 'plaintext',
    text: "the store's token goes to another machine in clear: it can be read on the way",
  });
}

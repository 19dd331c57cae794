/**
 * A data folder that was empty at the start is taken for a new one. It may as well be the place of a disk that is not mounted, or
 * another one than before; nothing in it can say so. Who else remembers an earlier collector does: gateways whose messages were
 * acknowledged, a lake, log or store elsewhere. What they say is told once each; it is a doubt, for a second collector beside
 * the first has a new folder as well.
 */
import type { Status } from '../../shared/frame/notes.ts';
import type { Notify } from '../../shared/telemetry/log.ts';

export class NewFolder {
  /** Of this start. */
  readonly isNew: boolean;
  private readonly folder: string;
  private readonly notify: Notify;
  private readonly remembered = new Map<string, string>();
  private readonly heard = new Set<string>();

  constructor(folder: string, isNew: boolean, notify: Notify) {
    this.folder = folder;
    this.isNew = isNew;
    this.notify = notify;
  }

  /** One sentence; undefined: nobody remembers anything. */
  get doubt(): string | undefined {
    if (this.remembered.size === 0) return undefined;
    return `data folder ${this.folder} was empty at the start and is taken for a new one, but ${[...this.remembered.values()].join('; ')}: if it had data before, its disk is not mounted or --data names another folder: stop, put that right, and start again`;
  }

  /** `who` remembers; told once of each. */
  remember(who: string, what: string): void {
    if (!this.isNew || this.remembered.has(who)) return;
    this.remembered.set(who, what);
    this.notify({ level: 'error', event: 'data_folder_new', text: this.doubt ?? '' });
  }

  /** A gateway's first word to this process: what of it was acknowledged was so by a collector before. */
  hear(gateway: string, { epochs }: Pick<Status, 'epochs'>): void {
    if (!this.isNew || this.heard.has(gateway)) return;
    this.heard.add(gateway);
    let acknowledged = 0;
    for (const { next, waiting } of epochs)
      acknowledged += next - 1 - waiting.reduce((sum, [from, to]) => sum + to - from + 1, 0);
    if (acknowledged > 0)
      this.remember(
        'gateways',
        `gateway ${gateway} says that a collector had acknowledged ${acknowledged} messages to it`,
      );
  }
}

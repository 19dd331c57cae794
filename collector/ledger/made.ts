/**
 * Which measurements rules and batch jobs make: whoever runs them says so in the log, for processes that only answer. Keys `made/stream`
 * and `made/batch`, a list of names each.
 */
import type { Env } from '../../shared/env/env.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { TOPIC_LEDGER, type Log, type LogRecord } from '../log/log.ts';
import { Noting, unlessAway } from '../log/noting.ts';

const MADE_PREFIX = 'made/';

/** Notes them, each time other ones are made. */
export class MadeKeeper {
  private readonly key: string;
  private readonly log: Log;
  private readonly noting: Noting;
  private noted = '';

  constructor(by: 'stream' | 'batch', log: Log, { timers }: Env, notify: Notify) {
    this.key = `${MADE_PREFIX}${by}`;
    this.log = log;
    const what = `which measurements are results (${by})`;
    this.noting = new Noting(timers, unlessAway(log, notify, 'made_kept', what));
  }

  /** Resolves when it is noted, or that has failed once: it is tried again then. */
  async keep(of: readonly { measurement: string }[]): Promise<void> {
    const names = [...new Set(of.map(({ measurement }) => measurement))].sort();
    await this.noting.note(this.key, () => this.note(JSON.stringify(names)));
  }

  private async note(text: string): Promise<void> {
    // Whatever was noted before: to look for it, all of the topic would be read.
    if (text === this.noted) return;
    const record = { key: this.key, headers: {}, value: Buffer.from(text) };
    await this.log.append(TOPIC_LEDGER, [record]);
    this.noted = text;
  }

  async close(): Promise<void> {
    await this.noting.close();
  }
}

/** As records of the ledger say it. */
export class Made {
  private readonly by = new Map<string, readonly string[]>();

  take({ key, value }: LogRecord): void {
    if (!key.startsWith(MADE_PREFIX)) return;
    if (value.length === 0) this.by.delete(key);
    else this.by.set(key, JSON.parse(value.toString('utf8')) as string[]); // As `MadeKeeper` writes it.
  }

  list(): string[] {
    return [...new Set([...this.by.values()].flat())].sort();
  }
}

/**
 * Notes of a process in the log, of which the newest by its name counts: one that cannot be written now is tried again until it
 * is, or a newer one stands in its place. While any cannot be written one line speaks for all of them.
 */
import { Backoff } from '../../shared/env/backoff.ts';
import { Rest, type Timers } from '../../shared/env/timers.ts';
import { messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { Log } from './log.ts';

/** For notes of which a line is too many while the log is away: it speaks for itself. `what` cannot be noted. */
export const unlessAway =
  (log: Pick<Log, 'health'>, notify: Notify, event: string, what: string) =>
  (error: unknown): void => {
    if (!log.health().up) return;
    const text = `${what} cannot be noted in the log now: ${messageOf(error)}`;
    notify({ level: 'warn', event, text });
  };

/** Writes a note as it is by then, to stable storage. */
export type Write = () => Promise<void>;

const AGAIN = { firstMs: 500, mostMs: 10_000 };

export class Noting {
  private readonly rest: Rest;
  private readonly tell: (error: unknown) => void;
  /** Name → the newest of it, as long as it is not written. */
  private readonly wanted = new Map<string, Write>();
  /** Name → its last write: those of a name follow one another. */
  private readonly turns = new Map<string, Promise<void>>();
  private readonly failed = new Set<string>();
  private again: Promise<void> | undefined;
  private isClosed = false;

  /** `tell` hears of the first that could not be written, and of no other until all have been. */
  constructor(timers: Timers, tell: (error: unknown) => void) {
    this.rest = new Rest(timers);
    this.tell = tell;
  }

  /** Resolves when it is written, a newer one follows, or it has failed once: it is tried again then. */
  async note(name: string, write: Write): Promise<void> {
    this.wanted.set(name, write);
    await this.turn(name);
  }

  private async turn(name: string): Promise<void> {
    const turn = (this.turns.get(name) ?? Promise.resolve()).then(() => this.attempt(name));
    this.turns.set(name, turn);
    await turn;
    if (this.turns.get(name) === turn) this.turns.delete(name);
  }

  private async attempt(name: string): Promise<void> {
    const write = this.wanted.get(name);
    // Written by a turn that came later and found it the newest already.
    if (write === undefined) return;
    try {
      await write();
      if (this.wanted.get(name) === write) this.wanted.delete(name);
      this.failed.delete(name);
    } catch (error) {
      const isFirst = this.failed.size === 0;
      this.failed.add(name);
      if (isFirst) this.tell(error);
      if (!this.isClosed) this.again ??= this.tryAgain();
    }
  }

  private async tryAgain(): Promise<void> {
    const backoff = new Backoff(AGAIN);
    while (this.failed.size > 0) {
      await this.rest.for(backoff.next());
      if (this.isClosed) return;
      await Promise.all([...this.failed].map((name) => this.turn(name)));
    }
    this.again = undefined;
  }

  /** When what is being written is: a stop waits for no log that is away. */
  async close(): Promise<void> {
    this.isClosed = true;
    this.rest.wake();
    await this.again;
    await Promise.all(this.turns.values());
  }
}

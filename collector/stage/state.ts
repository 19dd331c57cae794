/**
 * What a stage says of itself, so that a person can act: whether it works or waits, for what, since when, why and how
 * much waits. A trouble is told when it begins, once a minute while it lasts, again when its reason changes (at most every
 * ten seconds), and when it is over. Something that gives no answer at all for eight seconds is a trouble too.
 */
import type { Notify } from '../../shared/telemetry/log.ts';
import { messageOf } from '../../shared/errors.ts';
import { Told } from '../../shared/telemetry/told.ts';

export interface StageState {
  name: string;
  state: 'works' | 'waits';
  /** What it was about to do, as in "reading the log". */
  waitsFor?: string;
  /** Epoch milliseconds when the present trouble began. */
  sinceMs?: number;
  /** The present reason, a sentence. */
  reason?: string;
  /** Records of the log that wait for this stage; null: not known now. */
  waitingRecords: number | null;
  /** Epoch milliseconds when it last came forward; undefined: not since the start. */
  succeededMs?: number;
  /** Records that it could not take and set aside, since the start. */
  asideRecords: number;
  /** Places in the log that were deleted before it had read them, since the start. */
  lostRecords: number;
  /** What others have done to its place in the log: a sentence each, of the last hour; of what is lost, since the start. */
  warnings: string[];
}

export interface TroubleOptions {
  name: string;
  notify: Notify;
  /** Wall clock, epoch milliseconds: for what is said. */
  wallMs: () => number;
  /** Monotonic, milliseconds: for how long something lasts. */
  monotonicMs: () => number;
  waitingRecords: () => number | null;
}

/** It is looked so often that more in between is a standstill of the process. */
const STILL_MS = 5000;
/** No answer for so long is a trouble. */
const STUCK_MS = 8000;
/** What befell it: so many are shown, and those by which nothing is lost for so long. */
const TOLD_MAX = 8;
const TOLD_MS = 3_600_000;

interface Present {
  what: string;
  reason: string;
  sinceMs: number;
  told: Told;
}

export class Trouble {
  asideRecords = 0;
  private lostRecords = 0;
  private told: { text: string; isLoss: boolean; at: number }[] = [];
  private readonly options: TroubleOptions;
  private present: Present | undefined;
  private succeededMs: number | undefined;
  /** What is under way, the innermost last, and since when (monotonic). */
  private readonly phases: { what: string; since: number }[] = [];
  private isStuck = false;
  private lookedAt: number | undefined;

  constructor(options: TroubleOptions) {
    this.options = options;
  }

  /** Something begins that may give no answer. */
  begin(what: string): void {
    this.phases.push({ what, since: this.options.monotonicMs() });
  }

  /** It has answered. */
  end(): void {
    const phase = this.phases.pop();
    if (this.isStuck) this.passed(phase?.what);
    this.isStuck = false;
  }

  failed(what: string, error: unknown): void {
    this.isStuck = false;
    this.tell(what, messageOf(error));
  }

  /** Somebody else has moved its place, or deleted `lost` records that it had not read. */
  befell(text: string, lost: number): void {
    const { name, notify, monotonicMs } = this.options;
    const isLoss = lost > 0;
    this.lostRecords += lost;
    this.told = [...this.told, { text, isLoss, at: monotonicMs() }].slice(-TOLD_MAX);
    notify({ level: isLoss ? 'error' : 'warn', event: `${name}_place`, text });
  }

  private get warnings(): string[] {
    const since = this.options.monotonicMs() - TOLD_MS;
    const { name } = this.options;
    return this.told
      .filter(({ isLoss, at }) => isLoss || at >= since)
      .map(({ text }) => `${name}: ${text}`);
  }

  /** It came forward: the trouble, if there was one, is over. With `what`: if it was that. */
  passed(what?: string): void {
    this.succeededMs = Math.round(this.options.wallMs());
    if (this.present === undefined || (what !== undefined && this.present.what !== what)) return;
    this.isStuck = false;
    this.present = undefined;
    const { name, notify } = this.options;
    notify({ level: 'info', event: `${name}_resumed`, text: `${name} goes on` });
  }

  /** To be called every few seconds. */
  look(): void {
    const { present } = this;
    const phase = this.phases.at(-1);
    const now = this.options.monotonicMs();
    // While nobody looks this process stands still, and no answer could be heard.
    const stillMs = now - (this.lookedAt ?? now) - STILL_MS;
    if (stillMs > 0) for (const each of this.phases) each.since += stillMs;
    this.lookedAt = now;
    if (phase !== undefined && now - phase.since >= STUCK_MS && !this.isStuck) {
      this.isStuck = true;
      const reason = present?.reason ?? `no answer for ${STUCK_MS / 1000} s`;
      this.tell(phase.what, reason);
    } else if (present !== undefined) this.tell(present.what, present.reason);
  }

  private tell(what: string, reason: string): void {
    const { name, notify, wallMs, monotonicMs, waitingRecords } = this.options;
    const known = this.present;
    const told = known?.told ?? new Told();
    const isDue = told.isDue(`${what}: ${reason}`, monotonicMs());
    if (known === undefined) {
      this.present = { what, reason, sinceMs: Math.round(wallMs()), told };
      notify({ level: 'warn', event: `${name}_waits`, text: `${what}: ${reason}` });
      return;
    }
    Object.assign(known, { what, reason });
    if (!isDue) return;
    const waiting = waitingRecords();
    const count = waiting === null ? '' : `; ${waiting} records wait`;
    const since = `since ${new Date(known.sinceMs).toISOString()}`;
    notify({ level: 'warn', event: `${name}_waits`, text: `${what}, ${since}: ${reason}${count}` });
  }

  get state(): StageState {
    const { present, succeededMs, asideRecords, lostRecords, warnings } = this;
    const { name, waitingRecords } = this.options;
    return {
      name,
      state: present === undefined ? 'works' : 'waits',
      ...(present === undefined
        ? {}
        : { waitsFor: present.what, sinceMs: present.sinceMs, reason: present.reason }),
      waitingRecords: waitingRecords(),
      ...(succeededMs === undefined ? {} : { succeededMs }),
      asideRecords,
      lostRecords,
      warnings,
    };
  }
}

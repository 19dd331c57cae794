/**
 * How many records a step takes. A step that fails again and again in the same way is halved down to the record; what
 * passes makes steps larger again, so that after a few steps they are as they were. A stage whose work holds the event loop says
 * how long a step may: of records that take longer (a device's payloads may be made to) the next step takes fewer.
 */
import { wayOf } from '../../shared/telemetry/way.ts';
import type { StoredRecord } from '../log/log.ts';

/** So many failures of one step in the same way are waited for, before it is split. */
export interface Patience {
  /** The other side says that it passes by itself. */
  passing: number;
  other: number;
}

export const PATIENCE: Patience = { passing: 8, other: 3 };
/** From here on a step takes whatever there is. */
const WHOLE = 4096;

export class Pace {
  /** Infinity while nothing was split. */
  private size = Infinity;
  private way = '';
  private failures = 0;
  private readonly stepMs: number;
  private readonly nowMs: () => number;
  /** As many as have their time. */
  private timely = Infinity;

  /** `stepMs`: that a step may take. */
  constructor(stepMs: number, nowMs: () => number) {
    this.stepMs = stepMs;
    this.nowMs = nowMs;
  }

  /** Records of the next step at most. */
  get next(): number {
    return Math.min(this.size, this.timely);
  }

  async timed<T>(records: readonly StoredRecord[], step: () => Promise<T>): Promise<T> {
    const { length } = records;
    const beganMs = this.nowMs();
    const result = await step();
    const tookMs = this.nowMs() - beganMs;
    if (tookMs > this.stepMs)
      this.timely = Math.max(1, Math.floor((length * this.stepMs) / tookMs));
    else if (length >= this.timely && tookMs < this.stepMs / 2) this.timely *= 2;
    if (this.timely >= WHOLE) this.timely = Infinity;
    return result;
  }

  /** True: the step was made smaller, and may be tried at once. */
  failed(
    text: string,
    isPassing: boolean,
    records: readonly StoredRecord[],
    isOfRecord = false,
  ): boolean {
    const way = wayOf(text);
    if (way !== this.way) this.failures = 0;
    this.way = way;
    this.failures++;
    // One of them is the reason, and will be the next time.
    if (isOfRecord) this.failures = Math.max(this.failures, PATIENCE.passing);
    if (!this.hasWaited(isPassing) || records.length < 2) return false;
    this.size = Math.ceil(records.length / 2);
    return true;
  }

  /** Whether it has been given the time to pass by itself. */
  private hasWaited(isPassing: boolean): boolean {
    return this.failures >= (isPassing ? PATIENCE.passing : PATIENCE.other);
  }

  /** Whether a single record has been failing for so long that it may be the record. */
  isSuspect(isPassing: boolean, records: readonly StoredRecord[]): boolean {
    return records.length === 1 && this.hasWaited(isPassing);
  }

  /** Steps are smaller than what there is: something was split. */
  get isCareful(): boolean {
    return this.size !== Infinity;
  }

  passed(): void {
    if (this.isCareful) {
      this.size *= 2;
      if (this.size < WHOLE) return;
    }
    this.size = Infinity;
    this.failures = 0;
  }
}

/**
 * How many records a step takes. A step that fails again and again in the same way is halved down to the record; what
 * passes makes steps larger again, so that after a few steps they are as they were.
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
  /** Records of the next step at most. */
  size = Infinity;
  private way = '';
  private failures = 0;

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

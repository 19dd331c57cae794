/** Whether a record that fails alone is the reason, or the world is (see `Touches` in `stage.ts`). */
import { isRetryable } from '../../contracts/errors.ts';
import { codeOf, isOfRecord } from '../../shared/errors.ts';
import type { StoredRecord } from '../log/log.ts';

/** It has to fail so often, and others to pass in between. */
const ROUNDS = 5;
/** What asks nobody fails again for the same reason: once more, with state loaded anew, is enough. */
const ROUNDS_OF_NOTHING = 2;

export class Suspect {
  private record: StoredRecord | undefined;
  private rounds = 0;

  /**
   * The record has failed alone once more. `asksNobody`: its step has asked no other system. `others`: whether other
   * records pass at this moment.
   */
  async isReason(
    error: unknown,
    record: StoredRecord,
    asksNobody: boolean,
    others: (record: StoredRecord) => Promise<boolean>,
  ): Promise<boolean> {
    if (isOfRecord(error)) return true;
    if (codeOf(error) === 'LOG_FENCED' || (asksNobody && isRetryable(error))) return false;
    const { record: last } = this;
    const isSame = last?.offset === record.offset && last.partition === record.partition;
    const counts = asksNobody || (await others(record));
    this.rounds = counts ? (isSame ? this.rounds : 0) + 1 : 0;
    this.record = record;
    return this.rounds >= (asksNobody ? ROUNDS_OF_NOTHING : ROUNDS);
  }

  cleared(): void {
    this.record = undefined;
    this.rounds = 0;
  }
}

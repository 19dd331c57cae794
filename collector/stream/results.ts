/** Results as readings: their identities, and the records of the topic `results`. */
import { createHash } from 'node:crypto';
import type { Reading } from '../../shared/model/reading.ts';
import { encodeReadings } from '../../shared/model/readings-record.ts';
import { TOPIC_RESULTS, type Produced } from '../log/log.ts';
import { seriesText } from '../lake/rows.ts';

/** Stand where readings have their gateway: no gateway can be named so. */
export const STREAM = '~stream';
export const BATCH = '~batch';

/** A series of results, short enough for a key: its tags decide. */
export function groupHash(tags: Record<string, string>): string {
  return createHash('sha256').update(seriesText('', tags)).digest('hex').slice(0, 16);
}

const RESULTS_PER_RECORD = 500;

/** Results of one step, gathered into records by what they are of. */
export class Results {
  private readonly byEpoch = new Map<string, { readings: Reading[]; removed: Reading[] }>();
  private readonly origin: string;
  count = 0;

  constructor(origin: typeof STREAM | typeof BATCH) {
    this.origin = origin;
  }

  private of(epoch: string): { readings: Reading[]; removed: Reading[] } {
    let entry = this.byEpoch.get(epoch);
    if (entry === undefined) this.byEpoch.set(epoch, (entry = { readings: [], removed: [] }));
    return entry;
  }

  /** `epoch`, sequence and index are the identity: the same again replaces what was there. */
  add(epoch: string, reading: Reading): void {
    this.of(epoch).readings.push(reading);
    this.count++;
  }

  remove(epoch: string, reading: Reading): void {
    this.of(epoch).removed.push(reading);
    this.count++;
  }

  /** `revision` is higher than that of any record of these results before. */
  records(revision: number): Produced[] {
    const produced: Produced[] = [];
    for (const [epoch, { readings, removed }] of this.byEpoch) {
      for (
        let from = 0;
        from < Math.max(readings.length, removed.length);
        from += RESULTS_PER_RECORD
      ) {
        const to = from + RESULTS_PER_RECORD;
        produced.push({
          topic: TOPIC_RESULTS,
          key: epoch,
          headers: {},
          value: encodeReadings({
            gateway: this.origin,
            epoch,
            arrivedMs: revision,
            readings: readings.slice(from, to),
            removed: removed.slice(from, to),
            revision,
          }),
        });
      }
    }
    return produced;
  }
}

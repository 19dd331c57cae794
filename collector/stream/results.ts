/** Results as readings: their identities, and the records of the topic `results`. */
import { createHash } from 'node:crypto';
import type { Reading } from '../../shared/model/reading.ts';
import { encodeReadings } from '../../shared/model/readings-record.ts';
import { seriesText } from '../lake/rows.ts';
import { TOPIC_RESULTS, type Produced } from '../log/log.ts';

/** Stand where readings have their gateway: no gateway can be named so. */
export const STREAM = '~stream';
export const BATCH = '~batch';
/** What the collector says of gateways and fields (`collector/fleet`). */
export const FLEET = '~fleet';
type Origin = typeof STREAM | typeof BATCH | typeof FLEET;

/** A series of results, short enough for a key: its tags decide. */
export function groupHash(tags: Record<string, string>): string {
  return createHash('sha256').update(seriesText('', tags)).digest('hex').slice(0, 16);
}

const RESULTS_PER_RECORD = 500;

/** What a step says of an identity in the end. */
interface Word {
  /** Undefined: there is no such result any more. */
  put: Reading | undefined;
  /** Where it was. */
  removed: Reading[];
}

/** Results of one step, gathered into records by what they are of; of each identity what was said last. */
export class Results {
  private readonly byEpoch = new Map<string, Map<string, Word>>();
  private readonly origin: Origin;

  constructor(origin: Origin) {
    this.origin = origin;
  }

  /** Told anew it goes to the end: among results at one address what is written last counts. */
  private tell(epoch: string, { sequence, index }: Reading, more: Partial<Word>): void {
    let words = this.byEpoch.get(epoch);
    if (words === undefined) this.byEpoch.set(epoch, (words = new Map()));
    const name = `${sequence}/${index}`;
    const removed = [...(words.get(name)?.removed ?? []), ...(more.removed ?? [])];
    words.delete(name);
    words.set(name, { put: more.put, removed });
  }

  /** `epoch`, sequence and index are the identity: the same again replaces what was there. */
  add(epoch: string, reading: Reading): void {
    this.tell(epoch, reading, { put: reading });
  }

  /** `reading`: as it was, for stores that know places alone. */
  remove(epoch: string, reading: Reading): void {
    this.tell(epoch, reading, { removed: [reading] });
  }

  get isEmpty(): boolean {
    return this.byEpoch.size === 0;
  }

  /**
   * What is taken back comes first, under `revision`, and what is there then under the next: no two rows of an identity
   * have one revision, so the highest says what is so. Both are higher than that of any record of these results before.
   */
  records(revision: number, arrivedMs: number): Produced[] {
    const produced: Produced[] = [];
    const say = (epoch: string, word: 'readings' | 'removed', all: readonly Reading[]): void => {
      for (let from = 0; from < all.length; from += RESULTS_PER_RECORD) {
        const some = all.slice(from, from + RESULTS_PER_RECORD);
        const own = {
          readings: [],
          [word]: some,
          revision: revision + (word === 'readings' ? 1 : 0),
        };
        const value = encodeReadings({ gateway: this.origin, epoch, arrivedMs, ...own });
        produced.push({ topic: TOPIC_RESULTS, key: epoch, headers: {}, value });
      }
    };
    for (const [epoch, words] of this.byEpoch) {
      const all = [...words.values()];
      say(
        epoch,
        'removed',
        all.flatMap(({ removed }) => removed),
      );
      say(
        epoch,
        'readings',
        all.flatMap(({ put }) => put ?? []),
      );
    }
    return produced;
  }
}

/** Revisions of a series of results: the clock's milliseconds where it goes on, and higher than before where it does not. */
export class Revisions {
  private last: number;

  /** `last`: that of the newest record before. */
  constructor(last: number) {
    this.last = last;
  }

  get newest(): number {
    return this.last;
  }

  /** Of one step's results: this one and the next are its own. */
  next(wallMs: number): number {
    const revision = Math.max(this.last + 1, Math.floor(wallMs));
    this.last = revision + 1;
    return revision;
  }
}

/**
 * A store in a process of its own, as a model that keeps the contract and nothing beyond it: every call may be slow, may
 * fail before it began, or after it has done all of it; one without progress may have done a part, and is asked again.
 * What it has taken outlives the collector; what a dead collector was waiting for never comes.
 */
import type {
  Change,
  Identity,
  PointsPart,
  StoreQuery,
  TimeSeriesStore,
} from '../../collector/store/store.ts';
import { BATCH, STREAM } from '../../collector/stream/results.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import type { Reading } from '../../shared/model/reading.ts';
import { contentOf, valueOf } from './centre.ts';
import type { Owner } from './time.ts';

export interface StoreFaults {
  /** Asked at each call. */
  failedCall: number;
  /** Of the failed ones, how many have done their work all the same. */
  failedButDone: number;
}

/** A control: it says yes to what it has not taken, and takes nothing of a call that failed again. */
export type StoreBreak = 'no-dedupe' | 'lying-store';

export class SimStore {
  /** Time in ms and ns, and value → identities that wrote it. */
  readonly points = new Map<string, Set<string>>();
  /** Of streams and batches: identity → time and fields. */
  readonly results = new Map<string, string>();
  faults: StoreFaults = { failedCall: 0, failedButDone: 0 };
  failures = 0;
  private readonly kept = new Map<string, string>();
  private readonly chance: () => number;
  private readonly keepsProgress: boolean;
  private readonly broken: StoreBreak | undefined;
  private copies = 0;

  constructor(chance: () => number, keepsProgress: boolean, broken?: StoreBreak) {
    this.chance = chance;
    this.keepsProgress = keepsProgress;
    this.broken = broken;
  }

  private each(
    { gateway, epoch, sequence, index }: Identity,
    { fields, timeMs, ns }: Reading,
    work: (point: string, identity: string) => void,
  ): void {
    const copy = this.broken === 'no-dedupe' ? `/${this.copies++}` : '';
    work(`${timeMs}.${ns} ${valueOf(fields)}`, `${gateway}/${epoch}/${sequence}/${index}${copy}`);
  }

  private take(changes: readonly Change[], marks: ReadonlyMap<string, string>): void {
    for (const { identity, put, was = [] } of changes) {
      if (identity.gateway === STREAM || identity.gateway === BATCH) {
        this.takeResult(identity, put);
        continue;
      }
      for (const old of was) this.forget(identity, old);
      if (put === undefined) continue;
      this.each(identity, put, (point, name) => {
        const set = this.points.get(point) ?? new Set();
        this.points.set(point, set.add(name));
      });
    }
    for (const [name, text] of marks) this.kept.set(name, text);
  }

  /** Where a replay names a place, it does not say what was there. */
  private forget(identity: Identity, old: Reading): void {
    this.each(identity, old, (point, name) => {
      if (Object.keys(old.fields).length > 0) {
        this.points.delete(point);
        return;
      }
      const place = point.slice(0, point.indexOf(' ') + 1);
      for (const [each, names] of this.points)
        if (each.startsWith(place) && names.has(name)) this.points.delete(each);
    });
  }

  private takeResult(
    { gateway, epoch, sequence, index }: Identity,
    put: Reading | undefined,
  ): void {
    const name = `${gateway}/${epoch}/${sequence}/${index}`;
    if (put === undefined) this.results.delete(name);
    else this.results.set(name, contentOf(put.timeMs, put.ns, put.fields));
  }

  /** One call: `work` whole, or `part` of it, or nothing, and an answer, an error, or a caller that is gone. */
  private call<T>(owner: Owner, work: () => T, part?: () => void): Promise<T> {
    return new Promise<T>((resolve, reject) =>
      setTimeout(() => {
        const fails = this.chance() < this.faults.failedCall;
        const isDone = !fails || this.chance() < this.faults.failedButDone;
        // What was sent arrives, whether or not somebody still waits for the answer.
        const answer = isDone ? work() : undefined;
        if (!isDone) part?.();
        if (fails) this.failures++;
        if (!owner.alive) return;
        if (!fails)
          resolve(answer as T); // Its work is done.
        else if (this.chance() < 0.5)
          reject(new HeadwaterError('STORE_UNAVAILABLE', 'the store does not answer'));
        else reject(new Error('socket hang up'));
      }, this.chance() * 3),
    );
  }

  /** The store as one collector sees it. */
  seenBy(owner: Owner): TimeSeriesStore {
    return {
      kind: 'sim',
      supports: { progress: this.keepsProgress, remove: 'tombstone', aggregates: true },
      apply: (changes, marks) => this.apply(owner, changes, marks),
      marks: (prefix) =>
        this.call(owner, () => new Map([...this.kept].filter(([name]) => name.startsWith(prefix)))),
      identity: () => this.call(owner, () => 'sim'),
      open: () => Promise.resolve(),
      close: () => Promise.resolve(),
      series: () => Promise.resolve([]),
      latest: () => Promise.resolve([]),
      query: (query) => this.pointsAt(query),
      warnings: () => [],
    };
  }

  /** Whether it has anything of a millisecond: a stage looks for a point that it wrote last. */
  private async *pointsAt({ fromMs = 0 }: StoreQuery): AsyncGenerator<PointsPart> {
    await Promise.resolve();
    const all = [...this.points.keys(), ...this.results.values()];
    if (!all.some((text) => text.startsWith(`${fromMs}.`))) return;
    yield { measurement: '', field: '', tags: {}, points: [[fromMs, 0]], cursor: '' };
  }

  private async apply(
    owner: Owner,
    changes: readonly Change[],
    marks: ReadonlyMap<string, string>,
  ): Promise<[]> {
    const some = (): void => {
      if (!this.keepsProgress)
        this.take(changes.slice(0, Math.floor(this.chance() * changes.length)), new Map());
    };
    const lies = this.broken === 'lying-store';
    await this.call(owner, () => this.take(changes, marks), some).catch((error: unknown) => {
      if (!lies) throw error;
    });
    return [];
  }
}

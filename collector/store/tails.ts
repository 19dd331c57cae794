/**
 * The newest points of series that were asked about, in memory: a dashboard asks the same again every few seconds, for what is new.
 * The first question reads them from the file; what is committed afterwards is added, and a series from which something was
 * taken is forgotten until it is asked about again.
 *
 * A tail has every point of its series from a time on, in the order of the file. What was read while a transaction ran is answered
 * and not kept: nobody can tell on which side of it the reading was.
 */

/** Points of all tails: 16 MiB. */
const POINTS_MAX = 1_000_000;
/** Points that one question reads at most, and that one tail has. */
export const TAIL_POINTS_MAX = 25_000;
/** Series of one question. */
export const TAIL_SERIES_MAX = 50;

/** Of one series, in order of time; values as the file has them: truths are 0 and 1. */
export interface TailPoints {
  times: BigInt64Array;
  values: Float64Array;
}

interface Tail extends TailPoints {
  fromNs: bigint;
  count: number;
}

const ROOM = 64;

/** The first place whose time is not before this one. */
function placeOf({ times, count }: Tail, time: bigint): number {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((times[middle] as bigint) < time)
      low = middle + 1; // Within it.
    else high = middle;
  }
  return low;
}

/** What a question read, told from what was committed meanwhile. */
export interface Reading {
  commits: number;
}

export class Tails {
  /** The one that was asked about last is the last. */
  private readonly byId = new Map<number, Tail>();
  private points = 0;
  private commits = 0;
  private isApplying = false;
  /** Of the transaction that runs. */
  private added: [id: number, time: bigint, value: number][] = [];

  /** Of each series [from, to]; undefined where one is not here so far back. */
  get(ids: readonly number[], fromNs: bigint, toNs: bigint): TailPoints[] | undefined {
    const found: TailPoints[] = [];
    for (const id of ids) {
      const tail = this.byId.get(id);
      if (tail === undefined || tail.fromNs > fromNs) return undefined;
      const [begin, end] = [placeOf(tail, fromNs), placeOf(tail, toNs + 1n)];
      found.push({ times: tail.times.slice(begin, end), values: tail.values.slice(begin, end) });
    }
    for (const id of ids) {
      const tail = this.byId.get(id) as Tail; // Found above.
      this.byId.delete(id);
      this.byId.set(id, tail);
    }
    return found;
  }

  /** Before the file is read. */
  reads(): Reading {
    return { commits: this.isApplying ? -1 : this.commits };
  }

  /** What was read: every point from `fromNs` on. */
  keep({ commits }: Reading, id: number, fromNs: bigint, { times, values }: TailPoints): void {
    if (this.isApplying || commits !== this.commits) return;
    this.drop(id);
    const count = times.length;
    this.byId.set(id, { times, values, fromNs, count });
    this.points += count;
    this.forget();
  }

  /** What was asked about the longest ago goes, where all have too many points. */
  private forget(): void {
    for (const [oldest] of this.byId) {
      if (this.points <= POINTS_MAX) return;
      this.drop(oldest);
    }
  }

  drop(id: number): void {
    this.points -= this.byId.get(id)?.count ?? 0;
    this.byId.delete(id);
  }

  /** The file is another one, or is not known any more. */
  clear(): void {
    this.byId.clear();
    this.points = 0;
    this.added = [];
    this.isApplying = false;
    this.commits++;
  }

  // ---- a transaction ----

  begun(): void {
    this.isApplying = true;
    this.added = [];
  }

  add(id: number, time: bigint, value: number): void {
    if (this.byId.has(id)) this.added.push([id, time, value]);
  }

  committed(): void {
    for (const [id, time, value] of this.added) this.insert(id, time, value);
    this.added = [];
    this.isApplying = false;
    this.commits++;
    this.forget();
  }

  private insert(id: number, time: bigint, value: number): void {
    const tail = this.byId.get(id);
    if (tail === undefined || time < tail.fromNs) return;
    const { count } = tail;
    const last = count === 0 ? undefined : tail.times[count - 1];
    const at = last === undefined || last < time ? count : placeOf(tail, time);
    // Which of two of one nanosecond is the first, the file says.
    if (at < count && tail.times[at] === time) {
      this.drop(id);
      return;
    }
    if (count === tail.times.length) grow(tail);
    tail.times.copyWithin(at + 1, at, count);
    tail.values.copyWithin(at + 1, at, count);
    tail.times[at] = time;
    tail.values[at] = value;
    tail.count++;
    this.points++;
    if (tail.count > TAIL_POINTS_MAX) this.halve(tail);
  }

  private halve(tail: Tail): void {
    // None of the last time that goes stays.
    tail.fromNs = (tail.times[tail.count >> 1] as bigint) + 1n; // It has more.
    const from = placeOf(tail, tail.fromNs);
    this.points -= from;
    tail.times = tail.times.slice(from, tail.count);
    tail.values = tail.values.slice(from, tail.count);
    tail.count -= from;
  }
}

function grow(tail: Tail): void {
  const length = tail.count + (tail.count >> 2) + ROOM;
  const [times, values] = [new BigInt64Array(length), new Float64Array(length)];
  times.set(tail.times.subarray(0, tail.count));
  values.set(tail.values.subarray(0, tail.count));
  tail.times = times;
  tail.values = values;
}

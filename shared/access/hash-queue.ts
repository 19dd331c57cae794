/**
 * Whose password is hashed next. One hash at a time takes 32 MB and a core's tenth of a second, so whoever sends wrong
 * ones waits behind himself and not before others: lanes by what is known of the address, in each lane the addresses in
 * turn, and for an address its user names in turn. What nobody waits for any more is not done.
 *
 * Lanes: `known` addresses, from which somebody came in lately and next to nothing wrong; `usual`; and `late` ones, which have sent too many wrong
 * ones: those get a hash twice a second at most, each name one in five seconds, when nobody else wants one.
 */

export const LANES = ['known', 'usual', 'late'] as const;
export type Lane = (typeof LANES)[number];

export interface HashJob {
  lane: Lane;
  /** Group of the address. */
  address: string;
  name: string;
  /** Whether somebody still waits for it. */
  isWanted: () => boolean;
}

/** Waiting for one address, in all, and late ones in all; more are refused without a look. */
const PER_ADDRESS_MAX = 128;
const WAITING_MAX = 1024;
const LATE_MAX = 8;
const LATE_EVERY_US = 500_000;
const LATE_NAME_EVERY_US = 5_000_000;
const NAMES_MAX = 10_000;

interface Waiting extends HashJob {
  resume: (isMyTurn: boolean) => void;
}

/** Address → name → who waits: both are served in the order of the maps, and go to the end of them. */
class Turns {
  size = 0;
  private readonly addresses = new Map<string, Map<string, Waiting[]>>();
  private readonly sizes = new Map<string, number>();

  of(address: string): number {
    return this.sizes.get(address) ?? 0;
  }

  push(job: Waiting): void {
    const names = this.addresses.get(job.address) ?? new Map<string, Waiting[]>();
    this.addresses.set(job.address, names);
    const own = names.get(job.name);
    if (own === undefined) names.set(job.name, [job]);
    else own.push(job);
    this.size++;
    this.sizes.set(job.address, this.of(job.address) + 1);
  }

  next(): Waiting | undefined {
    for (const [address, names] of this.addresses) {
      this.addresses.delete(address);
      const [first] = names;
      if (first === undefined) continue;
      const [name, jobs] = first;
      const job = jobs.shift();
      names.delete(name);
      if (jobs.length > 0) names.set(name, jobs);
      if (names.size > 0) this.addresses.set(address, names);
      if (job === undefined) continue;
      this.size--;
      const left = this.of(address) - 1;
      if (left > 0) this.sizes.set(address, left);
      else this.sizes.delete(address);
      return job;
    }
    return undefined;
  }
}

export class HashQueue {
  /** Not looked at, and dropped because nobody waited for them any more. */
  refused = 0;
  dropped = 0;
  private readonly monotonicUs: () => number;
  private readonly lanes: Record<Lane, Turns> = {
    known: new Turns(),
    usual: new Turns(),
    late: new Turns(),
  };
  private readonly lateNames = new Map<string, number>();
  private lateSinceUs = Number.NEGATIVE_INFINITY;
  private isRunning = false;
  private timer: NodeJS.Timeout | undefined;

  constructor(monotonicUs: () => number) {
    this.monotonicUs = monotonicUs;
  }

  /** Undefined: it was not done, since too many wait or nobody does. */
  async run<T>(job: HashJob, work: () => Promise<T>): Promise<T | undefined> {
    if (!this.hasRoom(job)) {
      this.refused++;
      return undefined;
    }
    const isMyTurn = await new Promise<boolean>((resume) => {
      this.lanes[job.lane].push({ ...job, resume });
      this.serve();
    });
    if (!isMyTurn) return undefined;
    try {
      return await work();
    } finally {
      this.isRunning = false;
      this.serve();
    }
  }

  private hasRoom({ lane, address, name }: HashJob): boolean {
    const { known, usual, late } = this.lanes;
    if (lane !== 'late')
      return (
        this.lanes[lane].of(address) < PER_ADDRESS_MAX &&
        known.size + (lane === 'usual' ? usual.size : 0) < WAITING_MAX
      );
    const key = `${address} ${name}`;
    const nowUs = this.monotonicUs();
    if (late.size >= LATE_MAX) return false;
    if (nowUs - (this.lateNames.get(key) ?? Number.NEGATIVE_INFINITY) < LATE_NAME_EVERY_US)
      return false;
    this.lateNames.delete(key);
    this.lateNames.set(key, nowUs);
    if (this.lateNames.size > NAMES_MAX) {
      const [oldest] = this.lateNames.keys();
      if (oldest !== undefined) this.lateNames.delete(oldest);
    }
    return true;
  }

  private serve(): void {
    while (!this.isRunning) {
      const job = this.lanes.known.next() ?? this.lanes.usual.next() ?? this.nextLate();
      if (job === undefined) return;
      if (job.isWanted()) {
        this.isRunning = true;
        job.resume(true);
      } else {
        this.dropped++;
        job.resume(false);
      }
    }
  }

  private nextLate(): Waiting | undefined {
    const { late } = this.lanes;
    if (late.size === 0) return undefined;
    const nowUs = this.monotonicUs();
    const waitUs = this.lateSinceUs + LATE_EVERY_US - nowUs;
    if (waitUs <= 0) {
      this.lateSinceUs = nowUs;
      return late.next();
    }
    this.timer ??= setTimeout(
      () => {
        this.timer = undefined;
        this.serve();
      },
      Math.ceil(waitUs / 1000),
    ).unref();
    return undefined;
  }
}

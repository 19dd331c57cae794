/**
 * The ledger's entry for one epoch of one gateway: what arrived, what was reported lost and why, what the gateway says
 * it still holds, and so what is missing. All of it follows from the frames in the raw log, in their order: a status
 * lies behind everything that had been acknowledged when it was made.
 */
import type { EpochHoldings, LossCause, LossReport } from '../../shared/frame/notes.ts';
import { RangeSet, atMost, type Range } from '../../shared/model/ranges.ts';

export interface Loss {
  from: number;
  /** Null: how many followed is not known. */
  to: number | null;
  cause: LossCause;
  reason: string;
  /** When the collector learned of it, epoch milliseconds. */
  since: number;
}

export interface Missing {
  from: number;
  to: number;
  since: number;
}

/** As it is kept in the ledger topic, under `decoded/{gateway}/{epoch}`. */
export interface EpochRecord {
  gateway: string;
  epoch: string;
  /** Sequences decoded: what comes again is left out. */
  ranges: readonly Range[];
  lost: Loss[];
  /** Damage on the gateway that no range is known for. */
  damage: { where: string; reason: string; since: number }[];
  /** As of the gateway's last status. */
  next: number;
  waiting: Range[];
  history: Range[];
  /** Neither arrived nor lost nor held. */
  missing: Missing[];
  /** Arrival of that status, epoch milliseconds; 0: none came. */
  statusMs: number;
  /** Arrival of the last status of a gateway that ran in this epoch; 0: none came. */
  spokeMs: number;
}

/** Reports kept for an epoch; the oldest give way, and the metrics still count them. */
export const REPORTS_MAX = 1000;

/** Ranges of one epoch, each of those that came and those that the gateway says it holds: its entry is written whole. */
export const SPANS_MAX = 10_000;

export class EpochLedger {
  readonly gateway: string;
  readonly epoch: string;
  readonly received: RangeSet;
  private lost: Loss[];
  private damage: EpochRecord['damage'];
  private next: number;
  private waiting: Range[];
  private history: Range[];
  private missing: Missing[];
  private statusMs: number;
  private spokeMs: number;

  constructor(gateway: string, epoch: string, record?: Partial<EpochRecord>) {
    this.gateway = gateway;
    this.epoch = epoch;
    this.received = new RangeSet(record?.ranges);
    this.lost = record?.lost ?? [];
    this.damage = record?.damage ?? [];
    this.next = record?.next ?? 1;
    this.waiting = record?.waiting ?? [];
    this.history = record?.history ?? [];
    this.missing = record?.missing ?? [];
    this.statusMs = record?.statusMs ?? 0;
    this.spokeMs = record?.spokeMs ?? 0;
  }

  /** A gateway that runs in this epoch has sent a status. */
  spoke(atMs: number): void {
    this.spokeMs = atMs;
  }

  receive(from: number, to: number): void {
    this.received.add(from, to);
    this.next = Math.max(this.next, to + 1);
  }

  lose(report: LossReport, sinceMs: number): void {
    const { cause, reason, where, ranges } = report;
    if (ranges === undefined) {
      this.damage = [...this.damage, { where, reason, since: sinceMs }].slice(-REPORTS_MAX);
      return;
    }
    for (const [from, to] of ranges) {
      // A part of a report that came again before its last one had come.
      if (this.knows(from, to, cause)) continue;
      const last = this.lost.at(-1);
      // Neighbours of one kind are one entry: a long thinning would else fill the ledger.
      if (last?.to !== null && last?.to === from - 1 && last.cause === cause) last.to = to;
      else this.lost.push({ from, to, cause, reason, since: sinceMs });
      if (to !== null) this.next = Math.max(this.next, to + 1);
    }
    this.lost = this.lost.slice(-REPORTS_MAX);
  }

  private knows(from: number, to: number | null, cause: LossCause): boolean {
    return this.lost.some(
      (each) =>
        each.cause === cause && each.from <= from && (each.to ?? Infinity) >= (to ?? Infinity),
    );
  }

  /** The last status named something of this epoch. */
  get holdsAnything(): boolean {
    return this.waiting.length + this.history.length > 0;
  }

  /**
   * Takes a status in; `holdings` is undefined when the gateway does not know the epoch any more. While the gateway is
   * `sending`, the report of a loss that it knows of may still be on its way, and the ledger waits for it.
   */
  heard(holdings: EpochHoldings | undefined, sending: boolean, atMs: number): void {
    this.statusMs = atMs;
    this.waiting = atMost(SPANS_MAX, holdings?.waiting ?? []);
    this.history = atMost(SPANS_MAX, holdings?.history ?? []);
    this.next = Math.max(this.next, holdings?.next ?? 1);
    const accounted = new RangeSet(this.received.ranges);
    for (const [from, to] of [...this.waiting, ...this.history]) accounted.add(from, to);
    if (sending) for (const [from, to] of holdings?.lost ?? []) accounted.add(from, to);
    for (const { from, to } of this.lost) accounted.add(from, to ?? this.next);
    const before = this.missing;
    this.missing = accounted.gaps(1, this.next - 1).map(([from, to]) => ({
      from,
      to,
      since: before.find((each) => each.from <= from && to <= each.to)?.since ?? atMs,
    }));
  }

  get record(): EpochRecord {
    return {
      gateway: this.gateway,
      epoch: this.epoch,
      ranges: this.received.ranges,
      lost: this.lost,
      damage: this.damage,
      next: this.next,
      waiting: this.waiting,
      history: this.history,
      missing: this.missing,
      statusMs: this.statusMs,
      spokeMs: this.spokeMs,
    };
  }
}

/** What the ledger says of one epoch, for people and the API. */
export interface EpochAccount {
  epoch: string;
  received: Range[];
  lost: Loss[];
  /** Held by the gateway and not arrived. */
  pending: Range[];
  missing: Missing[];
  damage: EpochRecord['damage'];
  statusMs: number;
}

export function accountOf(record: EpochRecord): EpochAccount {
  const { epoch, ranges, lost, waiting, history, damage, statusMs } = record;
  const received = new RangeSet(ranges);
  // A report may come when the gateway has nothing of this epoch any more, and says nothing of it again.
  const accounted = new RangeSet(ranges);
  for (const { from, to } of lost) accounted.add(from, to ?? Number.MAX_SAFE_INTEGER);
  const pending = new RangeSet();
  for (const [from, to] of [...waiting, ...history])
    for (const [low, high] of received.gaps(from, to)) pending.add(low, high);
  const stillLost = lost.flatMap((loss) => {
    // What was thinned away did arrive as an empty place; of the rest, what came after all is not lost.
    if (loss.cause === 'thinned' || loss.to === null) return [loss];
    return received.gaps(loss.from, loss.to).map(([from, to]) => ({ ...loss, from, to }));
  });
  for (const { from, to, cause } of lost)
    if (cause === 'thinned' && to !== null) received.remove(from, to);
  const missing = record.missing.flatMap((each) =>
    accounted.gaps(each.from, each.to).map(([from, to]) => ({ ...each, from, to })),
  );
  return {
    epoch,
    received: received.ranges.map((range) => [...range]),
    lost: stillLost,
    pending: pending.ranges.map((range) => [...range]),
    missing,
    damage,
    statusMs,
  };
}

/** Acknowledged to the gateway, not in the log or `lost` from all that had it, and still there: to be asked for again. */
export function wantedOf({ ranges, history }: EpochRecord, lost: readonly Range[] = []): Range[] {
  const received = new RangeSet(ranges);
  for (const [from, to] of lost) received.remove(from, to);
  return history.flatMap(([from, to]) => received.gaps(from, to));
}

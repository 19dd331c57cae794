/**
 * One comparison of the stages: days of lake and store by blocks of sequences and, where those differ, by readings; then
 * what the log still says, against the lake or, where there is none, the store. It gives suspects: what differs may only
 * be on its way.
 */
import { isTurn, nextTurn } from '../../shared/env/turns.ts';
import type { ReadingBatch } from '../../shared/model/reading.ts';
import { RangeSet } from '../../shared/model/ranges.ts';
import type { Asked, PointSum } from '../duckdb/points.ts';
import { SpanSet } from '../lake/manifest.ts';
import { forgottenBefore } from '../lake/forgotten.ts';
import { identityName } from '../store/changes.ts';
import type { Identity } from '../store/store.ts';
import { epochName } from './epoch-name.ts';
import type { Sides } from './findings.ts';
import { isResult, type LakeSide } from './lake-side.ts';
import type { Bounds, LogSide, Saying, Scanned, Window } from './log-side.ts';
import type { SummingSide } from './store-side.ts';

export interface Suspect {
  identity: Identity;
  /** Where it was seen. */
  days: Set<string>;
  saying: Saying | undefined;
  sides: Sides;
}

/** Two of the same say the same of it. */
export const signature = ({ sides: { log, lake, store } }: Suspect): string =>
  [log, lake, store]
    .map((sum) => (sum === null ? '-' : `${sum?.points ?? 0}:${sum?.digest ?? 0n}`))
    .join(' ');

/** Points and digest of a stage, of an epoch. */
export interface Total {
  points: number;
  digest: bigint;
}

export interface Stages {
  log: LogSide;
  lake: LakeSide | undefined;
  store: SummingSide | undefined;
}

export interface Pacing {
  rest(workMs: number): Promise<void>;
  isStopped(): boolean;
}

export interface Comparison {
  suspects: Map<string, Suspect>;
  /** Stage → epoch, by `epochName`. */
  totals: Record<'lake' | 'store', Map<string, Total>>;
  days: number;
  /** Days that are not compared: rows of the lake are being made again. */
  left: string[];
  scanned: Scanned;
  /** The lake has them from records of the log that no longer say them. */
  unsaid: ReadingBatch[];
  /** There are more suspects than are looked at in one pass. */
  isCut: boolean;
}

/** What of a partition is compared, and who wrote it to the lake. */
export interface AuditBounds extends Bounds {
  writer: string | undefined;
}

/**
 * What the store has and the lake is not to have yet: most of it is on its way. What was there in the pass before and
 * still is, is not.
 */
export class Ahead {
  private before = new Map<string, RangeSet>();
  private now = new Map<string, RangeSet>();

  private static nameOf({ gateway, epoch, index }: Identity): string {
    return `${gateway}/${epoch}/${index}`;
  }

  /** With each pass. */
  begin(): void {
    this.before = this.now;
    this.now = new Map();
  }

  /** Whether it stays. */
  stays(identity: Identity): boolean {
    const name = Ahead.nameOf(identity);
    const { sequence } = identity;
    let set = this.now.get(name);
    if (set === undefined) this.now.set(name, (set = new RangeSet()));
    set.add(sequence, sequence);
    return this.before.get(name)?.has(sequence) === true;
  }
}

/** Suspects of one pass: the rest is found in the next. */
const SUSPECTS_MAX = 50_000;

export const dayOf = (timeMs: number): string => new Date(timeMs).toISOString().slice(0, 10);

/** Blocks whose readings are looked at together, where many differ: a store that came from elsewhere may differ in all. */
const BLOCKS_AT_ONCE = 256;

async function byName(sums: readonly PointSum[]): Promise<Map<string, PointSum>> {
  const named = new Map<string, PointSum>();
  for (const [at, sum] of sums.entries()) {
    if (isTurn(at)) await nextTurn();
    named.set(identityName(sum), sum);
  }
  return named;
}

/** What is not the same in both. */
async function differing(a: readonly PointSum[], b: readonly PointSum[]): Promise<PointSum[]> {
  const others = await byName(b);
  const found: PointSum[] = [];
  for (const [at, sum] of a.entries()) {
    if (isTurn(at)) await nextTurn();
    const name = identityName(sum);
    const other = others.get(name);
    others.delete(name);
    const isSame = other?.points === sum.points && other.digest === sum.digest;
    if (!isSame || sum.isTwice || other.isTwice) found.push(sum);
  }
  for (const other of others.values()) found.push(other);
  return found;
}

export async function isSameDay(
  { lake, store }: { lake: LakeSide; store: SummingSide },
  day: string,
): Promise<boolean> {
  const inLake = await lake.day(day, { level: 'block' });
  return (await differing(inLake, await store.day(day, { level: 'block' }))).length === 0;
}

export class Compare {
  private readonly stages: Stages;
  private readonly pacing: Pacing;
  private readonly ahead: Ahead | undefined;
  private suspects = new Map<string, Suspect>();
  private unsaid: ReadingBatch[] = [];
  private isCut = false;
  /** Days before it the lake was told to forget. */
  private forgotten = '';

  /** `ahead`: of the passes before; without it whatever the store has alone is looked at until it has settled. */
  constructor(stages: Stages, pacing: Pacing, ahead?: Ahead) {
    this.stages = stages;
    this.pacing = pacing;
    this.ahead = ahead;
  }

  /** Of these days, or of all; `bounds`: what of the log the others have taken. */
  async whole(
    bounds: ReadonlyMap<number, AuditBounds>,
    only?: ReadonlySet<string>,
  ): Promise<Comparison> {
    this.suspects = new Map();
    this.unsaid = [];
    this.isCut = false;
    const { lake } = this.stages;
    this.forgotten = lake === undefined ? '' : await forgottenBefore(lake.lake);
    const totals = { lake: new Map<string, Total>(), store: new Map<string, Total>() };
    const { days, left } = await this.days(only);
    for (const day of days) {
      if (this.pacing.isStopped()) break;
      const began = performance.now();
      await this.day(day, totals);
      await this.pacing.rest(performance.now() - began);
    }
    const { log } = this.stages;
    const scanned = await log.scan(
      bounds,
      (window) => this.window(window, bounds),
      (workMs) => this.pacing.rest(workMs),
      () => this.pacing.isStopped(),
    );
    await this.fillSides();
    const { suspects, unsaid, isCut } = this;
    return { suspects, totals, days: days.length, left, scanned, unsaid, isCut };
  }

  private async days(
    only: ReadonlySet<string> | undefined,
  ): Promise<{ days: string[]; left: string[] }> {
    const { lake, store } = this.stages;
    if (lake === undefined || store === undefined) return { days: [], left: [] };
    const all = [...new Set(only ?? [...(await lake.days()), ...(await store.days())])]
      .filter((day) => day >= this.forgotten)
      .sort();
    return {
      days: all.filter((day) => !lake.isHealing(day)),
      left: all.filter((day) => lake.isHealing(day)),
    };
  }

  // ---- lake and store ----

  private async day(day: string, totals: Comparison['totals']): Promise<void> {
    const { lake, store } = this.stages;
    if (lake === undefined || store === undefined) return;
    // Of a reading on its way the store may have more: what the lake is to have is asked first.
    const covered = await coverage(lake);
    const inLake = await lake.day(day, { level: 'block' });
    const inStore = await store.day(day, { level: 'block' });
    add(totals.lake, inLake);
    add(totals.store, inStore);
    const blocks: Asked[] = await differing(inLake, inStore);
    for (let at = 0; at < blocks.length && !this.pacing.isStopped(); at += BLOCKS_AT_ONCE) {
      const only = { by: 'block' as const, asked: blocks.slice(at, at + BLOCKS_AT_ONCE) };
      const readings = await differing(
        await lake.day(day, { level: 'reading', only }),
        await store.day(day, { level: 'reading', only }),
      );
      for (const [place, sum] of readings.entries()) {
        if (isTurn(place)) await nextTurn();
        if (this.ahead === undefined || covered(sum) || this.ahead.stays(sum))
          this.suspect(sum, day);
      }
    }
  }

  private suspect({ gateway, epoch, sequence, index }: Identity, day: string): void {
    const identity = { gateway, epoch, sequence, index };
    const name = identityName(identity);
    const known = this.suspects.get(name);
    if (known !== undefined) known.days.add(day);
    else if (this.suspects.size >= SUSPECTS_MAX) this.isCut = true;
    else
      this.suspects.set(name, {
        identity,
        days: new Set([day]),
        saying: undefined,
        sides: { log: null, lake: null, store: null },
      });
  }

  // ---- the log ----

  private async window(
    { sayings, offsets }: Window,
    bounds: ReadonlyMap<number, AuditBounds>,
  ): Promise<void> {
    const { lake, store } = this.stages;
    for (const [partition, spanned] of offsets) {
      const writer = bounds.get(partition)?.writer;
      if (lake === undefined || writer === undefined || lake.isHealing()) continue;
      // Of a record before the one that the lake has it from, it is no less missing.
      const isUnsaid = (identity: Identity, offset: number): boolean =>
        (sayings.get(identityName(identity))?.offset ?? -1) < offset;
      this.unsaid.push(...(await lake.from(writer, partition, spanned, isUnsaid)));
    }
    const asked = [...sayings.values()].map(({ identity }) => identity);
    const days = new Set<string>();
    for (const { reading } of sayings.values())
      if (reading !== undefined) days.add(dayOf(reading.timeMs));
    const others =
      lake !== undefined && !lake.isHealing()
        ? await lake.sums(asked, days)
        : ((await store?.sums(asked)) ?? []);
    const there = await byName(others);
    for (const [name, saying] of sayings) {
      const { sum, identity, reading } = saying;
      if (reading !== undefined && dayOf(reading.timeMs) < this.forgotten) continue;
      const other = there.get(name);
      const isSame = other?.points === sum?.points && other?.digest === sum?.digest;
      if (!isSame) this.suspect(identity, reading === undefined ? '' : dayOf(reading.timeMs));
      // Of a suspect the last word counts, in whichever window it stands.
      const suspect = this.suspects.get(name);
      if (suspect !== undefined) suspect.saying = saying;
    }
  }

  /** What every stage has of the suspects, now. */
  private async fillSides(): Promise<void> {
    const { lake, store } = this.stages;
    const asked = [...this.suspects.values()].map(({ identity }) => identity);
    const days = new Set([...this.suspects.values()].flatMap((suspect) => [...suspect.days]));
    days.delete('');
    const inLake = await byName((await lake?.sums(asked, days)) ?? []);
    const inStore = await byName((await store?.sums(asked)) ?? []);
    for (const [name, suspect] of this.suspects)
      suspect.sides = {
        log: suspect.saying === undefined ? null : suspect.saying.sum,
        lake: lake === undefined ? null : inLake.get(name),
        store: store === undefined ? null : inStore.get(name),
      };
  }
}

/** Whether the lake is to have a reading: results it has without a span. */
async function coverage({ lake }: LakeSide): Promise<(sum: PointSum) => boolean> {
  const roots = [...(await lake.catalog('readings').loadRoots()).values()];
  const sets = new SpanSet();
  for (const { spans } of roots)
    for (const [gateway, epochs] of Object.entries(spans))
      for (const [epoch, { ranges }] of Object.entries(epochs))
        sets.add(gateway, { [epoch]: ranges });
  return ({ gateway, epoch, sequence }) =>
    isResult(gateway) || sets.covers(gateway, { [epoch]: [[sequence, sequence]] });
}

function add(totals: Map<string, Total>, sums: readonly PointSum[]): void {
  for (const { gateway, epoch, points, digest } of sums) {
    const name = epochName(gateway, epoch);
    const total = totals.get(name) ?? { points: 0, digest: 0n };
    total.points += points;
    total.digest = BigInt.asUintN(64, total.digest + digest);
    totals.set(name, total);
  }
}

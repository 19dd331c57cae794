/** What an audit found: a reading that stages have differently, who has it wrong by what the others say, and its mend. */
import { RangeSet, type Range } from '../../shared/model/ranges.ts';
import type { PointSum } from '../duckdb/points.ts';
import type { Identity } from '../store/store.ts';

export type AuditedStage = 'log' | 'lake' | 'store' | 'raw';
export type Kind = 'missing' | 'extra' | 'differs' | 'doubled';

/** What each stage has of an identity; undefined: nothing. */
export interface Sides {
  /** Null: the log says nothing of it (any more). */
  log: PointSum | undefined | null;
  /** Null: there is no such stage, or it cannot tell by identity. */
  lake: PointSum | undefined | null;
  store: PointSum | undefined | null;
}

export interface Verdict {
  stage: AuditedStage;
  kind: Kind;
  /** Whom it is mended from; 'raw': decoded again; 'store': nothing else has it any more. */
  from: 'lake' | 'log' | 'raw' | 'store';
}

export interface Finding extends Omit<Verdict, 'from'> {
  gateway: string;
  epoch: string;
  ranges: Range[];
  readings: number;
  /** 'yes'; 'no': nothing has it any more; 'harmless': identities keep it once, and nobody has to do anything. */
  mended: 'yes' | 'no' | 'waits' | 'harmless';
  /** Nothing but the store had it any more: log and lake have it from there, and its raw message is lost. */
  source?: 'store';
}

const isSame = (a: PointSum | undefined, b: PointSum | undefined): boolean =>
  (a?.points ?? 0) === (b?.points ?? 0) && (a?.digest ?? 0n) === (b?.digest ?? 0n);

/** How `wrong` is, against what is right. */
function kindOf(wrong: PointSum | undefined, right: PointSum | undefined): Kind {
  if (wrong === undefined) return 'missing';
  if (wrong.isTwice) return 'doubled';
  return right === undefined ? 'extra' : 'differs';
}

/**
 * Who is wrong; undefined: all agree. Two that agree are believed against one; where log is silent the lake, whose files
 * have checksums, against the store; where that is not enough, raw decides.
 */
export function judge({ log, lake, store }: Sides): Verdict | undefined {
  const isLakeTwice = lake?.isTwice === true;
  if (log !== null && lake !== null && store !== null) {
    if (isSame(log, lake) && isSame(log, store)) return undefined;
    if (isSame(log, lake) && !isLakeTwice)
      return { stage: 'store', kind: kindOf(store, lake), from: 'lake' };
    if (isSame(log, store)) return { stage: 'lake', kind: kindOf(lake, log), from: 'log' };
    if (isSame(lake, store)) return { stage: 'log', kind: kindOf(log, lake), from: 'raw' };
    return { stage: 'lake', kind: kindOf(lake, log), from: 'raw' };
  }
  if (log !== null && store !== null) {
    if (isSame(log, store)) return undefined;
    return { stage: 'store', kind: kindOf(store, log), from: 'log' };
  }
  if (log !== null && lake !== null) {
    if (isSame(log, lake)) return undefined;
    return { stage: 'lake', kind: kindOf(lake, log), from: isLakeTwice ? 'log' : 'raw' };
  }
  if (lake === null || store === null || (isSame(lake, store) && !isLakeTwice)) return undefined;
  if (isLakeTwice) return { stage: 'lake', kind: 'doubled', from: 'raw' };
  // Whether it was lost here or never was, raw says.
  if (lake === undefined) return { stage: 'lake', kind: 'missing', from: 'raw' };
  return { stage: 'store', kind: kindOf(store, lake), from: 'lake' };
}

export interface Found {
  identity: Identity;
  verdict: Verdict;
  mended: Finding['mended'];
}

/** Neighbours of one kind together. */
export function gathered(all: Iterable<Found>): Finding[] {
  const groups = new Map<string, { finding: Finding; set: RangeSet }>();
  for (const { identity, verdict, mended } of all) {
    const { gateway, epoch, sequence } = identity;
    const { stage, kind, from } = verdict;
    const isStored = from === 'store';
    const name = JSON.stringify([gateway, epoch, stage, kind, mended, isStored]);
    let group = groups.get(name);
    if (group === undefined) {
      const finding: Finding = { stage, kind, gateway, epoch, ranges: [], readings: 0, mended };
      if (isStored) finding.source = 'store';
      groups.set(name, (group = { finding, set: new RangeSet() }));
    }
    group.finding.readings++;
    group.set.add(sequence, sequence);
  }
  return [...groups.values()].map(({ finding, set }) => ({
    ...finding,
    ranges: set.ranges.map(([from, to]): Range => [from, to]),
  }));
}

/** What an audit says, for the API, the command and whoever it is shown to. */
import { RangeSet, rangesText, type Range } from '../../shared/model/ranges.ts';
import type { Comparison, Total } from './compare.ts';
import { placeOf } from './epoch-name.ts';
import type { Finding } from './findings.ts';
import type { PlaceDifferences } from './places.ts';
import type { RawComparison } from './raw-side.ts';

export interface StageTotal {
  points: number;
  /** Sum of the points' hashes, hexadecimal. */
  digest: string;
}

export interface EpochReport {
  gateway: string;
  epoch: string;
  lake?: StageTotal;
  store?: StageTotal;
}

export interface Report {
  startedMs: number;
  endedMs: number;
  full: boolean;
  /** Kinds of log, lake and store; null: there is none, or it cannot be audited. */
  log: string;
  lake: string | null;
  store: string | null;
  /** What is compared. */
  compared: string;
  days: number;
  /** Days that were not compared: rows of the lake were being made again. */
  left: string[];
  /** Of the log, in what lake and store have taken of it. */
  logReadings: number;
  lakePoints: number;
  storePoints: number;
  epochs: EpochReport[];
  findings: Finding[];
  /** There are more than are looked at in one pass. */
  isCut: boolean;
  /** All was compared, and nothing differed, but for what nobody has to do anything about. */
  clean: boolean;
}

/** A pass that came to its end. */
export interface Brief {
  startedMs: number;
  endedMs: number;
  full: boolean;
  clean: boolean;
  /** Readings and messages that it found differing, but for what nobody has to do anything about. */
  found: number;
  /** Of these, what it put right. */
  mended: number;
}

/** How the audit stands. */
export interface Standing {
  last: Brief | null;
  /** Epoch milliseconds; null: a pass is under way. */
  next: number | null;
  /** Why the last attempt did not come to its end, if so. */
  why: string | null;
  /** Since the start. */
  found: number;
  mended: number;
}

export function briefOf({ startedMs, endedMs, full, clean, findings }: Report): Brief {
  const told = findings.filter(({ mended }) => mended !== 'harmless');
  const sum = (some: readonly Finding[]): number =>
    some.reduce((all, { readings }) => all + readings, 0);
  const mended = sum(told.filter((each) => each.mended === 'yes'));
  return { startedMs, endedMs, full, clean, found: sum(told), mended };
}

const IDENTITY =
  'gateway, epoch, sequence, index, measurement, tags, time to the nanosecond, field and value of every point';

const PLACE =
  'log and lake by identity and content; lake and store by measurement, tags, time to the nanosecond, field and value of every point of the days that the lake has (the store keeps no identities, and nothing is said of days that only it has)';

export function reportOf(given: {
  startedMs: number;
  endedMs: number;
  full: boolean;
  stages: { log: string; lake: string | undefined; store: string | undefined };
  isStoreAudited: boolean;
  places: PlaceDifferences | undefined;
  comparison: Comparison;
  findings: Finding[];
}): Report {
  const { stages, comparison, findings, isStoreAudited, places, ...times } = given;
  const { totals, days, left, scanned, isCut } = comparison;
  const sum = (of: ReadonlyMap<string, Total>): number =>
    [...of.values()].reduce((all, { points }) => all + points, 0);
  return {
    ...times,
    log: stages.log,
    lake: stages.lake ?? null,
    store: isStoreAudited ? (stages.store ?? null) : null,
    compared: places === undefined ? IDENTITY : PLACE,
    days,
    left,
    logReadings: scanned.readings,
    lakePoints: places?.lake.points ?? sum(totals.lake),
    storePoints: places?.store.points ?? sum(totals.store),
    epochs: epochsOf(totals),
    findings,
    isCut,
    clean: !isCut && left.length === 0 && findings.every(({ mended }) => mended === 'harmless'),
  };
}

function epochsOf({ lake, store }: Comparison['totals']): EpochReport[] {
  const names = [...new Set([...lake.keys(), ...store.keys()])].sort();
  const said = (total: Total | undefined): StageTotal | undefined =>
    total === undefined
      ? undefined
      : { points: total.points, digest: total.digest.toString(16).padStart(16, '0') };
  return names.map((name) => {
    const report: EpochReport = placeOf(name);
    const [inLake, inStore] = [said(lake.get(name)), said(store.get(name))];
    if (inLake !== undefined) report.lake = inLake;
    if (inStore !== undefined) report.store = inStore;
    return report;
  });
}

export function findingOf(
  name: string,
  set: RangeSet,
  rest: Pick<Finding, 'stage' | 'kind' | 'mended'>,
): Finding {
  const ranges = set.ranges.map(([from, to]): Range => [from, to]);
  return { ...rest, ...placeOf(name), ranges, readings: set.count };
}

export function rawFindings({ missing, damaged }: RawComparison): Finding[] {
  const found = [...damaged].map(([name, set]) =>
    findingOf(name, set, { stage: 'raw', kind: 'differs', mended: 'waits' }),
  );
  const sets = new Map<string, RangeSet>();
  for (const { name, from, to } of missing) {
    let set = sets.get(name);
    if (set === undefined) sets.set(name, (set = new RangeSet()));
    set.add(from, to);
  }
  // They are said again in the log, and the lake takes them from there.
  for (const [name, set] of sets)
    found.push(findingOf(name, set, { stage: 'raw', kind: 'missing', mended: 'waits' }));
  return found;
}

const KINDS: Record<Finding['kind'], string> = {
  missing: 'lacks',
  extra: 'has, and nobody else,',
  differs: 'has otherwise than the others',
  doubled: 'has more than once',
};
const MENDED: Record<Finding['mended'], string> = {
  yes: 'it is put right',
  no: 'nothing has it any more, or nobody can say who is right: it stays as it is',
  waits: 'it is made again from what still has it',
  harmless: 'nothing depends on it: every other stage has it, once',
};

const STORED =
  'nothing but the store had them any more, and log and lake have them from there; their messages as they came are lost';

/** One finding as a sentence. */
export function sentenceOf({
  stage,
  kind,
  gateway,
  epoch,
  ranges,
  readings,
  mended,
  source,
}: Finding): string {
  const what = stage === 'raw' ? 'messages' : 'readings';
  return `audit: the ${stage === 'raw' ? "lake's raw zone" : stage} ${KINDS[kind]} ${readings} ${what} of gateway ${gateway}, epoch ${epoch}, sequences ${rangesText(ranges, 5)}: ${source === undefined ? MENDED[mended] : STORED}`;
}

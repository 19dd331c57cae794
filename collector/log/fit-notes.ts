/**
 * Notes of a gateway that are larger than `raw` takes, as several: the same note in parts. A part of a loss or a summary
 * takes no sequence (count 0), as a status does; the last one has the note's own, so that all of it has come once that is
 * there. Each part says by itself what it says, and saying it again changes nothing.
 */
import {
  KIND_LOSS,
  KIND_STATUS,
  KIND_SUMMARY,
  type FrameHeader,
} from '../../shared/frame/frame.ts';
import {
  noteFrame,
  readNote,
  type EpochHoldings,
  type Notes,
  type Status,
  type Summary,
  type SummarySeries,
} from '../../shared/frame/notes.ts';
import { atMost, type Range } from '../../shared/model/ranges.ts';
import type { Produced } from '../../contracts/log.ts';

/** Ranges of one kind that are left of an epoch whose holdings fit nowhere; then half of them, and so on. */
const RANGES_MAX = 100;

/** Runs of items whose record fits, in their order; undefined where one alone does not. */
function runs<T>(items: readonly T[], fits: (some: readonly T[]) => boolean): T[][] | undefined {
  if (fits(items)) return [[...items]];
  if (items.length < 2) return undefined;
  const middle = items.length >> 1;
  const [before, after] = [runs(items.slice(0, middle), fits), runs(items.slice(middle), fits)];
  return before === undefined || after === undefined ? undefined : [...before, ...after];
}

/** Undefined where nothing of it can be made so small. `fits`: whether a topic takes it. */
export function noteInParts(
  record: Produced,
  header: FrameHeader,
  fits: (record: Produced) => boolean,
): Produced[] | undefined {
  const identity = {
    gateway: header.gateway,
    epoch: Buffer.from(header.epoch, 'hex'),
    bootId: Buffer.from(header.bootId, 'hex'),
  };
  const made = <K extends keyof Notes>(kind: K, note: Notes[K], isLast = false): Produced => ({
    ...record,
    value: noteFrame(kind, note, identity, header.firstSequence, header, !isLast),
  });
  /** `noteOf`: of some of its items. */
  const parts = <T, K extends keyof Notes>(
    kind: K,
    items: readonly T[],
    noteOf: (some: readonly T[]) => Notes[K],
  ): Produced[] | undefined => {
    const found = runs(items, (some) => fits(made(kind, noteOf(some))));
    return found?.map((some, at) => made(kind, noteOf(some), at === found.length - 1));
  };
  const { value } = record;
  if (header.kind === KIND_LOSS) {
    const { ranges = [], ...loss } = readNote(KIND_LOSS, value, header);
    return parts(KIND_LOSS, ranges, (some) => ({ ...loss, ranges: [...some] }));
  }
  if (header.kind === KIND_SUMMARY) {
    const { replaces, series, ...rest } = readNote(KIND_SUMMARY, value, header);
    const items: SummaryItem[] = [...series.entries(), ...replaces.map((range) => ({ range }))];
    return parts(KIND_SUMMARY, items, (some) => summaryOf(rest, some));
  }
  if (header.kind !== KIND_STATUS) return undefined;
  const status = readNote(KIND_STATUS, value, header);
  const noteOf = (some: readonly EpochHoldings[]): Status => partOf(status, some);
  const small = status.epochs.map((each) =>
    coarser(each, (one) => fits(made(KIND_STATUS, noteOf([one])))),
  );
  const told = parts(KIND_STATUS, small, noteOf);
  // What it is, and what it is set to, has been read where it arrived: it is left out where it does not fit.
  const { about, config } = status;
  const rest = made(KIND_STATUS, {
    ...noteOf([]),
    ...(about === undefined ? {} : { about }),
    ...(config === undefined ? {} : { config }),
  });
  return told === undefined || !fits(rest) ? told : [...told, rest];
}

type SummaryItem = [index: number, series: SummarySeries] | { range: Range };

function summaryOf(rest: Pick<Summary, 'epoch' | 'clock'>, some: readonly SummaryItem[]): Summary {
  const entries = some.filter((each) => Array.isArray(each));
  return {
    ...rest,
    replaces: some.flatMap((each) => (Array.isArray(each) ? [] : [each.range])),
    series: entries.map(([, series]) => series),
    from: entries[0]?.[0] ?? 0,
  };
}

function partOf({ epochs }: Status, some: readonly EpochHoldings[]): Status {
  const named = new Set(some.map(({ epoch }) => epoch));
  return {
    epochs: [...some],
    also: epochs.flatMap(({ epoch }) => (named.has(epoch) ? [] : [epoch])),
    sending: epochs.some(({ waiting }) => waiting.length > 0),
  };
}

/** With fewer ranges, over what lies between, as a gateway itself tells of many. */
function coarser(holdings: EpochHoldings, fits: (one: EpochHoldings) => boolean): EpochHoldings {
  let one = holdings;
  for (let count = RANGES_MAX; count > 0 && !fits(one); count >>= 1)
    one = {
      ...holdings,
      waiting: atMost(count, holdings.waiting),
      history: atMost(count, holdings.history),
      lost: holdings.lost.slice(-count),
    };
  return one;
}

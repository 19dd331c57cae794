/** Readings of what is left of thinned messages: `<field>_min`, `_max`, `_mean` and `_count`, at the middle of their time. */
import { KIND_SUMMARY, type FrameHeader } from '../../shared/frame/frame.ts';
import { readNote, type Summary, type SummarySeries } from '../../shared/frame/notes.ts';
import { isStorableTime, wrongSeries } from '../../shared/model/limits.ts';
import { identityDigits, identitySeed, type Reading } from '../../shared/model/reading.ts';
import { goneOf, moved, without } from './left-behind.ts';
import type { Mappings } from './mapping/mappings.ts';
import type { TextSource } from './mapping/rule.ts';
import { takeTags } from './message-decoder.ts';

/** `offsetUs` puts the gateway's clock right. What no store takes is left out: the ledger has said already that the messages are thinned. */
function summaryReadings(
  { series, from = 0 }: Summary,
  { gateway, epoch, firstSequence }: FrameHeader,
  mappings: Mappings,
  offsetUs: number,
): Reading[] {
  const seed = identitySeed(gateway, epoch);
  return series
    .map((each, at): Reading => {
      const index = from + at;
      const ns = identityDigits(seed, firstSequence, index, 1_000_000);
      const timeMs = Math.floor(((each.fromUs + each.toUs) / 2 + offsetUs) / 1000);
      return { ...meaningOf(mappings, gateway, each), sequence: firstSequence, index, timeMs, ns };
    })
    .filter(
      ({ measurement, tags, timeMs }) =>
        isStorableTime(timeMs) && wrongSeries(measurement, tags) === undefined,
    );
}

/** A frame of a summary to be decoded, as `FrameJob` has it. */
interface SummaryJob {
  frame: Buffer;
  header: FrameHeader;
  offsetUs: number;
  usedUs?: number;
  replay?: {
    older: readonly Mappings[];
    elsewhereUs: readonly number[];
    isPartWanted: (reading: Reading, summary: Summary) => boolean;
  };
}

/** What it says now, and what is not so any more; `count`: of its series. */
export function summaryChanges(
  { frame, header, offsetUs, usedUs, replay }: SummaryJob,
  mappings: Mappings,
): { readings: Reading[]; removed: Reading[]; count: number } {
  const summary = readNote(KIND_SUMMARY, frame, header);
  const count = summary.series.length;
  const madeBy = (by: Mappings, us: number): Reading[] =>
    summaryReadings(summary, header, by, us).filter(
      (reading) => replay?.isPartWanted(reading, summary) !== false,
    );
  const readings = madeBy(mappings, offsetUs);
  if (usedUs !== undefined) {
    const before = madeBy(mappings, usedUs);
    return { readings: moved(readings, before), removed: without(before, readings), count };
  }
  if (replay === undefined) return { readings, removed: [], count };
  const before = replay.older.flatMap((older) => madeBy(older, offsetUs));
  for (const us of replay.elsewhereUs)
    for (const by of [...replay.older, mappings]) before.push(...madeBy(by, us));
  return { readings, removed: goneOf(readings, before), count };
}

const constantOf = (source: TextSource | undefined): string | undefined =>
  source !== undefined && 'constant' in source ? source.constant : undefined;

/** Names as the topic's first mapping gives them. */
function meaningOf(
  mappings: Mappings,
  gateway: string,
  { topic, measurement, tags: ownTags, constants, numbers }: SummarySeries,
): Pick<Reading, 'measurement' | 'tags' | 'fields'> {
  const meaning = mappings.of(gateway, topic);
  const [first] = meaning.candidates;
  const rule = first?.mapping.rules[0];
  const bare = first?.names.get('field') ?? constantOf(rule?.field) ?? 'value';
  const fields: [string, number][] = [];
  for (const [name, [count, min, max, mean]] of Object.entries(numbers)) {
    const field = name === 'value' && measurement === undefined ? bare : name;
    fields.push(
      [`${field}_min`, min],
      [`${field}_max`, max],
      [`${field}_mean`, mean],
      [`${field}_count`, count],
    );
  }
  const tags = { ...ownTags, ...(first?.tags ?? meaning.tags) };
  for (const [name, source] of rule?.tags ?? []) {
    const constant = constantOf(source);
    if (constant !== undefined) tags[name] = constant;
  }
  takeTags(new Map(Object.entries(constants)), rule?.tagFields ?? [], tags);
  return {
    measurement: measurement ?? first?.measurement ?? meaning.measurement,
    tags: mappings.shared(tags),
    fields: Object.fromEntries(fields),
  };
}

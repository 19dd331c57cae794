/** Which readings a rule means, and what its results are called by. */
import type { Reading } from '../../shared/model/reading.ts';
import type { Rule, Source } from './rules.ts';

/** Whether a reading's series is meant. */
export function isFrom(
  { measurement, tags }: Source,
  reading: Pick<Reading, 'measurement' | 'tags'>,
): boolean {
  if (!measurement(reading.measurement)) return false;
  return tags.every(([name, test]) => {
    const value = reading.tags[name];
    return value !== undefined && test(value);
  });
}

/** Its numbers that a source means. */
export function numbersOf({ field }: Source, fields: Reading['fields']): [string, number][] {
  const found: [string, number][] = [];
  for (const name in fields) {
    const value = fields[name];
    if (typeof value === 'number' && (field === undefined || field(name)))
      found.push([name, value]);
  }
  return found;
}

/** What results of a reading's group have as tags; the group's identity. */
export function groupTags(
  rule: Rule,
  { measurement, tags }: Pick<Reading, 'measurement' | 'tags'>,
): Record<string, string> {
  if (rule.kind === 'derive') return tags;
  // Alerts of all rules share a measurement: where they come from is a tag.
  const isAlert = rule.kind === 'alert' || rule.kind === 'silence';
  if (rule.group === undefined) {
    if (isAlert) return { ...tags, measurement };
    const sources =
      rule.kind === 'window' ? rule.inputs.map(({ source }) => source) : [rule.source];
    // Series of two measurements stay two.
    return sources.some(({ isWide }) => isWide) ? { ...tags, source: measurement } : tags;
  }
  const kept = rule.group.flatMap((name) => {
    const value = tags[name];
    return value === undefined ? [] : [[name, value]];
  });
  return Object.fromEntries(isAlert ? [...kept, ['measurement', measurement]] : kept) as Record<
    string,
    string
  >;
}

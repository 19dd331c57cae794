/** What a listener wants to hear, and what of a record that is: the same for both ways of listening. */
import { maySee } from '../../../shared/access/may.ts';
import type { Identity } from '../../../shared/access/tokens.ts';
import type { Parameters } from '../../../shared/http/route.ts';
import { filterMatches } from '../../../shared/mqtt/packets.ts';
import type { Reading, ReadingBatch } from '../../../contracts/reading.ts';
import { FILTER, checkAsked, checkFilter, parseFilter } from '../parameters.ts';

export const STREAM: Parameters = {
  ...FILTER,
  gateway: { about: 'Only readings of this gateway; results are of `~stream` and `~batch`.' },
  topic: {
    about:
      'Only readings with a tag `topic` that this MQTT topic filter matches, such as `hall/#`.',
  },
  newest: {
    about:
      'Of what came in together only so many readings: the newest of each series, then what else is newest. `count` says of how many, `unsaid` of how many series nothing is said. Left out: all.',
    integer: { min: 1, max: 10_000 },
  },
  after: {
    about:
      'Id of an event: what came after it comes first. `Last-Event-ID`, which browsers send by themselves, goes before it.',
  },
};

/** Readings in one event. */
const READINGS_MAX = 200;

export interface Wanted {
  /** Equal for those who want the same: what is written for one goes to all. */
  readonly key: string;
  may(gateway: string): boolean;
  takes(reading: Reading): Reading['fields'] | undefined;
  newest: number | undefined;
}

/** Of one record, as JSON, without its end: `readings` are those from the one at `skip`, `through` says where the next part begins. */
export interface Part {
  /** Readings of the record, from its beginning, that are told with it. */
  through: number;
  json: string;
}

/** Throws QUERY_INVALID and FORBIDDEN. */
export function wantedOf(query: URLSearchParams, identity: Identity): Wanted {
  checkAsked(identity, query);
  const { measurement, field, tags = {} } = parseFilter(query);
  const asked = query.get('gateway') ?? undefined;
  if (asked !== undefined) checkAsked(identity, new URLSearchParams({ 'tag.gateway': asked }));
  const topic = query.get('topic') ?? undefined;
  if (topic !== undefined) checkFilter(topic);
  const newest = query.get('newest');
  const pairs = Object.entries(tags);
  return {
    key: JSON.stringify([measurement, field, pairs, topic, newest]),
    newest: newest === null ? undefined : Number(newest),
    may: (gateway) => (asked === undefined || asked === gateway) && maySee(identity, gateway),
    takes: (reading) => {
      if (measurement !== undefined && reading.measurement !== measurement) return undefined;
      if (pairs.some(([name, value]) => reading.tags[name] !== value)) return undefined;
      const { topic: own } = reading.tags;
      if (topic !== undefined && (own === undefined || !filterMatches(topic, own)))
        return undefined;
      if (field === undefined) return reading.fields;
      const value = Object.hasOwn(reading.fields, field) ? reading.fields[field] : undefined;
      return value === undefined ? undefined : { [field]: value };
    },
  };
}

interface Told {
  /** Where the next reading begins. */
  through: number;
  reading: Pick<Reading, 'measurement' | 'tags' | 'fields'> & { time: number };
}

/** At most so many, in their order, and of how many series there is none among them. */
function newestOf(heard: readonly Told[], most: number): { list: Told[]; unsaid: number } {
  if (heard.length <= most) return { list: [...heard], unsaid: 0 };
  const series = new Set<string>();
  const last: Told[] = [];
  const others: Told[] = [];
  for (const each of heard.toReversed()) {
    const { measurement, tags, fields } = each.reading;
    const key = JSON.stringify([measurement, tags, Object.keys(fields)]);
    (series.has(key) ? others : last).push(each);
    series.add(key);
  }
  const list = [...last, ...others].slice(0, most).sort((a, b) => a.through - b.through);
  return { list, unsaid: Math.max(0, last.length - most) };
}

/** What one hears of a record, in parts. Readings that a part is without are counted as told with it. */
export function* partsOf(batch: ReadingBatch, wanted: Wanted, skip: number): Generator<Part> {
  const { gateway, readings } = batch;
  const heard: Told[] = [];
  for (let at = skip; at < readings.length; at++) {
    const reading = readings[at];
    const fields = reading === undefined ? undefined : wanted.takes(reading);
    if (reading === undefined || fields === undefined) continue;
    const { measurement, tags, timeMs } = reading;
    heard.push({ through: at + 1, reading: { measurement, tags, fields, time: timeMs } });
  }
  const json = (count: number, list: readonly Told[], unsaid = 0): string =>
    JSON.stringify({
      ...{ gateway, count },
      ...(unsaid === 0 ? {} : { unsaid }),
      readings: list.map(({ reading }) => reading),
    });
  if (wanted.newest !== undefined) {
    if (heard.length === 0) return;
    const { list, unsaid } = newestOf(heard, wanted.newest);
    yield { through: readings.length, json: json(heard.length, list, unsaid) };
    return;
  }
  for (let from = 0; from < heard.length; from += READINGS_MAX) {
    const list = heard.slice(from, from + READINGS_MAX);
    yield { through: list.at(-1)?.through ?? 0, json: json(list.length, list) };
  }
}

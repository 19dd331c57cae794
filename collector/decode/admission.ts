/**
 * What may come into the stores: how many series one device and one gateway bring, how many names of fields one topic,
 * one gateway and all together, and what no store can take (`shared/model/limits.ts`). A device that puts a number into
 * a tag or a key would otherwise make a new series or column with every message and take the stores down for everybody
 * (the pain that high cardinality is known for). Raw has what is refused, and a mapping can put it right.
 *
 * Series and names are counted by 32-bit hashes: among 100,000 about one is taken for another, which counts one too few.
 * Hashes of series, and of the names of topics that have many, are part of the codec state, so the counts survive
 * restarts. A series counts for the client that brought it first: one that calls itself otherwise with each connection
 * brings nothing new. What repeats costs one look-up for the tags and one for each field.
 */
import { Undecodable } from '../../shared/codecs/codec.ts';
import {
  FIELD_LIMITS,
  isStorableTime,
  wrongField,
  wrongSeries,
  wrongValue,
} from '../../shared/model/limits.ts';
import type { Reading } from '../../shared/model/reading.ts';
import type { CodecState } from './codecs/context.ts';
import { HashCounts, hashOf } from './hash-counts.ts';

/** Measurement and tags of one series. */
const SERIES_CHARS = 1024;

export interface SeriesLimits {
  perClient: number;
  perGateway: number;
  /** Names of fields. */
  fieldsPerTopic?: number;
  fieldsPerGateway?: number;
  fieldsInAll?: number;
}

/** What is known of the series of one tags object. */
interface Admitted {
  client: string;
  measurement: string;
  fields: Set<string>;
  /** Names of the last reading in their order: most readings have the same again. */
  last: string[];
}

/** Of one codec state. */
interface Counts {
  /** By the client that brought them. */
  series: HashCounts;
  /** Of all clients of the gateway. */
  all: Set<number>;
  topics: HashCounts;
  names: Set<number>;
}

export class Admission {
  private readonly limits: Required<SeriesLimits>;
  private readonly byState = new WeakMap<CodecState, Counts>();
  /** Names of all gateways of this process. */
  private readonly names = new Set<number>();
  private readonly admitted = new WeakMap<Record<string, string>, Admitted>();

  constructor(limits: SeriesLimits) {
    this.limits = {
      fieldsPerTopic: FIELD_LIMITS.perTopic,
      fieldsPerGateway: FIELD_LIMITS.perGateway,
      fieldsInAll: FIELD_LIMITS.inAll,
      ...limits,
    };
  }

  private countsOf(state: CodecState): Counts {
    let counts = this.byState.get(state);
    if (counts === undefined) {
      const series = new HashCounts(state, 'series', 0);
      counts = {
        series,
        all: series.all(),
        // Most topics have few names: those need not be kept.
        topics: new HashCounts(state, 'fields', 64),
        names: new Set(),
      };
      this.byState.set(state, counts);
    }
    return counts;
  }

  /**
   * Takes out of a reading what cannot be stored, and says why. Undefined: all of it can. Throws Undecodable when its
   * series would be one too many.
   */
  admit(state: CodecState, client: string, topic: string, reading: Reading): string[] | undefined {
    const { measurement, tags, fields, timeMs } = reading;
    let known = this.admitted.get(tags);
    if (known?.client !== client || known.measurement !== measurement) {
      const wrong = known?.measurement === measurement ? undefined : wrongSeries(measurement, tags);
      if (wrong !== undefined) return emptied(reading, wrong);
      this.admitSeries(state, client, measurement, tags);
      known = { client, measurement, fields: known?.fields ?? new Set(), last: known?.last ?? [] };
      this.admitted.set(tags, known);
    }
    if (!isStorableTime(timeMs))
      return emptied(reading, `its time, ${timeMs} ms since 1970, is beyond what stores can hold`);
    const { last } = known;
    let problems: string[] | undefined;
    let at = 0;
    for (const name in fields) {
      const value = fields[name];
      const isKnown = last[at] === name;
      if (isKnown && typeof value !== 'string') {
        at++;
        continue;
      }
      const wrong =
        (typeof value === 'string' ? wrongValue(name, value) : undefined) ??
        (isKnown ? undefined : this.admitField(known, state, topic, name));
      if (wrong === undefined) last[at++] = name;
      else {
        problems ??= [];
        problems.push(wrong);
        delete fields[name];
      }
    }
    return problems;
  }

  private admitField(
    known: Admitted,
    state: CodecState,
    topic: string,
    name: string,
  ): string | undefined {
    if (known.fields.has(name)) return undefined;
    const wrong = wrongField(name) ?? this.admitName(state, topic, name);
    if (wrong === undefined) known.fields.add(name);
    return wrong;
  }

  private admitSeries(
    state: CodecState,
    client: string,
    measurement: string,
    tags: Record<string, string>,
  ): void {
    const { perClient, perGateway } = this.limits;
    const { series, all } = this.countsOf(state);
    const text = `${measurement}\0${Object.entries(tags)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .join('\0')}`;
    const hash = hashOf(text);
    if (all.has(hash)) return;
    // One with a long text counts as several: what the limits bound is memory.
    const weight = Math.ceil(text.length / SERIES_CHARS);
    if (series.of(client).size + weight > perClient)
      throw new Undecodable(
        `client '${client}' has ${perClient} series already (decode.seriesPerClientMax); a new one would be too many`,
      );
    if (all.size + weight > perGateway)
      throw new Undecodable(
        `its gateway has ${perGateway} series already (decode.seriesPerGatewayMax); a new one would be too many`,
      );
    for (let at = 0; at < weight; at++) {
      const own = at === 0 ? hash : hashOf(`${hash} ${at}`);
      series.add(client, own);
      all.add(own);
    }
  }

  private admitName(state: CodecState, topic: string, name: string): string | undefined {
    const { fieldsPerTopic, fieldsPerGateway, fieldsInAll } = this.limits;
    const { topics, names } = this.countsOf(state);
    const hash = hashOf(name);
    const own = topics.of(topic);
    if (own.has(hash)) return undefined;
    const isNew = !names.has(hash);
    const beyond =
      own.size >= fieldsPerTopic
        ? `its topic has ${fieldsPerTopic} names of fields already (decode.fieldsPerTopicMax)`
        : isNew && names.size >= fieldsPerGateway
          ? `its gateway has ${fieldsPerGateway} names of fields already (decode.fieldsPerGatewayMax)`
          : isNew && !this.names.has(hash) && this.names.size >= fieldsInAll
            ? `there are ${fieldsInAll} names of fields already (decode.fieldsMax)`
            : undefined;
    if (beyond !== undefined)
      return `field '${name.slice(0, 40)}' would be one too many: ${beyond}; where a key holds what changes (an address, a number), a mapping makes it a tag: each: "{id}"`;
    topics.add(topic, hash);
    names.add(hash);
    this.names.add(hash);
    return undefined;
  }
}

/** Nothing of a reading can be stored. */
function emptied(reading: Reading, why: string): string[] {
  reading.fields = {};
  return [why];
}

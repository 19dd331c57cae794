/**
 * Rules that follow a series from reading to reading: thresholds, rates of change, a user's function, and silence.
 *
 * A series has two tracks. The live one goes forward in time only. A reading that is late, or older than what the live
 * track has seen, goes on the late one: there a backlog is judged in its own order, and what comes of it is stored,
 * marked late and delivered to nobody. A late track that is sent back in time begins anew.
 *
 * State, in the topic `state`: `track/RULE@HASH/GROUP`.
 */
import type { Reading } from '../../shared/model/reading.ts';
import { TOPIC_STATE, type Produced } from '../log/log.ts';
import { READINGS_MAX, type FunctionReading } from './function.ts';
import type { Results } from './results.ts';
import { numbersOf } from './match.ts';
import {
  ALERTS,
  type AlertRule,
  type Bound,
  type FunctionRule,
  type SilenceRule,
} from './rules.ts';
import { epochOf } from './windows.ts';

export const TRACK_PREFIX = 'track/';

export type TrackRule = AlertRule | FunctionRule | SilenceRule;

/** Of a series on one track. */
interface Track {
  lastMs: number;
  lastNs: number;
  lastValue?: number;
  /** Since when the bound has been crossed; with `firing` the alert has been said. */
  sinceMs?: number;
  firing?: boolean;
  /** Of a function. */
  state?: unknown;
}

interface TrackRecord {
  tags: Record<string, string>;
  live?: Track;
  late?: Track;
  /** Silence: when the last reading arrived, and from which gateway. */
  heardMs?: number;
  gateway?: string;
  silent?: boolean;
}

interface Series extends TrackRecord {
  hash: string;
  keptMs: number;
}

/** A reading as a rule sees it. */
export interface Observation {
  hash: string;
  tags: Record<string, string>;
  gateway: string;
  reading: Reading;
  arrivedMs: number;
  /** Of a rule on single numbers: which. */
  field: string;
  value: number;
}

export interface Silence {
  reason: string;
  text: string;
}

/** Whether a value is beyond, and whether it is back. */
const isBeyond = ({ above, below }: Bound, value: number): boolean =>
  (above !== undefined && value > above) || (below !== undefined && value < below);
const isBack = ({ above, clear }: Bound, value: number): boolean =>
  above === undefined ? value >= clear : value <= clear;

export class Tracks {
  readonly rule: TrackRule;
  private readonly partition: number;
  private readonly series = new Map<string, Series>();
  private readonly touched = new Set<Series>();
  /** Readings for a function, until they are run together. */
  private readonly queued = new Map<Series, { isLate: boolean; reading: Reading }[]>();
  private readonly onTrouble: (text: string) => void;

  constructor(rule: TrackRule, partition: number, onTrouble: (text: string) => void) {
    this.rule = rule;
    this.partition = partition;
    this.onTrouble = onTrouble;
  }

  static prefix({ name, hash }: Pick<TrackRule, 'name' | 'hash'>): string {
    return `${TRACK_PREFIX}${name}@${hash}/`;
  }

  load(key: string, value: Buffer): void {
    const hash = key.slice(Tracks.prefix(this.rule).length);
    const record = JSON.parse(value.toString('utf8')) as TrackRecord;
    this.series.set(hash, { ...record, hash, keptMs: record.heardMs ?? 0 });
  }

  private of(hash: string, tags: Record<string, string>): Series {
    let series = this.series.get(hash);
    if (series === undefined) this.series.set(hash, (series = { hash, tags, keptMs: 0 }));
    return series;
  }

  observe(observation: Observation, results: Results): void {
    const { rule } = this;
    const { reading, arrivedMs, gateway, hash, tags } = observation;
    const series = this.of(hash, tags);
    if (rule.kind === 'silence') {
      this.hear(rule, series, gateway, arrivedMs, results);
      return;
    }
    const isLate = reading.late === true || isOlder(reading, series.live);
    if (rule.kind === 'function') {
      const list = this.queued.get(series);
      if (list === undefined) this.queued.set(series, [{ isLate, reading }]);
      else list.push({ isLate, reading });
      // Whether the next one is older is asked of the newest queued one.
      if (!isLate) this.follow(series, 'live', reading);
      return;
    }
    const track = this.follow(series, isLate ? 'late' : 'live', reading);
    const { field, value } = observation;
    this.judge(rule, series, track, field, value, reading, isLate, results);
  }

  /** The track that goes on with this reading. */
  private follow(series: Series, which: 'live' | 'late', reading: Reading): Track {
    const before = series[which];
    const track =
      before === undefined || isOlder(reading, before) ? { lastMs: 0, lastNs: 0 } : before;
    if (this.rule.kind === 'function') {
      track.lastMs = reading.timeMs;
      track.lastNs = reading.ns;
    }
    series[which] = track;
    this.touched.add(series);
    return track;
  }

  private judge(
    rule: AlertRule,
    series: Series,
    track: Track,
    field: string,
    raw: number,
    reading: Reading,
    isLate: boolean,
    results: Results,
  ): void {
    const { timeMs, ns } = reading;
    const { lastValue, lastMs } = track;
    track.lastMs = timeMs;
    track.lastNs = ns;
    track.lastValue = raw;
    let value = raw;
    if (rule.ratePerMs !== undefined) {
      if (lastValue === undefined || timeMs <= lastMs) return;
      value = ((raw - lastValue) / (timeMs - lastMs)) * rule.ratePerMs;
    }
    const crossed = rule.bounds.find((bound) => isBeyond(bound, value));
    if (track.firing === true) {
      if (crossed !== undefined || !rule.bounds.every((bound) => isBack(bound, value))) return;
      delete track.firing;
      delete track.sinceMs;
      this.say(series, timeMs, false, isLate, results, { value }, `${field} is ${value} again`);
      return;
    }
    if (crossed === undefined) {
      delete track.sinceMs;
      return;
    }
    track.sinceMs ??= timeMs;
    if (timeMs - track.sinceMs < rule.forMs) return;
    track.firing = true;
    const limit = crossed.above ?? crossed.below ?? 0;
    const side = crossed.above === undefined ? 'below' : 'above';
    const what = rule.ratePerMs === undefined ? field : `the change of ${field}`;
    this.say(
      series,
      timeMs,
      true,
      isLate,
      results,
      { value },
      `${what} is ${value}, ${side} ${limit}`,
    );
  }

  /** An alert is a reading like others: identity, time and tags say which, `active_bool` whether it begins or ends. */
  private say(
    series: Series,
    timeMs: number,
    isActive: boolean,
    isLate: boolean,
    results: Results,
    numbers: Record<string, number>,
    text: string,
    reason = 'threshold',
  ): void {
    const { rule } = this;
    const tags = { ...series.tags, rule: rule.name };
    results.add(epochOf(rule, series.hash), {
      measurement: ALERTS,
      tags,
      fields: {
        active_bool: isActive,
        late_bool: isLate,
        reason_text: reason,
        message_text: text,
        ...numbers,
      },
      sequence: Math.max(0, Math.floor(timeMs)),
      index: (isActive ? 0 : 1) + (isLate ? 2 : 0),
      timeMs: Math.floor(timeMs),
      // Both in one millisecond stay two.
      ns: (isActive ? 0 : 1) + (isLate ? 2 : 0),
    });
  }

  // ---- silence ----

  private hear(
    rule: SilenceRule,
    series: Series,
    gateway: string,
    arrivedMs: number,
    results: Results,
  ): void {
    series.heardMs = Math.max(series.heardMs ?? 0, arrivedMs);
    series.gateway = gateway;
    if (series.silent === true) {
      delete series.silent;
      this.say(series, arrivedMs, false, false, results, {}, 'it is heard again', 'heard');
      this.touched.add(series);
    }
    // Kept roughly: a tenth of what matters.
    if (arrivedMs - series.keptMs < rule.afterMs / 10) return;
    series.keptMs = arrivedMs;
    this.touched.add(series);
  }

  /** Says who has been silent for too long; not before this process has listened for so long. */
  silence(
    results: Results,
    wallMs: number,
    listeningSinceMs: number,
    explain: (gateway: string, sinceMs: number) => Silence,
  ): void {
    const { rule } = this;
    if (rule.kind !== 'silence') return;
    for (const series of this.series.values()) {
      const { heardMs = 0, gateway = '' } = series;
      const dueMs = Math.max(heardMs, listeningSinceMs) + rule.afterMs;
      if (series.silent === true || wallMs < dueMs) continue;
      series.silent = true;
      this.touched.add(series);
      const { reason, text } = explain(gateway, heardMs);
      const numbers = { silent_seconds: Math.round((wallMs - heardMs) / 1000) };
      this.say(series, heardMs + rule.afterMs, true, false, results, numbers, text, reason);
    }
  }

  // ---- functions ----

  /** Runs what is queued. */
  run(results: Results): void {
    const { rule } = this;
    if (rule.kind !== 'function') return;
    for (const [series, list] of this.queued) {
      for (const isLate of [false, true]) {
        const some = list.filter((each) => each.isLate === isLate).map(({ reading }) => reading);
        for (let at = 0; at < some.length; at += READINGS_MAX)
          this.call(rule, series, some.slice(at, at + READINGS_MAX), isLate, results);
      }
      this.touched.add(series);
    }
    this.queued.clear();
  }

  private call(
    rule: FunctionRule,
    series: Series,
    readings: Reading[],
    isLate: boolean,
    results: Results,
  ): void {
    const first = readings[0] as Reading; // Sliced from what is there.
    const track = isLate ? this.follow(series, 'late', first) : series.live;
    if (track === undefined) return;
    const inputs = readings.map(
      (reading): FunctionReading => ({
        time: reading.timeMs,
        measurement: reading.measurement,
        tags: reading.tags,
        fields: Object.fromEntries(numbersOf(rule.source, reading.fields)),
      }),
    );
    try {
      const { state, fields } = rule.run.run(track.state, inputs);
      track.state = state;
      for (const [at, reading] of readings.entries()) {
        const made = fields[at];
        if (made === undefined) continue;
        results.add(epochOf(rule, series.hash), {
          measurement: rule.measurement,
          tags: series.tags,
          fields: isLate ? { ...made, late_bool: true } : made,
          sequence: Math.max(0, reading.timeMs),
          index: reading.ns,
          timeMs: reading.timeMs,
          ns: reading.ns,
        });
      }
    } catch (error) {
      // A user's code: what it could not do holds up nobody, and it begins anew.
      delete track.state;
      this.onTrouble(
        `rule ${rule.name}: ${rule.run.file}: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }

  changes(): Produced[] {
    const produced = [...this.touched].map(
      ({ hash, keptMs: _kept, ...record }): Produced => ({
        topic: TOPIC_STATE,
        partition: this.partition,
        key: `${Tracks.prefix(this.rule)}${hash}`,
        headers: {},
        value: Buffer.from(JSON.stringify(record)),
      }),
    );
    this.touched.clear();
    return produced;
  }
}

function isOlder({ timeMs, ns }: Reading, track: Track | undefined): boolean {
  if (track === undefined) return false;
  return timeMs < track.lastMs || (timeMs === track.lastMs && ns <= track.lastNs);
}

/**
 * Fills a store with what the log no longer has, from the lake: the newest day first, in portions of a bounded rate, and
 * never ahead of what comes in now.
 *
 * It begins once the lake has everything that the store had read from the log by then, and leaves out what the log says
 * anew meanwhile: so what the lake has is never newer than what the store is given after it. A day that is done is noted
 * in the place of its partition; after a restart the next one follows.
 */
import { monotonicMs, type Time } from '../../shared/env/env.ts';
import { Rest } from '../../shared/env/timers.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { LakeState } from '../lake/gather.ts';
import type { Lake } from '../lake/lake.ts';
import type { Log } from '../log/log.ts';
import { TOPIC_READINGS } from '../log/log.ts';
import { LakeSource, zoneOf } from './lake-source.ts';
import { placeName, type Gap, type Place } from './place.ts';
import type { Places } from './places.ts';
import type { Change } from './store.ts';

export interface FillOptions {
  log: Log;
  places: Places;
  notify: Notify;
  time: Time;
  /** Most readings a second. */
  rate: number;
  /** Whether the store has read everything that the log has now. */
  isCaughtUp(topic: string): boolean;
  /** Writes in turn with what comes in: what was corrected since is left out, and the place is kept with it. */
  write(
    topic: string,
    partition: number,
    changes: readonly Change[],
    place: (now: Place) => Place,
  ): Promise<void>;
}

const PORTION = 2000;
const LOOK_MS = 300;
const TROUBLE_MS = 2000;
const TELL_MS = 10_000;
/** Between two attempts to make everything again from raw. */
const REBUILD_MS = 600_000;

/** What an answer lacks. */
export interface Incomplete {
  of: string;
  /** Epoch milliseconds; null: as far back as there is anything. */
  from: number | null;
  /** Exclusive; null: to the newest. */
  to: number | null;
  reason: string;
  since: number;
  filledReadings: number;
}

/** The store was closed or given other partitions meanwhile. */
class Stopped extends Error {}

export class Fill {
  private beside: Lake | undefined;
  /** Makes again what neither the log nor the lake has, from raw; undefined where this process cannot. */
  rebuild: (() => Promise<void>) | undefined;
  filledReadings = 0;
  /** Whether the store has a day, YYYY-MM-DD, as the lake has it; undefined where nobody can say. */
  isSame: ((day: string) => Promise<boolean>) | undefined;

  private readonly options: FillOptions;
  private work: Promise<void> | undefined;
  private readonly troubles = new Map<string, string>();
  private readonly rest: Rest;
  private stopped = false;
  private toldAt = Number.NEGATIVE_INFINITY;
  private rebuildAt = Number.NEGATIVE_INFINITY;

  constructor(options: FillOptions) {
    this.options = options;
    this.rest = new Rest(options.time.timers);
  }

  get lake(): Lake | undefined {
    return this.beside;
  }

  set lake(lake: Lake | undefined) {
    this.beside = lake;
    this.look();
  }

  /** Looks whether something is lacking, and goes on until nothing is. */
  look(): void {
    if (this.isNeeded()) this.work ??= this.run();
  }

  private async writers(lake: Lake, topic: string): Promise<Set<string>> {
    const { log } = this.options;
    const none: Gap = { from: 0, to: 0, since: 0, filled: 0 };
    const names = new Set<string>();
    for (let partition = 0; partition < log.partitions; partition++) {
      const state = await new LakeSource(lake, log, topic, partition, none).state();
      if (state !== undefined) names.add(state.log);
    }
    return names;
  }

  /** A store that is new and a log that is new may stand beside a lake that is not. */
  private async lookBeside(lake: Lake): Promise<void> {
    const { places } = this.options;
    for (const { topic, partition } of places.list()) {
      if (!places.fresh.has(placeName(topic, partition))) continue;
      const own = await this.writers(lake, topic);
      const files = await lake.files(zoneOf(topic));
      // What this log's own writers have, the log says as well.
      if (files.some(({ log }) => !own.has(log))) places.beside(topic, partition);
      else places.fresh.delete(placeName(topic, partition));
    }
  }

  private isNeeded(): boolean {
    const { places } = this.options;
    const isFresh = places.fresh.size > 0 && this.lake !== undefined;
    return !this.stopped && (isFresh || places.list().some(({ place }) => place.gap !== undefined));
  }

  private async run(): Promise<void> {
    while (this.isNeeded()) {
      const { lake } = this;
      if (lake !== undefined && this.options.places.fresh.size > 0)
        await this.lookBeside(lake).catch((error: unknown) => this.trouble(TOPIC_READINGS, error));
      for (const { topic, partition, place } of this.options.places.list()) {
        if (place.gap === undefined || this.stopped) continue;
        try {
          await this.fill(topic, partition);
          this.troubles.delete(topic);
        } catch (error) {
          if (!(error instanceof Stopped)) {
            this.trouble(topic, error);
            await this.rest.for(TROUBLE_MS);
          }
        }
      }
      await this.rest.for(LOOK_MS);
    }
    this.work = undefined;
  }

  private trouble(topic: string, error: unknown): void {
    const text = messageOf(error);
    if (this.troubles.get(topic) !== text)
      this.options.notify({
        level: 'warn',
        event: 'store_fill',
        text: `filling the store: ${text}`,
      });
    // Whatever it is, the store goes on without: answers say that they are incomplete, and why.
    this.troubles.set(topic, text);
  }

  private gap(topic: string, partition: number): Gap {
    const gap = this.options.places.get(topic, partition)?.gap;
    if (gap === undefined || this.stopped) throw new Stopped();
    return gap;
  }

  private async fill(topic: string, partition: number): Promise<void> {
    const { lake } = this;
    if (lake === undefined)
      throw new HeadwaterError(
        'LAKE_UNAVAILABLE',
        'there is no lake: nothing else has what the log no longer has',
      );
    const { log, notify } = this.options;
    const gap = this.gap(topic, partition);
    const source = new LakeSource(lake, log, topic, partition, gap);
    const state = await this.lakeIsThere(source, topic, partition);
    for (const day of await source.days()) {
      if (gap.day !== undefined && day >= gap.day) continue;
      await this.day(source, topic, partition, day, state?.log ?? '');
    }
    if (state !== undefined && !source.covers(state)) await this.fromRaw(topic, partition, gap);
    const { filled } = this.gap(topic, partition);
    await this.options.write(topic, partition, [], ({ gap: _, ...whole }) => whole);
    notify({
      level: 'info',
      event: 'store_whole',
      text: `the store has all of ${topic} again: ${filled} readings came from the lake`,
    });
  }

  /** Once the lake has what the store has read by now. */
  private async lakeIsThere(
    source: LakeSource,
    topic: string,
    partition: number,
  ): Promise<LakeState | undefined> {
    const next = this.options.places.get(topic, partition)?.next ?? 0;
    for (;;) {
      this.gap(topic, partition);
      const state = await source.state();
      // Nothing has come through this log yet.
      if (state === undefined && next === 0) return undefined;
      if (state !== undefined && state.next >= next) return state;
      await this.rest.for(LOOK_MS);
    }
  }

  private async day(
    source: LakeSource,
    topic: string,
    partition: number,
    day: string,
    log: string,
  ): Promise<void> {
    const { rate, write } = this.options;
    const isHere = source.isWhole && (await this.isSame?.(day)) === true;
    if (!isHere)
      await source.day(day, log, Math.min(PORTION, rate), async (changes) => {
        this.gap(topic, partition);
        const began = monotonicMs(this.options.time);
        await write(topic, partition, changes, (place) =>
          place.gap === undefined
            ? place
            : { ...place, gap: { ...place.gap, filled: place.gap.filled + changes.length } },
        );
        this.filledReadings += changes.length;
        this.progress(topic, partition, day);
        await this.rest.for(
          (changes.length / rate) * 1000 - (monotonicMs(this.options.time) - began),
        );
      });
    this.gap(topic, partition);
    await write(topic, partition, [], (place) =>
      place.gap === undefined ? place : { ...place, gap: { ...place.gap, day } },
    );
  }

  private progress(topic: string, partition: number, day: string): void {
    const now = monotonicMs(this.options.time);
    if (now - this.toldAt < TELL_MS) return;
    this.toldAt = now;
    const { filled } = this.gap(topic, partition);
    this.options.notify({
      level: 'info',
      event: 'store_fill',
      text: `filling the store with ${topic} from the lake: ${filled} readings so far, now of ${day}`,
    });
  }

  /** The lake began later than the gap: raw has what is missing, where this process can make it again. */
  private async fromRaw(topic: string, partition: number, gap: Gap): Promise<void> {
    const text = `neither the log nor the lake has ${topic} from offset ${gap.from} on: they are made again from raw`;
    if (this.rebuild === undefined)
      throw new HeadwaterError('LAKE_UNAVAILABLE', `${text} by \`headwater rebuild\``);
    const now = monotonicMs(this.options.time);
    if (now < this.rebuildAt)
      throw new HeadwaterError('LAKE_UNAVAILABLE', `${text} a little later`);
    this.rebuildAt = now + REBUILD_MS;
    this.options.notify({ level: 'warn', event: 'store_fill', text });
    await this.rebuild();
    while (!this.options.isCaughtUp(topic)) {
      this.gap(topic, partition);
      await this.rest.for(LOOK_MS);
    }
  }

  /** What the store lacks now, of everything that this process is to keep. */
  incomplete(): Incomplete[] {
    const { places, isCaughtUp } = this.options;
    return places.list().flatMap(({ topic, place: { gap, behind } }) => {
      const isReading = behind !== undefined && !isCaughtUp(topic);
      const since = gap?.since ?? behind?.since;
      if (since === undefined || (gap === undefined && !isReading)) return [];
      const trouble = this.troubles.get(topic);
      const because = trouble === undefined ? '' : ` (${trouble})`;
      return [
        {
          of: topic,
          from: null,
          to: isReading || gap?.day === undefined ? null : Date.parse(gap.day),
          reason: `the store is being filled from the ${isReading ? 'log' : 'lake'}${because}`,
          since,
          filledReadings: gap?.filled ?? 0,
        },
      ];
    });
  }

  /** What is lacking is on its way: without a lake nothing has what the log no longer has. */
  isComing(): boolean {
    const { places, isCaughtUp } = this.options;
    return places
      .list()
      .some(
        ({ topic, place: { gap, behind } }) =>
          (gap !== undefined && this.lake !== undefined) ||
          (behind !== undefined && !isCaughtUp(topic)),
      );
  }

  async close(): Promise<void> {
    this.stopped = true;
    this.rest.wake();
    await this.work;
  }
}

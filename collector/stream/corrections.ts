/**
 * Windows that the lake has to settle: those that a very late or moved reading reaches when their state is gone, and
 * those from before their rule. Each waits until the lake has the readings that it waits for; then it is computed anew
 * from all rows of its time, by the same code, and its result replaces the one before.
 *
 * State, in the topic `state`: `correct/RULE@HASH/GROUP/WINDOW`, and `correct/RULE@HASH` for the whole past of a rule.
 */
import type { LakeReading } from '../lake/engine.ts';
import type { LakeState } from '../lake/gather.ts';
import { dateOf } from '../lake/layout.ts';
import type { Lake } from '../lake/lake.ts';
import { TOPIC_STATE, type Produced } from '../log/log.ts';
import { Aggregate } from './aggregate.ts';
import type { Place } from './place.ts';
import { groupHash, type Results } from './results.ts';
import { groupTags, isFrom, numbersOf } from './match.ts';
import type { Rule, WindowRule } from './rules.ts';
import { epochOf, resultOf, windowsOf } from './windows.ts';

export const CORRECTION_PREFIX = 'correct/';
const DAY_MS = 86_400_000;

interface Wanted {
  rule: WindowRule;
  hash: string;
  tags: Record<string, string>;
  window: number;
  /** The newest reading that it waits for, of each partition of `readings`: partition → offset. */
  after: Map<number, number>;
}

/** A rule from before which there are readings, and the last date that is done. */
interface Past {
  rule: WindowRule;
  done: string;
  /** Where the rule began, in each partition of `readings`: what is before it, the lake has to have first. */
  from: Places;
}

/** What is known of a window when its rows have been seen. */
interface Found {
  tags: Record<string, string>;
  fields: Map<string, Aggregate>;
  /** Some of its rows had come before its rule did. */
  isEarly: boolean;
}

/** Partition of `readings` → offset of the next record. */
export type Places = ReadonlyMap<number, number>;

/** How far the lake has the topic `readings`: partition → its writer, and the first record that it has not. */
export type LakeProgress = ReadonlyMap<number, Pick<LakeState, 'log' | 'next'>>;

/** What the engine says of windows when the past of a rule is settled. */
export interface Owned {
  isMine: (hash: string) => boolean;
  /** It came after its group's readings did: the engine computes it, but for what had come before the rule. */
  owns: (rule: WindowRule, hash: string, window: number) => boolean;
  /** The lake has more of it than the engine: it is the lake's from now on. */
  giveUp: (rule: WindowRule, hash: string, tags: Record<string, string>, window: number) => void;
}

export class Corrections {
  private readonly partition: number;
  /** Where the engine went on. */
  private readonly from: Places;
  private readonly wanted = new Map<string, Wanted>();
  private readonly past = new Map<string, Past>();
  private readonly changed = new Set<string>();

  constructor(partition: number, from: Places) {
    this.partition = partition;
    this.from = from;
  }

  private static prefix({ name, hash }: WindowRule): string {
    return `${CORRECTION_PREFIX}${name}@${hash}`;
  }

  load(key: string, value: Buffer, rules: readonly Rule[]): void {
    const [name = '', hash, window] = key.slice(CORRECTION_PREFIX.length).split('/');
    const rule = rules.find(
      (each): each is WindowRule => each.kind === 'window' && `${each.name}@${each.hash}` === name,
    );
    if (rule === undefined) this.changed.add(key);
    else if (hash === undefined || window === undefined) {
      // As it was written once, without a place.
      const { done, from } = JSON.parse(value.toString('utf8')) as PastRecord;
      this.past.set(key, { rule, done, from: from === undefined ? this.from : new Map(from) });
    } else {
      const { tags, after } = JSON.parse(value.toString('utf8')) as {
        tags: Record<string, string>;
        after: [number, number][];
      };
      this.wanted.set(key, { rule, hash, tags, window: Number(window), after: new Map(after) });
    }
  }

  backfill(rule: WindowRule): void {
    const key = Corrections.prefix(rule);
    this.past.set(key, { rule, done: '', from: this.from });
    this.changed.add(key);
  }

  add(
    rule: WindowRule,
    hash: string,
    tags: Record<string, string>,
    window: number,
    { partition, offset }: Place,
  ): void {
    const key = `${Corrections.prefix(rule)}/${hash}/${window}`;
    let wanted = this.wanted.get(key);
    if (wanted === undefined) {
      wanted = { rule, hash, tags, window, after: new Map() };
      this.wanted.set(key, wanted);
    }
    if ((wanted.after.get(partition) ?? -1) >= offset) return;
    wanted.after.set(partition, offset);
    this.changed.add(key);
  }

  get count(): number {
    return this.wanted.size + this.past.size;
  }

  changes(): Produced[] {
    const produced = [...this.changed].map((key): Produced => {
      const wanted = this.wanted.get(key);
      const past = this.past.get(key);
      const text =
        wanted !== undefined
          ? JSON.stringify({ tags: wanted.tags, after: [...wanted.after] })
          : past !== undefined
            ? JSON.stringify({ done: past.done, from: [...past.from] } satisfies PastRecord)
            : '';
      return {
        topic: TOPIC_STATE,
        partition: this.partition,
        key,
        headers: {},
        value: Buffer.from(text),
      };
    });
    this.changed.clear();
    return produced;
  }

  /**
   * Settles what the lake is ready for: at most the windows of one rule and one day. Throws what the lake throws, with
   * nothing settled.
   */
  async settle(
    lake: Lake,
    progress: LakeProgress,
    owned: Owned,
    results: Results,
  ): Promise<number> {
    for (const [key, entry] of this.past)
      if ([...entry.from].every(([partition, next]) => nextOf(progress, partition) >= next))
        return await this.settlePast(key, entry, lake, progress, owned, results);
    const isReady = ({ after }: Wanted): boolean =>
      [...after].every(([partition, offset]) => nextOf(progress, partition) > offset);
    const ready = [...this.wanted].filter(([, wanted]) => isReady(wanted));
    const [first] = ready;
    if (first === undefined) return 0;
    const { rule } = first[1];
    const dayOf = ({ window }: Wanted): string => dateOf(window * rule.everyMs);
    const day = dayOf(first[1]);
    const mine = new Map(
      ready.filter(([, wanted]) => wanted.rule === rule && dayOf(wanted) === day),
    );
    const names = new Map([...mine].map(([key, { hash, window }]) => [`${hash}/${window}`, key]));
    const from = Date.parse(`${day}T00:00:00Z`);
    const found = await windowsIn(lake, rule, from, from + DAY_MS, (hash, window) =>
      names.has(`${hash}/${window}`),
    );
    tell(rule, found, results);
    for (const [name, key] of names) {
      const wanted = mine.get(key);
      if (wanted !== undefined && !found.has(name)) takeBack(wanted, results);
      this.wanted.delete(key);
      this.changed.add(key);
    }
    return names.size;
  }

  /**
   * A day of what was there before its rule. The lake may be behind the engine, so it says nothing of windows that are the
   * engine's: those of them that had rows before the rule came wait until it has all that the engine has read.
   */
  private async settlePast(
    key: string,
    entry: Past,
    lake: Lake,
    progress: LakeProgress,
    { isMine, owns, giveUp }: Owned,
    results: Results,
  ): Promise<number> {
    const { rule } = entry;
    this.changed.add(key);
    const dates = (await lake.files('readings')).map(({ date }) => date);
    const next = dates.filter((date) => date > entry.done).sort()[0];
    if (next === undefined) {
      this.past.delete(key);
      return 1;
    }
    const from = Date.parse(`${next}T00:00:00Z`);
    const isOfDay = (window: number): boolean =>
      window * rule.everyMs >= from && window * rule.everyMs < from + DAY_MS;
    const found = await windowsIn(
      lake,
      rule,
      from,
      from + DAY_MS,
      (hash, window) => isOfDay(window) && isMine(hash),
      ({ origin: { log, partition, offset } }) =>
        log !== progress.get(partition)?.log || offset < (entry.from.get(partition) ?? 0),
    );
    for (const [name, { tags, isEarly }] of found) {
      const [hash, window] = partsOf(name);
      if (!owns(rule, hash, window)) continue;
      found.delete(name);
      if (isEarly) giveUp(rule, hash, tags, window);
    }
    tell(rule, found, results);
    entry.done = next;
    return 1;
  }
}

interface PastRecord {
  done: string;
  from?: [partition: number, next: number][];
}

const nextOf = (progress: LakeProgress, partition: number): number =>
  progress.get(partition)?.next ?? 0;

function partsOf(name: string): [hash: string, window: number] {
  const [hash = '', window] = name.split('/');
  return [hash, Number(window)];
}

function tell(rule: WindowRule, found: ReadonlyMap<string, Found>, results: Results): void {
  for (const [name, { tags, fields }] of found) {
    const [hash, window] = partsOf(name);
    const result = resultOf(rule, tags, window, fields);
    if (result !== undefined) results.add(epochOf(rule, hash), result);
  }
}

/** No reading is in the window any more. */
function takeBack({ rule, hash, tags, window }: Wanted, results: Results): void {
  const { measurement, everyMs } = rule;
  results.remove(epochOf(rule, hash), {
    measurement,
    tags,
    fields: {},
    sequence: window,
    index: 0,
    timeMs: window * everyMs,
    ns: 0,
  });
}

/** The windows that begin in a span and are wanted, from all rows of the lake that reach them: `group/window` → its fields. */
async function windowsIn(
  lake: Lake,
  rule: WindowRule,
  fromMs: number,
  toMs: number,
  isWanted: (hash: string, window: number) => boolean,
  isEarly: (row: LakeReading) => boolean = () => false,
): Promise<Map<string, Found>> {
  const endMs = toMs + rule.sizeMs;
  const dates = { from: dateOf(fromMs), to: dateOf(endMs) };
  return await lake.read('readings', dates, async (rows, paths) => {
    const found = new Map<string, Found>();
    const groups = new Map<
      string,
      {
        hash: string;
        tags: Record<string, string>;
        input: string | undefined;
        source: WindowRule['inputs'][number]['source'];
      }[]
    >();
    for await (const row of rows.readings(paths, fromMs, endMs)) {
      let ways = groups.get(row.series);
      if (ways === undefined) {
        ways = rule.inputs.flatMap(({ name, source }) => {
          if (!isFrom(source, row)) return [];
          const tags = groupTags(rule, row);
          return [{ hash: groupHash(tags), tags, input: name, source }];
        });
        groups.set(row.series, ways);
      }
      for (const { hash, tags, input, source } of ways) {
        const windows = windowsOf(rule, row.timeMs).filter((window) => isWanted(hash, window));
        if (windows.length === 0) continue;
        for (const [field, value] of numbersOf(source, row.fields)) {
          const edge = { timeMs: row.timeMs, ns: row.ns, id: row.id, value };
          for (const window of windows) {
            const name = `${hash}/${window}`;
            let entry = found.get(name);
            if (entry === undefined)
              found.set(name, (entry = { tags, fields: new Map(), isEarly: false }));
            entry.isEarly ||= isEarly(row);
            let aggregate = entry.fields.get(input ?? field);
            if (aggregate === undefined)
              entry.fields.set(input ?? field, (aggregate = new Aggregate(rule.compute)));
            aggregate.add(edge);
          }
        }
      }
    }
    return found;
  });
}

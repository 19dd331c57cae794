/**
 * Windows of one rule over one partition: which there are, what they know, when they say it, when they are let go.
 *
 * A window says its result once its group has a reading at or after its end, or, where no more come, once the clock is
 * past its end and it has rested for a moment. Whatever reaches it later makes it say its result again, in a higher
 * revision. It is let go when its group's readings are past its end by the allowed lateness; a reading for a window that
 * is not here any more, or may never have been, is for the lake to settle (`corrections.ts`).
 *
 * State, in the topic `state`: `win/RULE@HASH/GROUP` says up to which window a group leaves absent ones to the lake;
 * `win/RULE@HASH/GROUP/WINDOW`, and the values of its fields, where percentiles need them,
 * in blocks `…/FIELD/N` that are written once and then, but for the last, never again.
 */
import type { Reading } from '../../shared/model/reading.ts';
import { TOPIC_STATE, type Produced } from '../log/log.ts';
import { Aggregate, type AggregateState, type Edge } from './aggregate.ts';
import type { Results } from './results.ts';
import { splitName, type WindowRule } from './rules.ts';

export const WINDOW_PREFIX = 'win/';

const BLOCK_VALUES = 256;
/** Without a further reading for so long, a window whose end has passed is taken for complete. */
const REST_MS = 2000;
const WINDOW_BYTES = 400;
const FIELD_BYTES = 300;

interface WindowRecord {
  tags: Record<string, string>;
  fields: Record<string, AggregateState>;
  /** Values of each field that stand in blocks. */
  blocks: Record<string, number>;
  said: boolean;
}

interface GroupRecord {
  tags: Record<string, string>;
  floor: number;
  /** Left out where it was written before there was one: it is the floor; null: not known yet. */
  begins?: number | null;
}

interface Window {
  index: number;
  fields: Map<string, Aggregate>;
  /** Its newest state has been said. */
  said: boolean;
  /** Values that stand in blocks already, by field. */
  kept: Map<string, number>;
  /** Monotonic milliseconds of its last reading. */
  touchedMs: number;
}

interface Group {
  hash: string;
  tags: Record<string, string>;
  windows: Map<number, Window>;
  /** Time of its newest reading. */
  newestMs: number;
  /** Windows up to this one that are not here were here before, or began before the rule did. */
  floor: number;
  /** Of a rule that came later: the newest window of its first reading. This one and those before it are the lake's. */
  begins: number | undefined;
}

export interface Contribution {
  hash: string;
  tags: Record<string, string>;
  /** Under which name the value counts. */
  field: string;
  edge: Edge;
}

/** Numbers of the windows that a time lies in. */
export function windowsOf({ sizeMs, everyMs }: WindowRule, timeMs: number): number[] {
  const newest = Math.floor(timeMs / everyMs);
  const oldest = newest - sizeMs / everyMs + 1;
  const indexes: number[] = [];
  // Identities are not negative: windows that begin before 1970 are left out.
  for (let index = Math.max(0, oldest); index <= newest; index++) indexes.push(index);
  return indexes;
}

/** The result of a window, or undefined when there is none to say. */
export function resultOf(
  rule: WindowRule,
  tags: Record<string, string>,
  index: number,
  fields: ReadonlyMap<string, Aggregate>,
): Reading | undefined {
  const values: Record<string, number> = {};
  const set = (name: string, value: number | undefined): void => {
    if (value !== undefined && Number.isFinite(value)) values[name] = value;
  };
  if (rule.derive.length === 0) {
    for (const [field, aggregate] of [...fields].toSorted(([a], [b]) => (a < b ? -1 : 1)))
      for (const name of rule.compute)
        set(`${field}_${name.replace('.', '_')}`, aggregate.result(name));
  } else {
    for (const { field, expression } of rule.derive)
      set(
        field,
        expression.evaluate((name) => {
          const [input, aggregate] = splitName(name);
          return fields.get(input)?.result(aggregate);
        }),
      );
  }
  if (Object.keys(values).length === 0) return undefined;
  const { measurement, everyMs } = rule;
  return {
    measurement,
    tags,
    fields: values,
    sequence: index,
    index: 0,
    timeMs: index * everyMs,
    ns: 0,
  };
}

/** Epoch of a rule's results of a group. */
export const epochOf = (rule: { name: string }, hash: string): string => `${rule.name}/${hash}`;

export class Windows {
  readonly rule: WindowRule;
  bytes = 0;
  private readonly partition: number;
  private readonly groups = new Map<string, Group>();
  /** Changed since the last commit. */
  private readonly touched = new Map<Window, Group>();
  /** Their newest state has not been said. */
  private readonly waiting = new Map<Window, Group>();
  private readonly floored = new Set<Group>();
  private forgotten: Produced[] = [];
  /** The rule came when readings had been read already: the first windows of a group may lack some. */
  private readonly isYoung: boolean;

  constructor(rule: WindowRule, partition: number, isYoung: boolean) {
    this.rule = rule;
    this.partition = partition;
    this.isYoung = isYoung;
  }

  static prefix({ name, hash }: Pick<WindowRule, 'name' | 'hash'>): string {
    return `${WINDOW_PREFIX}${name}@${hash}/`;
  }

  /** Takes up a state record whose key begins with the prefix; blocks may come before or after their window. */
  load(key: string, value: Buffer, blocks: Map<string, number[]>): void {
    const parts = key.slice(Windows.prefix(this.rule).length).split('/');
    const [hash = '', window = '', ...block] = parts;
    if (block.length > 0) {
      blocks.set(key, JSON.parse(value.toString('utf8')) as number[]);
      return;
    }
    if (window === '') {
      const { tags, floor, begins = floor } = JSON.parse(value.toString('utf8')) as GroupRecord;
      const group = this.group(hash, tags);
      group.floor = floor;
      if (this.isYoung) group.begins = begins ?? undefined;
      group.newestMs = Math.max(group.newestMs, this.endOf(floor) - this.rule.sizeMs);
      return;
    }
    const record = JSON.parse(value.toString('utf8')) as WindowRecord;
    const group = this.group(hash, record.tags);
    const fields = new Map<string, Aggregate>();
    for (const [field, state] of Object.entries(record.fields))
      fields.set(field, new Aggregate(this.rule.compute, state));
    const kept = new Map(Object.entries(record.blocks));
    const index = Number(window);
    const made: Window = { index, fields, said: record.said, kept, touchedMs: 0 };
    group.windows.set(index, made);
    for (const { state } of fields.values())
      group.newestMs = Math.max(group.newestMs, state.last.timeMs);
    if (!made.said) this.waiting.set(made, group);
  }

  /** After everything was taken up: values go to their windows. */
  loaded(blocks: ReadonlyMap<string, number[]>): void {
    for (const group of this.groups.values())
      for (const window of group.windows.values()) {
        this.bytes += WINDOW_BYTES + window.fields.size * FIELD_BYTES;
        for (const [field, { values }] of window.fields) {
          const count = window.kept.get(field) ?? 0;
          for (let at = 0; at < count; at += BLOCK_VALUES)
            values?.push(...(blocks.get(this.blockKey(group, window, field, at)) ?? []));
          // A block may be ahead of its window's record never: both are of one commit.
          this.bytes += (values?.length ?? 0) * 8;
        }
      }
  }

  private group(hash: string, tags: Record<string, string>): Group {
    let group = this.groups.get(hash);
    if (group === undefined) {
      group = { hash, tags, windows: new Map(), newestMs: 0, floor: -1, begins: undefined };
      this.groups.set(hash, group);
    }
    return group;
  }

  /** Adds a value to its windows; gives those back that are not here any more. */
  add({ hash, tags, field, edge }: Contribution, nowMs: number): number[] {
    const { rule } = this;
    const group = this.group(hash, tags);
    const indexes = windowsOf(rule, edge.timeMs);
    if (this.isYoung && group.begins === undefined) {
      group.begins = indexes.at(-1) ?? -1;
      this.floored.add(group);
      this.raise(group, group.begins);
    }
    group.newestMs = Math.max(group.newestMs, edge.timeMs);
    const gone: number[] = [];
    for (const index of indexes) {
      let window = group.windows.get(index);
      if (window === undefined) {
        if (index <= group.floor || this.isOver(group, index)) {
          gone.push(index);
          continue;
        }
        window = { index, fields: new Map(), said: false, kept: new Map(), touchedMs: 0 };
        group.windows.set(index, window);
        this.bytes += WINDOW_BYTES;
      }
      let aggregate = window.fields.get(field);
      if (aggregate === undefined) {
        window.fields.set(field, (aggregate = new Aggregate(rule.compute)));
        this.bytes += FIELD_BYTES;
      }
      aggregate.add(edge);
      if (aggregate.values !== undefined) this.bytes += 8;
      window.said = false;
      window.touchedMs = nowMs;
      this.touched.set(window, group);
      this.waiting.set(window, group);
    }
    return gone;
  }

  private raise(group: Group, floor: number): void {
    if (floor <= group.floor) return;
    group.floor = floor;
    this.floored.add(group);
  }

  private endOf(index: number): number {
    return index * this.rule.everyMs + this.rule.sizeMs;
  }

  private isOver(group: Group, index: number): boolean {
    return this.endOf(index) + this.rule.latenessMs <= group.newestMs;
  }

  /** Says what is due and lets go what is over; `wallMs` is the clock of events, `nowMs` a monotonic one. */
  say(results: Results, wallMs: number, nowMs: number): void {
    for (const [window, group] of this.waiting) {
      const end = this.endOf(window.index);
      const isComplete = group.newestMs >= end;
      const isAtRest = wallMs >= end && nowMs - window.touchedMs >= REST_MS;
      if (!isComplete && !isAtRest) continue;
      this.tell(results, group, window);
    }
  }

  private tell(results: Results, group: Group, window: Window): void {
    const result = resultOf(this.rule, group.tags, window.index, window.fields);
    if (result !== undefined) results.add(epochOf(this.rule, group.hash), result);
    window.said = true;
    this.waiting.delete(window);
    this.touched.set(window, group);
  }

  /** Lets go of windows that are over, of those groups that were touched. */
  release(): void {
    const groups = new Set(this.touched.values());
    for (const group of groups)
      for (const window of group.windows.values())
        if (window.said && this.isOver(group, window.index)) this.forget(group, window);
  }

  /** Lets the oldest go, said or not, until no more than `bytesMax` are held. Each group keeps its newest. */
  shrink(bytesMax: number, results: Results): void {
    if (this.bytes <= bytesMax) return;
    const all = [...this.groups.values()].flatMap((group) =>
      [...group.windows.values()].map((window) => ({ group, window })),
    );
    all.sort((a, b) => a.window.index - b.window.index);
    for (const { group, window } of all) {
      if (this.bytes <= bytesMax * 0.9) return;
      if (group.windows.size === 1) continue;
      if (!window.said) this.tell(results, group, window);
      this.raise(group, window.index);
      this.forget(group, window);
    }
  }

  private forget(group: Group, window: Window): void {
    group.windows.delete(window.index);
    this.touched.delete(window);
    this.waiting.delete(window);
    const none = Buffer.alloc(0);
    this.forgotten.push(this.record(this.key(group, window), none));
    this.bytes -= WINDOW_BYTES;
    for (const [field, { values }] of window.fields) {
      this.bytes -= FIELD_BYTES + (values?.length ?? 0) * 8;
      for (let at = 0; at < (window.kept.get(field) ?? 0); at += BLOCK_VALUES)
        this.forgotten.push(this.record(this.blockKey(group, window, field, at), none));
    }
  }

  private key(group: Group, window: Window): string {
    return `${Windows.prefix(this.rule)}${group.hash}/${window.index}`;
  }

  private blockKey(group: Group, window: Window, field: string, at: number): string {
    return `${this.key(group, window)}/${encodeURIComponent(field)}/${at / BLOCK_VALUES}`;
  }

  private record(key: string, value: Buffer): Produced {
    return { topic: TOPIC_STATE, partition: this.partition, key, headers: {}, value };
  }

  /** State that has changed since it was asked last. */
  changes(): Produced[] {
    const produced = this.forgotten;
    this.forgotten = [];
    for (const group of this.floored) {
      const { hash, tags, floor, begins = null } = group;
      const value = Buffer.from(JSON.stringify({ tags, floor, begins } satisfies GroupRecord));
      produced.push(this.record(`${Windows.prefix(this.rule)}${hash}`, value));
    }
    this.floored.clear();
    for (const [window, group] of this.touched) {
      const fields: Record<string, AggregateState> = {};
      for (const [field, { state, values }] of window.fields) {
        fields[field] = state;
        if (values === undefined) continue;
        const kept = window.kept.get(field) ?? 0;
        for (let at = kept - (kept % BLOCK_VALUES); at < values.length; at += BLOCK_VALUES) {
          const block = JSON.stringify(values.slice(at, at + BLOCK_VALUES));
          produced.push(this.record(this.blockKey(group, window, field, at), Buffer.from(block)));
        }
        window.kept.set(field, values.length);
      }
      const record: WindowRecord = {
        tags: group.tags,
        fields,
        blocks: Object.fromEntries(window.kept),
        said: window.said,
      };
      produced.push(this.record(this.key(group, window), Buffer.from(JSON.stringify(record))));
    }
    this.touched.clear();
    return produced;
  }

  /** Whether it computes this window itself, and leaves it to the lake for what came too late alone. */
  owns(hash: string, index: number): boolean {
    if (!this.isYoung) return true;
    const begins = this.groups.get(hash)?.begins;
    return begins !== undefined && index > begins;
  }

  get windowCount(): number {
    let count = 0;
    for (const { windows } of this.groups.values()) count += windows.size;
    return count;
  }

  get waitingCount(): number {
    return this.waiting.size;
  }

  /** What is here of a window is not right any more: it is the lake's to settle, now and later. */
  drop(hash: string, tags: Record<string, string>, index: number): void {
    const group = this.group(hash, tags);
    const window = group.windows.get(index);
    if (window !== undefined) this.forget(group, window);
    this.raise(group, index);
  }
}

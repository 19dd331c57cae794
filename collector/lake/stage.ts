/**
 * The lake stage of one zone: records of its topic → Parquet files, once in effect.
 *
 * Records are gathered until there are enough or they have waited long enough. Then the offsets that the files will hold
 * are announced in the log (`lake/ZONE` in the topic `state`), the files are written under names made of those offsets,
 * and the offsets are committed. After a crash in between exactly the announced offsets are gathered again and the same
 * files replace those that may be there; so does a member that was overtaken and does not know it yet.
 *
 * A reading that was moved, or decoded again, replaces its row: the files that have it are rewritten under their names.
 * Small files are merged as they become many (see `layout.ts` for what a reader sees meanwhile).
 */
import { randomBytes } from 'node:crypto';
import { isRetryable } from '../../contracts/errors.ts';
import { messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import {
  TOPIC_RAW,
  TOPIC_READINGS,
  TOPIC_RESULTS,
  TOPIC_STATE,
  type Log,
  type Produced,
  type StoredRecord,
} from '../log/log.ts';
import { lakeGroup } from '../log/topics.ts';
import type { Offsets } from '../stage/membership.ts';
import type { Announce, Stage } from '../stage/options.ts';
import { runStage } from '../stage/stage.ts';
import type { StageState } from '../stage/state.ts';
import { endOf, freshPart, isDue, isWhole, take, type LakeState, type Part } from './gather.ts';
import type { Lake } from './lake.ts';
import type { Zone } from './layout.ts';
import { finishMerge, merge } from './merge.ts';
import { Writer } from './write.ts';

export const LAKE_PREFIX = 'lake/';

const TOPIC_OF: Record<Zone, string> = {
  raw: TOPIC_RAW,
  readings: TOPIC_READINGS,
  results: TOPIC_RESULTS,
};

export interface LakeStageOptions {
  zone: Zone;
  log: Log;
  lake: Lake;
  /** Records wait at most so long for others, milliseconds. */
  flushMs: number;
  /** Records of so many bytes do not wait. */
  flushBytes: number;
  notify: Notify;
}

export class LakeStage {
  mergedFiles = 0;

  readonly zone: Zone;
  private readonly options: LakeStageOptions;
  private readonly writer: Writer;
  private readonly parts = new Map<number, Part>();
  /** What was written last did not arrive: whether the store is there is asked before all is made again. */
  private isTroubled = false;
  private stage: Stage | undefined;

  constructor(options: LakeStageOptions) {
    this.zone = options.zone;
    this.options = options;
    this.writer = new Writer(options.lake, options.zone);
  }

  get writtenRows(): number {
    return this.writer.writtenRows;
  }

  get rewrittenFiles(): number {
    return this.writer.rewrittenFiles;
  }

  start(): void {
    const { zone, log, notify } = this.options;
    this.stage = runStage({
      name: `lake_${zone}`,
      touches: 'gathers',
      log,
      notify,
      consumer: {
        group: lakeGroup(zone),
        topic: TOPIC_OF[zone],
        from: 'start',
        bytesMax: 1024 * 1024,
        onAssign: (partition) => this.load(partition),
        onRevoke: (partition) => this.parts.delete(partition),
      },
      step: (records, offsets, announce) => this.gather(records, offsets, announce),
      idle: (offsets, announce) => this.gather([], offsets, announce),
    });
  }

  private get stateKey(): string {
    return `${LAKE_PREFIX}${this.zone}`;
  }

  private async load(partition: number): Promise<number> {
    const records = await this.options.log.state(TOPIC_STATE, partition, this.stateKey);
    const known = records.find(({ key }) => key === `${this.stateKey}/${partition}`)?.value;
    const state =
      known === undefined ? await this.begin() : (JSON.parse(known.toString('utf8')) as LakeState);
    this.parts.set(partition, freshPart(state));
    return state.next;
  }

  /** A partition that nothing is known of. */
  private async begin(): Promise<LakeState> {
    const { log, lake } = this.options;
    const own = new Set<string>();
    for (let partition = 0; partition < log.partitions; partition++)
      for (const { value } of await log.state(TOPIC_STATE, partition, `${this.stateKey}/`))
        own.add((JSON.parse(value.toString('utf8')) as LakeState).log);
    const state: LakeState = { log: randomBytes(4).toString('hex'), next: 0 };
    if ((await lake.files(this.zone)).some((file) => !own.has(file.log))) state.foreign = true;
    return state;
  }

  private stateRecord(partition: number, state: LakeState): Produced {
    return {
      topic: TOPIC_STATE,
      partition,
      key: `${this.stateKey}/${partition}`,
      headers: {},
      value: Buffer.from(JSON.stringify(state)),
    };
  }

  private async gather(
    records: StoredRecord[],
    offsets: Offsets,
    announce: Announce,
  ): Promise<Produced[] | undefined> {
    const now = performance.now();
    for (const record of records) {
      const part = this.parts.get(record.partition);
      if (part !== undefined) take(part, record, now);
    }
    if (isDue(this.parts.values(), now, this.options)) return await this.flush(offsets, announce);
    if (records.length === 0) await this.tidy(announce);
    return undefined;
  }

  private async flush(offsets: Offsets, announce: Announce): Promise<Produced[]> {
    const due = [...this.parts].filter(([, part]) => isWhole(part));
    const states: Produced[] = [];
    for (const [partition, part] of due) {
      const { state, records } = part;
      if (state.merge !== undefined) await finishMerge(this.options.lake, part);
      const to = state.to ?? endOf(records);
      part.state = { ...part.state, to };
      states.push(this.stateRecord(partition, part.state));
    }
    await announce(states);
    if (this.isTroubled) await this.options.lake.store.open();
    this.isTroubled = true;
    const done: Produced[] = [];
    for (const [partition, part] of due) {
      const { to: announced, ...state } = part.state;
      const to = announced ?? state.next;
      const count = part.records.findIndex(({ offset }) => offset >= to);
      const mine = count < 0 ? part.records : part.records.slice(0, count);
      await this.writer.write(part, partition, mine);
      part.records = count < 0 ? [] : part.records.slice(count);
      part.bytes = part.records.reduce((sum, { value }) => sum + value.length, 0);
      part.since = performance.now();
      part.state = { ...state, next: to };
      offsets.set(partition, to);
      done.push(this.stateRecord(partition, part.state));
    }
    this.isTroubled = false;
    return done;
  }

  /** Merges what has become many small files. */
  private async tidy(announce: Announce): Promise<void> {
    const { lake } = this.options;
    for (const [partition, part] of this.parts) {
      try {
        if (part.state.merge !== undefined) await finishMerge(lake, part);
        for (const folder of part.touched) {
          part.touched.delete(folder);
          const say = (): Promise<void> => announce([this.stateRecord(partition, part.state)]);
          const merged = await merge(lake, this.zone, [partition, part], folder, say);
          if (merged === 0) continue;
          this.mergedFiles += merged;
          part.touched.add(folder);
          return; // One at a time: what comes in goes first.
        }
      } catch (error) {
        if (!isRetryable(error)) throw error;
        this.options.notify({ level: 'warn', event: 'lake_merge', text: messageOf(error) });
      }
    }
  }

  stageStates(): StageState[] {
    return this.stage === undefined ? [] : [this.stage.state()];
  }

  async close(): Promise<void> {
    await this.stage?.close();
  }
}

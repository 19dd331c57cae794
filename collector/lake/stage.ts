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
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { readingsOf } from '../../shared/model/readings-record.ts';
import type { ReadingBatch } from '../../shared/model/reading.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import {
  HEADER_AGAIN,
  HEADER_FROM_LAKE,
  TOPIC_RAW,
  TOPIC_READINGS,
  TOPIC_RESULTS,
  TOPIC_STATE,
  type Log,
  type Produced,
  type StoredRecord,
} from '../log/log.ts';
import { runStage, type Announce, type Offsets, type Stage } from '../log/stage.ts';
import type { Lake } from './lake.ts';
import { dateOf, fileName, folderOf, lakeGroup, type LakeFile, type Zone } from './layout.ts';
import { isPlain, timeNs, type Address, type WrittenFile } from './parquet.ts';
import { rawRow, readingRows, type RawRow, type ReadingRow } from './rows.ts';

export const LAKE_PREFIX = 'lake/';

const TOPIC_OF: Record<Zone, string> = {
  raw: TOPIC_RAW,
  readings: TOPIC_READINGS,
  results: TOPIC_RESULTS,
};

/** Files of one folder below this size are merged when there are so many. */
const SMALL_BYTES = 32 * 1024 * 1024;
const SMALL_FILES = 16;

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

/** What the state topic says of a partition. */
export interface LakeState {
  log: string;
  /** Everything before it is in the lake. */
  next: number;
  /** Announced: files with the offsets up to and without this one are being written. */
  to?: number;
  /**
   * The lake has rows of a log that is no more: what comes in may be among them (a gateway sends again what a log lacks),
   * and replaces them.
   */
  foreign?: boolean;
  /** Being merged into this key: these are to be deleted once it is there. */
  merge?: { into: string; from: string[] };
}

interface Part {
  state: LakeState;
  records: StoredRecord[];
  bytes: number;
  /** Monotonic milliseconds of the oldest record. */
  since: number;
  /** Folders written to since the last merge. */
  touched: Set<string>;
}

export class LakeStage {
  writtenRows = 0;
  rewrittenFiles = 0;
  mergedFiles = 0;

  readonly zone: Zone;
  private readonly options: LakeStageOptions;
  private readonly parts = new Map<number, Part>();
  /** What was written last did not arrive: whether the store is there is asked before all is made again. */
  private isTroubled = false;
  private stage: Stage | undefined;

  constructor(options: LakeStageOptions) {
    this.zone = options.zone;
    this.options = options;
  }

  start(): void {
    const { zone, log, notify } = this.options;
    this.stage = runStage({
      name: `lake_${zone}`,
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
    this.parts.set(partition, { state, records: [], bytes: 0, since: 0, touched: new Set() });
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
      // Tried again after a failure: they are here already.
      if (part === undefined || record.offset <= (part.records.at(-1)?.offset ?? -1)) continue;
      if (part.records.length === 0) part.since = now;
      part.records.push(record);
      part.bytes += record.value.length;
    }
    const { flushMs, flushBytes } = this.options;
    let bytes = 0;
    let oldest = now;
    for (const part of this.parts.values()) {
      if (!isWhole(part)) continue;
      bytes += part.bytes;
      oldest = Math.min(oldest, part.since);
    }
    if (bytes >= flushBytes || now - oldest >= flushMs) return await this.flush(offsets, announce);
    if (records.length === 0) await this.tidy(announce);
    return undefined;
  }

  private async flush(offsets: Offsets, announce: Announce): Promise<Produced[]> {
    const due = [...this.parts].filter(([, part]) => isWhole(part));
    const states: Produced[] = [];
    for (const [partition, part] of due) {
      const { state, records } = part;
      if (state.merge !== undefined) await this.finishMerge(part);
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
      if (this.zone === 'raw') await this.writeRaw(part, partition, mine);
      else await this.writeReadings(part, partition, mine);
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

  /** Under the name that the offsets of the step give it. */
  private async put(
    part: Part,
    partition: number,
    date: string,
    gateway: string,
    path: string,
  ): Promise<void> {
    const { log, next, to = next } = part.state;
    const folder = folderOf(this.zone, date, gateway);
    await this.options.lake.put(`${folder}${fileName(log, partition, next, to)}`, path);
    part.touched.add(folder);
  }

  private async writeRaw(part: Part, partition: number, records: StoredRecord[]): Promise<void> {
    const folders = new Map<string, RawRow[]>();
    for (const record of records) {
      // The lake has them already: they were put back into the log from there.
      if (record.headers[HEADER_FROM_LAKE] !== undefined) continue;
      const row = rawRow(record, part.state.log);
      const folder = folderOf('raw', row.date, row.gateway);
      const list = folders.get(folder);
      if (list === undefined) folders.set(folder, [row]);
      else list.push(row);
    }
    const { parquet } = this.options.lake;
    for (const list of folders.values()) {
      const { date, gateway } = list[0] as RawRow; // Made with one.
      await this.put(part, partition, date, gateway, await parquet.writeRaw(list));
      this.writtenRows += list.length;
    }
  }

  private async writeReadings(
    part: Part,
    partition: number,
    records: StoredRecord[],
  ): Promise<void> {
    // Where nothing is replaced DuckDB takes records apart by itself; the others are looked at here.
    const isSimple =
      this.zone === 'readings' && part.state.foreign !== true && !records.some(replaces);
    const plain: StoredRecord[] = [];
    const others: StoredRecord[] = [];
    for (const record of records) (isSimple && isPlain(record.value) ? plain : others).push(record);
    const files =
      (await this.files(part, partition, others, plain)) ??
      (await this.files(part, partition, records, [])) ??
      [];
    await this.options.lake.using(
      files.map(({ path }) => path),
      async () => {
        for (const { date, gateway, path, rows } of files) {
          await this.put(part, partition, date, gateway, path);
          this.writtenRows += rows;
        }
      },
    );
  }

  private async files(
    part: Part,
    partition: number,
    records: StoredRecord[],
    plain: StoredRecord[],
  ): Promise<WrittenFile[] | undefined> {
    const { log } = part.state;
    const isResults = this.zone === 'results';
    const rows = new Rows();
    for (const { value, offset, headers } of records) {
      // What is no such record, the store stage reports.
      const batch = readingsOf(value);
      if (batch === undefined) continue;
      const isAgain = headers[HEADER_AGAIN] !== undefined;
      const isKnown = isAgain || part.state.foreign === true;
      // Results keep all their revisions; what a rebuild says again, the lake has.
      if (isResults && isAgain) continue;
      if (!isResults) rows.replace(batch, isKnown);
      rows.add(readingRows(batch, { log, partition, offset }, isResults));
    }
    for (const [folder, addresses] of rows.dead) await this.rewrite(part, folder, addresses);
    return await this.options.lake.parquet.writeReadings(
      isResults ? 'results' : 'readings',
      rows.list(),
      plain.length === 0 ? undefined : { log, partition, records: plain },
    );
  }

  /** Takes rows out of the files that have them. */
  private async rewrite(part: Part, folder: string, addresses: Address[]): Promise<void> {
    const { lake } = this.options;
    const { log, next } = part.state;
    // A file of the step at hand is from an attempt before this one: it is replaced as a whole.
    const files = (await lake.folder(folder)).filter(
      (file) => file.log !== log || file.from !== next,
    );
    if (files.length === 0) return;
    const local = new Map<string, LakeFile>();
    for (const file of files) local.set(await lake.fetch(file), file);
    const changed = await lake.parquet.without([...local.keys()], addresses);
    await lake.using(
      changed.map(({ rewritten }) => rewritten),
      async () => {
        for (const { path, rewritten, rows } of changed) {
          const file = local.get(path);
          if (file === undefined) continue;
          if (rows === 0) await lake.remove(file.key);
          else await lake.put(file.key, rewritten);
          this.rewrittenFiles++;
        }
      },
    );
  }

  // ---- merging small files ----

  private async tidy(announce: Announce): Promise<void> {
    for (const [partition, part] of this.parts) {
      try {
        if (part.state.merge !== undefined) await this.finishMerge(part);
        for (const folder of part.touched) {
          part.touched.delete(folder);
          if (!(await this.merge(partition, part, folder, announce))) continue;
          part.touched.add(folder);
          return; // One at a time: what comes in goes first.
        }
      } catch (error) {
        if (!(error instanceof HeadwaterError) || !error.retryable) throw error;
        this.options.notify({ level: 'warn', event: 'lake_merge', text: messageOf(error) });
      }
    }
  }

  private async merge(
    partition: number,
    part: Part,
    folder: string,
    announce: Announce,
  ): Promise<boolean> {
    const { lake } = this.options;
    const own = (await lake.folder(folder)).filter(
      (file) => file.log === part.state.log && file.partition === partition,
    );
    const run = longestRun(own);
    if (run.length < SMALL_FILES) return false;
    const [first, last] = [run[0] as LakeFile, run.at(-1) as LakeFile];
    const into = `${folder}${fileName(first.log, partition, first.from, last.to)}`;
    const paths: string[] = [];
    for (const file of run) paths.push(await lake.fetch(file));
    const merged = await lake.parquet.merge(this.zone, paths);
    part.state = { ...part.state, merge: { into, from: run.map(({ key }) => key) } };
    await lake.using([merged], async () => {
      await announce([this.stateRecord(partition, part.state)]);
      await lake.put(into, merged);
    });
    await this.finishMerge(part);
    this.mergedFiles += run.length;
    return true;
  }

  /** Deletes what was merged, if the merged file is there; the next state that is written no longer speaks of it. */
  private async finishMerge(part: Part): Promise<void> {
    const { merge, ...state } = part.state;
    if (merge === undefined) return;
    const { lake } = this.options;
    const folder = merge.into.slice(0, merge.into.lastIndexOf('/') + 1);
    const isThere = (await lake.folder(folder)).some(({ key }) => key === merge.into);
    if (isThere) for (const key of merge.from) await lake.remove(key);
    part.state = state;
  }

  async close(): Promise<void> {
    await this.stage?.close();
  }
}

/** Offset after the last record that was gathered. */
const endOf = (records: readonly StoredRecord[]): number => (records.at(-1)?.offset ?? -1) + 1;

/** There is something to write; what was announced before a crash is written exactly so, once all of it is here again. */
function isWhole({ records, state }: Part): boolean {
  return records.length > 0 && (state.to === undefined || endOf(records) >= state.to);
}

/** It may take back what was said before it. */
const replaces = ({ headers, value }: StoredRecord): boolean =>
  headers[HEADER_AGAIN] !== undefined || value.includes('"was":') || value.includes('"removed":');

/** The longest run of small files: a large one between two would be said to be merged as well. */
function longestRun(files: readonly LakeFile[]): LakeFile[] {
  let best: LakeFile[] = [];
  let run: LakeFile[] = [];
  for (const file of files) {
    run = file.bytes < SMALL_BYTES ? [...run, file] : [];
    if (run.length > best.length) best = run;
  }
  return best;
}

/** Rows of one step, where a later record may replace what an earlier one said. */
class Rows {
  /** Folder → addresses whose rows in files are replaced. */
  readonly dead = new Map<string, Address[]>();
  private rows: (ReadingRow | undefined)[] = [];
  private places: Map<string, number[]> | undefined;

  private static placeOf(gateway: string, { epoch, sequence, index, timeNs: at }: Address): string {
    return `${gateway}/${epoch}/${sequence}/${index}/${at}`;
  }

  /** Forgets what the batch's readings, or those that it removes, had written. */
  replace({ gateway, epoch, readings, removed = [] }: ReadingBatch, isAgain: boolean): void {
    const kill = (sequence: number, index: number, timeMs: number, ns: number): void => {
      const address = { epoch, sequence, index, timeNs: timeNs(timeMs, ns) };
      const folder = folderOf('readings', dateOf(timeMs), gateway);
      const list = this.dead.get(folder);
      if (list === undefined) this.dead.set(folder, [address]);
      else list.push(address);
      const places = this.known();
      const place = Rows.placeOf(gateway, address);
      for (const at of places.get(place) ?? []) this.rows[at] = undefined;
      places.delete(place);
    };
    for (const { sequence, index, timeMs, ns } of removed) kill(sequence, index, timeMs, ns);
    for (const { sequence, index, timeMs, ns, was } of readings) {
      if (was !== undefined) kill(sequence, index, was.timeMs, was.ns);
      if (isAgain) kill(sequence, index, timeMs, ns);
    }
  }

  /** Made only where something is replaced. */
  private known(): Map<string, number[]> {
    if (this.places !== undefined) return this.places;
    this.places = new Map();
    for (const [at, row] of this.rows.entries()) if (row !== undefined) this.note(row, at);
    return this.places;
  }

  private note({ gateway, record: { epoch }, reading }: ReadingRow, at: number): void {
    const { sequence, index, timeMs, ns } = reading;
    const address = { epoch, sequence, index, timeNs: timeNs(timeMs, ns) };
    const place = Rows.placeOf(gateway, address);
    const list = this.places?.get(place);
    if (list === undefined) this.places?.set(place, [at]);
    else list.push(at);
  }

  add(rows: readonly ReadingRow[]): void {
    for (const row of rows) {
      if (this.places !== undefined) this.note(row, this.rows.length);
      this.rows.push(row);
    }
  }

  list(): ReadingRow[] {
    return this.rows.filter((row) => row !== undefined);
  }
}

/**
 * A log that one can read: one line of JSON for each step, with what it writes and how far its group has read. A line is
 * there as a whole or, after a crash, cut off and left out: so a step is atomic. Everything is in memory as well.
 */
import { mkdir, open, readFile, truncate, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import {
  AdapterError,
  type ConsumerOptions,
  type GroupStats,
  type Health,
  type Log,
  type LogConsumer,
  type LogRecord,
  type Produced,
  type Step,
  type StoredRecord,
  type TopicSpec,
  type Watch,
} from '@headwater/contracts';

interface Line {
  /** Topic, key, headers, value in base64. */
  records: [string, string, Record<string, string>, string][];
  /** Group, topic, offset of the next record. */
  position?: [string, string, number];
  forgotten?: string;
}

interface Options {
  folder: string;
  file: string;
  topics: readonly TopicSpec[];
  nowMs: () => number;
}

export class LinesLog implements Log {
  readonly kind = 'lines';
  readonly partitions = 1;
  private readonly options: Options;
  private file: FileHandle | undefined;
  private readonly journals = new Map<string, StoredRecord[]>();
  private readonly states = new Map<string, Map<string, LogRecord>>();
  private readonly positions = new Map<string, number>();
  private readonly watchers = new Set<[string, (records: LogRecord[]) => void]>();
  /** Consumers of a group and topic in the order in which they came: the first one reads. */
  readonly members = new Map<string, LinesConsumer[]>();
  private writing: Promise<unknown> = Promise.resolve();
  private present: Health = { up: false, sinceMs: 0, reason: 'not open yet' };

  constructor(options: Options) {
    this.options = options;
    for (const { name, compacted } of options.topics) {
      if (compacted) this.states.set(name, new Map());
      else this.journals.set(name, []);
    }
  }

  async open(): Promise<void> {
    const { folder, file, nowMs } = this.options;
    await mkdir(folder, { recursive: true });
    const path = join(folder, file);
    const bytes = await readFile(path).catch(() => Buffer.alloc(0));
    const whole = bytes.lastIndexOf('\n') + 1;
    for (const line of bytes.toString('utf8', 0, whole).split('\n'))
      if (line !== '') this.apply(JSON.parse(line) as Line);
    // What a crash has cut off was never acknowledged.
    if (whole < bytes.length) await truncate(path, whole);
    this.file = await open(path, 'a');
    this.present = { up: true, sinceMs: nowMs(), reason: '' };
  }

  /** Resolves when the line is on disk; only then does anybody see it. */
  private async write(line: Line): Promise<void> {
    const work = this.writing.then(async () => {
      const { file } = this;
      if (file === undefined) throw new AdapterError('LOG_UNAVAILABLE', 'lines: it is closed');
      try {
        await file.appendFile(`${JSON.stringify(line)}\n`);
        await file.datasync();
      } catch (error) {
        throw new AdapterError('LOG_UNAVAILABLE', `lines: ${String(error)}`, { cause: error });
      }
      this.apply(line);
    });
    this.writing = work.catch(() => undefined);
    await work;
  }

  private apply({ records, position, forgotten }: Line): void {
    for (const [topic, key, headers, base64] of records) {
      const record = { key, headers, value: Buffer.from(base64, 'base64') };
      const state = this.states.get(topic);
      const journal = this.journals.get(topic);
      journal?.push({ ...record, partition: 0, offset: journal.length });
      if (record.value.length === 0) state?.delete(key);
      else state?.set(key, record);
      for (const [watched, onRecords] of this.watchers) if (watched === topic) onRecords([record]);
    }
    if (position !== undefined) this.positions.set(`${position[0]}\0${position[1]}`, position[2]);
    for (const name of [...this.positions.keys()])
      if (forgotten !== undefined && name.startsWith(`${forgotten}\0`)) this.positions.delete(name);
  }

  async append(topic: string, records: LogRecord[]): Promise<void> {
    await this.step(
      records.map((record) => ({ ...record, topic })),
      undefined,
    );
  }

  async step(produce: Produced[], position: Line['position']): Promise<void> {
    await this.write({
      records: produce.map(({ topic, key, headers, value }) => [
        topic,
        key,
        headers,
        value.toString('base64'),
      ]),
      ...(position === undefined ? {} : { position }),
    });
  }

  consumer(options: ConsumerOptions): Promise<LogConsumer> {
    const consumer = new LinesConsumer(this, options);
    if (!consumer.isWatcher) this.members.set(consumer.name, [...this.queue(consumer), consumer]);
    return Promise.resolve(consumer);
  }

  queue({ name }: LinesConsumer): LinesConsumer[] {
    return this.members.get(name) ?? [];
  }

  journal(topic: string): StoredRecord[] {
    return this.journals.get(topic) ?? [];
  }

  committed(name: string): number | undefined {
    return this.positions.get(name);
  }

  state(topic: string, _partition: number, keyPrefix: string): Promise<LogRecord[]> {
    const records = [...(this.states.get(topic)?.values() ?? [])];
    return Promise.resolve(records.filter(({ key }) => key.startsWith(keyPrefix)));
  }

  async watch(topic: string, onRecords: (records: LogRecord[]) => void): Promise<Watch> {
    const watcher: [string, typeof onRecords] = [topic, onRecords];
    onRecords(await this.state(topic, 0, ''));
    this.watchers.add(watcher);
    return {
      close: () => {
        this.watchers.delete(watcher);
        return Promise.resolve();
      },
    };
  }

  groups(): GroupStats[] {
    const names = new Set([...this.positions.keys(), ...this.members.keys()]);
    return [...names].map((name) => {
      const [group = '', topic = ''] = name.split('\0');
      return { group, topic, lagRecords: this.journal(topic).length - (this.committed(name) ?? 0) };
    });
  }

  async forget(group: string): Promise<void> {
    await this.write({ records: [], forgotten: group });
  }

  health(): Health {
    return this.present;
  }

  warnings(): string[] {
    return [];
  }

  async close(): Promise<void> {
    await this.writing;
    await this.file?.close();
    this.file = undefined;
    this.present = { up: false, sinceMs: this.options.nowMs(), reason: 'it is closed' };
  }
}

const LOOK_EVERY_MS = 5;

class LinesConsumer implements LogConsumer {
  readonly name: string;
  readonly isWatcher: boolean;
  private readonly log: LinesLog;
  private readonly options: ConsumerOptions;
  /** Undefined until it is this one's turn. */
  private next: number | undefined;
  private isClosed = false;

  constructor(log: LinesLog, options: ConsumerOptions) {
    this.log = log;
    this.options = options;
    this.name = `${options.group}\0${options.topic}`;
    this.isWatcher = options.from === 'end' || options.watches === true;
    if (this.isWatcher) this.next = options.from === 'end' ? log.journal(options.topic).length : 0;
  }

  /** Where it goes on, once the partition is its own. */
  private async place(): Promise<number | undefined> {
    if (this.next !== undefined) return this.next;
    if (this.isClosed || this.log.queue(this)[0] !== this) return undefined;
    const { topic, onAssign } = this.options;
    const committed = this.log.committed(this.name);
    const own = await onAssign?.(0, committed);
    const isThere = own !== undefined && own <= this.log.journal(topic).length;
    this.next = isThere ? own : (committed ?? 0);
    return this.next;
  }

  async poll(waitMs: number): Promise<StoredRecord[]> {
    const deadline = performance.now() + waitMs;
    for (;;) {
      const at = await this.place();
      const records: StoredRecord[] = [];
      let bytes = 0;
      for (const record of at === undefined ? [] : this.log.journal(this.options.topic).slice(at)) {
        bytes += record.value.length;
        if (records.length > 0 && bytes > this.options.bytesMax) break;
        records.push(record);
      }
      if (at !== undefined && records.length > 0) this.next = at + records.length;
      if (records.length > 0 || this.isClosed || performance.now() >= deadline) return records;
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
  }

  async commit({ produce, offsets }: Step): Promise<void> {
    if (this.next === undefined)
      throw new AdapterError('LOG_FENCED', `lines: another consumer reads ${this.options.topic}`);
    const next = offsets.get(0);
    const { group, topic } = this.options;
    try {
      await this.log.step(produce, next === undefined ? undefined : [group, topic, next]);
    } catch (error) {
      this.next = undefined; // It goes on from what is committed.
      throw error;
    }
  }

  ended(): ReadonlySet<number> {
    const isAtEnd =
      this.next !== undefined && this.next >= this.log.journal(this.options.topic).length;
    return new Set(isAtEnd ? [0] : []);
  }

  close(): Promise<void> {
    this.isClosed = true;
    this.next = undefined;
    const rest = this.log.queue(this).filter((each) => each !== this);
    if (rest.length === 0) this.log.members.delete(this.name);
    else this.log.members.set(this.name, rest);
    return Promise.resolve();
  }
}

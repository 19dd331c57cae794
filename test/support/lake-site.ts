/** The collector's way from raw frames to the lake, on a real log, DuckDB and disk, in this process: to be damaged. */
import { join } from 'node:path';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { ReplayJobs } from '../../collector/decode/replay-jobs.ts';
import { Replayer } from '../../collector/decode/replay.ts';
import { DecodeStage } from '../../collector/decode/stage.ts';
import { Heal } from '../../collector/heal.ts';
import { Lake } from '../../collector/lake/lake.ts';
import { ZONES, type Zone } from '../../collector/lake/layout.ts';
import { LocalObjects, type FileCalls } from '../../collector/lake/local.ts';
import type { ObjectStore } from '../../collector/lake/object-store.ts';
import { Scrub } from '../../collector/lake/scrub.ts';
import { LakeStage } from '../../collector/lake/stage.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { TOPIC_RAW, type LogRecord } from '../../collector/log/log.ts';
import { topics } from '../../collector/log/topics.ts';
import { Rebuild } from '../../collector/rebuild.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import { CLOCK_SYNCHRONISED } from '../../shared/frame/frame.ts';
import { until } from './process.ts';

const LIMITS = { perClient: 1000, perGateway: 1000 };

/** A frame of `count` messages `{"n": sequence}` of a gateway; by their devices' time in turn of so many `days`. */
export function frameOf(
  first: number,
  count: number,
  { gateway = 'gw', epoch = '0102030405060708', dayMs = Date.UTC(2026, 4, 1, 12), days = 1 } = {},
): LogRecord {
  const builder = new FrameBuilder();
  for (let at = 0; at < count; at++) {
    const time = dayMs + ((at + 1) % days) * 86_400_000 + (first + at) * 1000;
    const own = days > 1 ? `,"time":${time}` : '';
    builder.add(
      {
        client: 'c',
        topic: 'hall/1/n',
        qos: 1,
        retain: false,
        dup: false,
        payload: Buffer.from(`{"n":${first + at},"t":${((first + at) * 7) % 1000}${own}}`),
      },
      (dayMs + (first + at) * 1000) * 1000,
      1,
    );
  }
  const identity = { gateway, epoch: Buffer.from(epoch, 'hex'), bootId: Buffer.alloc(8) };
  const value = builder.finish(identity, first, CLOCK_SYNCHRONISED, true);
  return { key: gateway, value, headers: { arrived: String(dayMs + first * 1000), lane: '0' } };
}

const elsewhere = (store: LocalObjects): ObjectStore => ({
  kind: 'elsewhere',
  address: store.address,
  open: () => store.open(),
  put: (key, file) => store.put(key, file),
  get: (key) => store.get(key),
  list: (prefix) => store.list(prefix),
  remove: (key) => store.remove(key),
  path: () => undefined,
  close: () => store.close(),
});

interface Parts {
  Log?: typeof EmbeddedLog;
  files?: FileCalls;
  isElsewhere?: boolean;
  flushMs?: number;
  /** Nothing is made again before `site.heals()`. */
  isHealHeld?: boolean;
}

export class LakeSite {
  readonly folder: string;
  readonly said: string[] = [];
  log!: EmbeddedLog;
  lake!: Lake;
  scrub!: Scrub;
  heal!: Heal;
  rebuild!: Rebuild;
  jobs!: ReplayJobs;
  decode!: DecodeStage;
  private stages: { close(): Promise<void> }[] = [];
  private ids = 0;

  private readonly parts: Parts;

  /** `parts`: ones that are watched. `flushMs`: records wait so long for the lake. */
  constructor(folder: string, parts: Parts = {}) {
    this.folder = folder;
    this.parts = parts;
  }

  get lakeFolder(): string {
    return join(this.folder, 'lake');
  }

  async open(): Promise<void> {
    const { folder } = this;
    const notify = ({ text }: { text: string }): void => void this.said.push(text);
    const nowMs = (): number => Date.now();
    const { Log = EmbeddedLog, files, isElsewhere = false, flushMs = 1 } = this.parts;
    const log = new Log(
      { folder, cacheBytes: 1 << 22, topics: topics(Infinity), now: nowMs, reopenMs: 5 },
      notify,
    );
    await log.open();
    const decode = new DecodeStage(log, new Mappings([]), LIMITS, notify);
    decode.start();
    const newId = (): string => `${Date.now().toString(36)}${this.ids++}`;
    const jobs = new ReplayJobs(log, nowMs, newId);
    const mappings = (): Mappings => decode.decoder.mappings;
    const replayer = new Replayer({ log, jobs, mappings, limits: LIMITS, nowMs, notify });
    await jobs.start();
    const options = { folder, memoryBytes: 256 << 20, cacheBytes: 1 << 24 };
    const store = new LocalObjects(this.lakeFolder, files);
    // As on S3 or HDFS: every file is fetched before it is read.
    const lake = new Lake(isElsewhere ? elsewhere(store) : store, options);
    lake.check.notify = notify;
    await lake.open();
    const stages = ZONES.map(
      (zone) => new LakeStage({ zone, log, lake, flushMs, flushBytes: 1 << 20, notify }),
    );
    const rebuild = new Rebuild(log, lake, jobs, newId);
    const heal = new Heal({ log, lake, rebuild, replays: jobs, newId });
    if (this.parts.isHealHeld === true) heal.ask = () => undefined;
    for (const stage of stages) stage.start();
    const scrub = new Scrub(lake, notify, nowMs);
    // As the scrub does when it starts.
    await lake.check.learnAll();
    Object.assign(this, { log, lake, heal, rebuild, jobs, decode, scrub });
    this.stages = [scrub, heal, replayer, jobs, decode, ...stages, rebuild, lake, log];
  }

  heals(): void {
    this.heal.ask = Heal.prototype.ask.bind(this.heal);
    this.heal.ask();
  }

  async append(records: LogRecord[]): Promise<void> {
    await this.log.append(TOPIC_RAW, records);
  }

  /** Until decode and lake have everything that the log has, several times in a row. */
  async caughtUp(): Promise<void> {
    let quiet = 0;
    await until('decode and lake to have everything', () => {
      const groups = this.log.groups().filter(({ group }) => /-decode$|-lake-/.test(group));
      const isQuiet = groups.length >= 3 && groups.every(({ lagRecords }) => lagRecords === 0);
      quiet = isQuiet ? quiet + 1 : 0;
      return quiet >= 4 || undefined;
    });
  }

  /** Until nothing is lost any more, or what is lost has no source. */
  async healed(): Promise<void> {
    const { check } = this.lake;
    await until(
      'what was lost to be there again',
      () => (check.less.zones.size === 0 && check.damages.every(({ final }) => final)) || undefined,
      60_000,
    ).catch((error: unknown) => {
      const said = [...this.said.slice(-20), JSON.stringify(check.damages)].join('\n');
      throw new Error(`not made again:\n${said}`, { cause: error });
    });
  }

  /** What a reader without us sees: every row of a zone, by its identity and its values. */
  async rows(zone: Zone): Promise<string[]> {
    const columns =
      zone === 'raw'
        ? 'gateway, epoch, kind, first_sequence, md5(hex(frame))'
        : 'gateway, epoch, sequence, "index", time_ns, series, fields, texts, bools';
    return await this.lake.query({ zones: [zone], withoutLost: true }, async (connection) =>
      (await connection.runAndReadAll(`SELECT ${columns} FROM ${zone} ORDER BY ALL`))
        .getRows()
        .map((row) => row.map(String).join(' ')),
    );
  }

  async close(): Promise<void> {
    for (const stage of this.stages) await stage.close();
  }
}

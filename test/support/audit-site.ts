/** The whole collector's way, store included, with an audit; and damage that every checksum agrees with. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { Audit } from '../../collector/audit/audit.ts';
import { openDuckDb, quote, type DuckDBConnection } from '../../collector/duckdb/database.ts';
import { decode, encode, topicPrefix } from '../../collector/log/embedded-records.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { TOPIC_READINGS } from '../../collector/log/log.ts';
import { parseKey } from '../../collector/lake/layout.ts';
import { entryOf } from '../../collector/lake/write.ts';
import { DuckDbStore } from '../../collector/store/duckdb.ts';
import { StoreStage } from '../../collector/store/stage.ts';
import type { TimeSeriesStore } from '../../collector/store/store.ts';
import { after, type KvDatabase } from '../../shared/kv/kv.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { LakeSite } from './lake-site.ts';
import { until } from './process.ts';

/** What is on disk counts: nothing is answered from memory. */
class PlainLog extends EmbeddedLog {
  constructor(...[options, notify]: ConstructorParameters<typeof EmbeddedLog>) {
    super({ ...options, cacheBytes: 0 }, notify);
  }
}

export interface Damaged {
  stage: 'log' | 'lake' | 'store';
  how: string;
  gateway: string;
  epoch: string;
  sequence: number;
}

export const nameOf = ({ stage, gateway, epoch, sequence }: Omit<Damaged, 'how'>): string =>
  `${stage} ${gateway}/${epoch}/${sequence}`;

export class AuditSite extends LakeSite {
  store!: TimeSeriesStore;
  private readonly create: ((notify: Notify) => TimeSeriesStore) | undefined;
  storing!: StoreStage;
  audit!: Audit;

  /** `create`: another store than the embedded one. */
  constructor(
    folder: string,
    create?: (notify: Notify) => TimeSeriesStore,
    { isHealHeld = false } = {},
  ) {
    super(folder, { Log: PlainLog, isHealHeld });
    this.create = create;
  }

  override async open(): Promise<void> {
    await super.open();
    const { folder, log, lake, jobs: replays, rebuild } = this;
    const notify = ({ text }: { text: string }): void => void this.said.push(text);
    const embedded = { folder, memoryBytes: 128 << 20, now: Date.now };
    this.store = this.create?.(notify) ?? new DuckDbStore(embedded, notify);
    await this.store.open();
    this.storing = new StoreStage({ log, store: this.store, notify, fillRate: 100_000 });
    this.storing.start();
    this.storing.fill.lake = lake;
    let ids = 0;
    this.audit = new Audit({
      log,
      lake,
      store: this.store,
      storing: this.storing,
      again: { replays, rebuild },
      folder,
      notify,
      nowMs: Date.now,
      newId: () => `audit${ids++}`,
    });
  }

  override async caughtUp(): Promise<void> {
    await super.caughtUp();
    await until('the store to have everything', () => {
      const groups = this.log.groups().filter(({ group }) => group.startsWith('headwater-store-'));
      return (
        (groups.length >= 2 && groups.every(({ lagRecords }) => lagRecords === 0)) || undefined
      );
    });
  }

  /** On the store's own tables. */
  async inStore(work: (connection: DuckDBConnection) => Promise<void>): Promise<void> {
    const turns = this.store as unknown as {
      inTurn(work: (connection: DuckDBConnection) => Promise<void>): Promise<void>;
    };
    await turns.inTurn(work);
  }

  /** Every point of the store, by its identity. */
  async stored(): Promise<string[]> {
    let rows: string[] = [];
    await this.inStore(async (connection) => {
      const sql =
        'SELECT gateway, epoch, seq, idx, time, measurement, field, num, txt FROM points JOIN origins ON origins.id = origin JOIN series ON series.id = series ORDER BY ALL';
      rows = (await connection.runAndReadAll(sql))
        .getRows()
        .map((row) => row.map(String).join(' '));
    });
    return rows;
  }

  private get db(): KvDatabase {
    return (this.log as unknown as { db: KvDatabase }).db;
  }

  /** Rewrites a record of the log in its place, with a checksum that is right; undefined removes it. */
  async rewriteLog(
    edit: (document: LogDocument, at: number) => LogDocument | undefined,
  ): Promise<void> {
    const prefix = topicPrefix(TOPIC_READINGS);
    const entries = await this.db.read({ gte: prefix, lt: after(prefix) }, Infinity);
    for (const [at, [key, bytes]] of entries.entries()) {
      const record = decode(bytes);
      const document = JSON.parse(record.value.toString('utf8')) as LogDocument;
      const text = JSON.stringify(document);
      const edited = edit(document, at);
      if (edited !== undefined && JSON.stringify(edited) === text) continue;
      const value = edited && encode({ ...record, value: Buffer.from(JSON.stringify(edited)) });
      const op =
        value === undefined
          ? ({ type: 'del', key } as const)
          : ({ type: 'put', key, value } as const);
      await this.db.write([op], { sync: true });
    }
  }

  /** Rewrites a file of the lake, and its manifest entry with it: every checksum is right afterwards. */
  async rewriteLake(
    key: string,
    select: (rows: string) => string,
    groupRows = 122_880,
  ): Promise<void> {
    const { lake } = this;
    const path = join(this.lakeFolder, key);
    const made = `${path}.made`;
    const instance = await openDuckDb(':memory:', { memoryBytes: 64 << 20, files: true });
    const connection = await instance.connect();
    await connection.run("SET TimeZone = 'UTC'");
    const rows = `SELECT * FROM read_parquet(${quote(path)}, hive_partitioning = false)`;
    await connection.run(
      `COPY (${select(rows)}) TO ${quote(made)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE ${groupRows})`,
    );
    connection.closeSync();
    instance.closeSync();
    const date = /date=([^/]+)/.exec(key)?.[1] ?? '';
    const zone = parseKey({ key, bytes: 0, version: '' })?.zone ?? 'readings';
    const catalog = lake.catalog(zone);
    const entry = (await catalog.day(date)).entries.get(key);
    const facts = await lake.parquet.facts(zone, made);
    const now = await entryOf(key, made, facts);
    await lake.store.put(key, made);
    rmSync(made, { force: true });
    const put = [{ ...now, spans: entry?.spans ?? now.spans }];
    await catalog.commit(lake.check.writer, new Map([[date, { put, isAnew: true as const }]]));
  }

  override async close(): Promise<void> {
    await this.audit.close();
    await this.storing.close();
    await this.store.close();
    await super.close();
  }
}

export interface LogDocument {
  gateway: string;
  epoch: string;
  readings: { sequence: number; time: number; fields: Record<string, unknown> }[];
}

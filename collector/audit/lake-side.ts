/**
 * What the lake has, for the audit: sums of a day or of sequences, and readings themselves. Every file is compared with
 * its checksum before it is read, so what is counted here is what was written.
 */
import type { ReadingBatch } from '../../shared/model/reading.ts';
import type { DuckDBConnection } from '../duckdb/database.ts';
import { quote, rowsOf } from '../duckdb/database.ts';
import {
  onlyAsked,
  pointsOfReadings,
  stageAsked,
  sumsOf,
  sumsSql,
  type Asked,
  type PointSum,
} from '../duckdb/points.ts';
import { again } from '../lake/again.ts';
import type { Lake } from '../lake/lake.ts';
import { newest, select } from '../lake/lake-sql.ts';
import type { LakeFile, Zone } from '../lake/layout.ts';
import { union, type Spans } from '../lake/manifest.ts';
import { filesWith } from '../lake/replace.ts';
import { identityName } from '../store/changes.ts';
import { changeOf, CHANGE_COLUMNS } from '../store/lake-source.ts';
import type { Change, Identity } from '../store/store.ts';
import type { SumsAsked } from '../store/sums.ts';
import type { AuditEngine } from './engine.ts';
import type { Bounds } from './log-side.ts';

const ZONES: readonly Zone[] = ['readings', 'results'];
/** A file that was compared so recently need not be again. */
const TRUST_MS = 600_000;

/** What readings and results both have. */
const COLUMNS =
  'gateway, epoch, sequence, "index", time_ns, late, measurement, series, tags, fields, texts, bools, arrived, log, log_partition, log_offset';

export const isResult = (gateway: string): boolean => gateway.startsWith('~');

export class LakeSide {
  readonly lake: Lake;
  private readonly engine: AuditEngine;
  /** 0: every file is compared anew. */
  trustMs = TRUST_MS;
  private readonly offsets = new Map<string, Bounds>();

  constructor(lake: Lake, engine: AuditEngine) {
    this.lake = lake;
    this.engine = engine;
  }

  /** Days that files or manifests have. */
  async days(): Promise<string[]> {
    const days = new Set<string>();
    for (const zone of ZONES) for (const { date } of await this.lake.files(zone)) days.add(date);
    return [...days];
  }

  /** Whether rows of this day are being made again: there is nothing to compare until they are there. */
  isHealing(day?: string): boolean {
    return (
      this.lake.check.less.zones.size > 0 ||
      this.lake.check.damages.some(({ date, final }) => !final && (day ?? date) === date)
    );
  }

  /** On the readings and results of a day, as SQL. */
  async onDay<T>(
    day: string,
    work: (connection: DuckDBConnection, readings: string) => Promise<T>,
  ): Promise<T> {
    return await this.reading((zone) => this.lake.check.files(zone, { from: day, to: day }), work);
  }

  /** Sums of a day. */
  async day(day: string, { level, only }: Pick<SumsAsked, 'level' | 'only'>): Promise<PointSum[]> {
    return await this.onDay(day, async (connection, readings) => {
      const points = pointsOfReadings(readings);
      if (only === undefined) return await sumsOf(connection, sumsSql(points, level));
      await stageAsked(connection, only.asked);
      return await sumsOf(connection, sumsSql(onlyAsked(points, only.by), level));
    });
  }

  /** Sums of readings, wherever they are. `days`: where they were seen, for files that no manifest speaks of. */
  async sums(asked: readonly Asked[], days: ReadonlySet<string>): Promise<PointSum[]> {
    if (asked.length === 0) return [];
    return await this.reading(
      (zone) => this.filesOf(zone, asked, days),
      async (connection, readings) => {
        await stageAsked(connection, asked);
        const points = onlyAsked(pointsOfReadings(onlyAsked(readings, 'reading')), 'reading');
        return await sumsOf(connection, sumsSql(points, 'reading'));
      },
    );
  }

  /** Of these, the results of which there is a revision in the lake, by the names of their identities. */
  async results(asked: readonly Identity[]): Promise<Set<string>> {
    const own = asked.filter(({ gateway }) => isResult(gateway));
    if (own.length === 0) return new Set();
    return await this.lake.query({ zones: ['results'], allRevisions: true }, async (connection) => {
      await stageAsked(connection, own);
      const sql = `SELECT DISTINCT gateway, epoch, sequence, "index" FROM (${onlyAsked('SELECT * FROM results', 'reading')})`;
      const rows = (await connection.runAndReadAll(sql)).getRows();
      return new Set(
        rows.map(([gateway, epoch, sequence, index]) =>
          identityName({
            gateway: String(gateway),
            epoch: String(epoch),
            sequence: Number(sequence),
            index: Number(index),
          }),
        ),
      );
    });
  }

  /** The readings of these sequences, as changes of a store. */
  async changes(asked: readonly Asked[], days: ReadonlySet<string>): Promise<Change[]> {
    if (asked.length === 0) return [];
    return await this.reading(
      (zone) => this.filesOf(zone, asked, days),
      async (connection, readings) => {
        await stageAsked(connection, asked);
        const found: Change[] = [];
        const sql = `SELECT ${CHANGE_COLUMNS} FROM (${onlyAsked(readings, 'reading')})`;
        for await (const row of rowsOf(connection, sql)) found.push(changeOf(row));
        return found;
      },
    );
  }

  /** Readings that a writer took from these offsets of its log, as records that say them again, by gateway and epoch. */
  async from(
    writer: string,
    partition: number,
    { from, to }: Bounds,
    isAsked: (identity: Identity, offset: number) => boolean,
  ): Promise<ReadingBatch[]> {
    const filesOf = async (zone: Zone): Promise<LakeFile[]> =>
      zone === 'results' ? [] : await this.spanning(writer, { from, to });
    return await this.reading(filesOf, async (connection, readings) => {
      const where = `log = ${quote(writer)} AND log_partition = ${partition} AND log_offset >= ${from} AND log_offset < ${to}`;
      const sql = `SELECT ${CHANGE_COLUMNS}, epoch_us(arrived), log_offset FROM (${readings}) WHERE ${where} ORDER BY gateway, epoch, sequence`;
      const batches = new Map<string, ReadingBatch>();
      for await (const row of rowsOf(connection, sql)) {
        const { identity, put } = changeOf(row.slice(0, -2));
        const [arrivedUs, offset] = row.slice(-2).map(Number) as [number, number];
        if (put === undefined || !isAsked(identity, offset)) continue;
        const { gateway, epoch } = identity;
        const arrivedMs = arrivedUs / 1000;
        const name = JSON.stringify([gateway, epoch, arrivedMs]);
        const batch = batches.get(name);
        if (batch === undefined) batches.set(name, { gateway, epoch, arrivedMs, readings: [put] });
        else batch.readings.push(put);
      }
      return [...batches.values()];
    });
  }

  /** Files of a writer with rows of these offsets: of each file they are asked for once in a pass. */
  private async spanning(writer: string, { from, to }: Bounds): Promise<LakeFile[]> {
    const files = (await this.lake.files('readings')).filter(({ log }) => log === writer);
    const found: LakeFile[] = [];
    for (const file of files) {
      const name = `${file.key} ${file.version}`;
      let span = this.offsets.get(name);
      if (span === undefined) {
        const [path] = (await this.lake.whole([file], this.trustMs)).keys();
        span = path === undefined ? { from: 0, to: 0 } : await this.offsetsOf(path);
        this.offsets.set(name, span);
      }
      if (span.from < to && span.to > from) found.push(file);
    }
    return found;
  }

  private async offsetsOf(path: string): Promise<Bounds> {
    const sql = `SELECT min(log_offset), max(log_offset) FROM read_parquet(${quote(path)}, hive_partitioning = false)`;
    return await this.engine.with(async (connection) => {
      const [row] = (await connection.runAndReadAll(sql)).getRows();
      return { from: Number(row?.[0] ?? 0), to: Number(row?.[1] ?? -1) + 1 };
    });
  }

  private async filesOf(
    zone: Zone,
    asked: readonly Asked[],
    days: ReadonlySet<string>,
  ): Promise<LakeFile[]> {
    if (zone === 'results') {
      if (!asked.some(({ gateway }) => isResult(gateway))) return [];
      // A window is no sequence, and its revisions lie in the days of their times.
      const files = await this.lake.files(zone);
      return files.filter(({ date }) => days.size === 0 || days.has(date));
    }
    const byGateway = new Map<string, Spans[]>();
    for (const { gateway, epoch, sequence } of asked) {
      if (isResult(gateway)) continue;
      const span: Spans = { [epoch]: [[sequence, sequence]] };
      const list = byGateway.get(gateway);
      if (list === undefined) byGateway.set(gateway, [span]);
      else list.push(span);
    }
    const files: LakeFile[] = [];
    for (const [gateway, spans] of byGateway) {
      const where = { spans: union(spans), dates: days };
      files.push(...(await filesWith(this.lake, zone, gateway, where, () => false)));
    }
    return files;
  }

  /** Readings and newest results of some files, as SQL. Begins again when files were merged meanwhile. */
  private async reading<T>(
    filesOf: (zone: Zone) => Promise<LakeFile[]>,
    work: (connection: DuckDBConnection, readings: string) => Promise<T>,
  ): Promise<T> {
    return await again(async () => {
      const selects: string[] = [];
      for (const zone of ZONES) {
        const whole = await this.lake.whole(await filesOf(zone), this.trustMs);
        const all = select(zone, [...whole.keys()]);
        selects.push(zone === 'results' ? newest(all) : all);
      }
      const readings = selects
        .map((select) => `SELECT ${COLUMNS} FROM (${select})`)
        .join(' UNION ALL ');
      return await this.engine.with((connection) => work(connection, readings));
    });
  }
}

/** Raw frames: what the log has of them and the lake not, byte for byte; and whether those of the lake are whole. */
import { checkFrame } from '../../shared/frame/frame.ts';
import { RangeSet } from '../../shared/model/ranges.ts';
import { LAKE_ATTEMPTS, isGone } from '../lake/again.ts';
import type { Lake } from '../lake/lake.ts';
import type { LakeFile } from '../lake/layout.ts';
import { union, type Spans } from '../lake/manifest.ts';
import { forgottenBefore } from '../lake/forgotten.ts';
import type { StoredFrame } from '../lake/engine.ts';
import { filesWith } from '../lake/replace.ts';
import { rawRow, type RawRow } from '../lake/rows.ts';
import { TOPIC_RAW, type Log, type LogRecord, type StoredRecord } from '../log/log.ts';
import type { Pacing } from './compare.ts';
import { epochName } from './epoch-name.ts';
import type { Bounds } from './log-side.ts';

const POLL_MS = 200;
const WINDOW_BYTES = 4 * 1024 * 1024;

export interface Missing {
  record: LogRecord;
  /** Of its epoch, by `epochName`. */
  name: string;
  from: number;
  to: number;
}

interface Where {
  spans: Spans;
  dates: Set<string>;
}

export interface RawComparison {
  frames: number;
  /** The log has them, and the lake not. */
  missing: Missing[];
  /** Epoch, by `epochName` → sequences of frames that the lake has and that are damaged. */
  damaged: Map<string, RangeSet>;
}

export class RawSide {
  private readonly log: Log;
  private readonly lake: Lake;
  private readonly newId: () => string;

  constructor(log: Log, lake: Lake, newId: () => string) {
    this.log = log;
    this.lake = lake;
    this.newId = newId;
  }

  async compare(bounds: ReadonlyMap<number, Bounds>, pacing: Pacing): Promise<RawComparison> {
    const found: RawComparison = { frames: 0, missing: [], damaged: new Map() };
    const consumer = await this.log.consumer({
      group: `headwater-audit-${this.newId()}`,
      topic: TOPIC_RAW,
      from: 'start',
      watches: true,
      bytesMax: WINDOW_BYTES,
    });
    const forgotten = await forgottenBefore(this.lake);
    try {
      while (!pacing.isStopped()) {
        const records = (await consumer.poll(POLL_MS)).filter(({ partition, offset }) => {
          const { from, to } = bounds.get(partition) ?? { from: 0, to: 0 };
          return offset >= from && offset < to;
        });
        const began = performance.now();
        found.frames += records.length;
        found.missing.push(...(await this.unknown(records, forgotten)));
        await pacing.rest(performance.now() - began);
        if (consumer.ended().size >= this.log.partitions) break;
      }
    } finally {
      await consumer.close();
    }
    return found;
  }

  /** `forgotten`: frames of days before it the lake is not to have. */
  private async unknown(records: readonly StoredRecord[], forgotten: string): Promise<Missing[]> {
    const byGateway = new Map<string, { record: StoredRecord; row: RawRow }[]>();
    for (const record of records) {
      const row = rawRow(record, '');
      // What is no whole frame is in quarantine, and nothing is decoded of it.
      if (row.kind < 0 || row.date < forgotten) continue;
      const list = byGateway.get(row.gateway);
      if (list === undefined) byGateway.set(row.gateway, [{ record, row }]);
      else list.push({ record, row });
    }
    const missing: Missing[] = [];
    for (const [gateway, list] of byGateway) {
      const rows = list.map(({ row }) => row);
      const spans = union(rows.map(spanOf));
      const where: Where = { spans, dates: new Set(rows.map(({ date }) => date)) };
      const known = await whileMerging(() => this.known(gateway, where, rows));
      for (const [place, { record, row }] of list.entries())
        if (!known.has(place) && isOfEpoch(row))
          missing.push({
            record: { key: record.key, value: record.value, headers: record.headers },
            name: epochName(gateway, row.epoch),
            from: row.firstSequence,
            to: row.firstSequence + Math.max(1, row.count) - 1,
          });
    }
    return missing;
  }

  /**
   * Places in the list of the frames that the lake has. A file that was merged since it was listed counts no more, and the one
   * that it was merged into was not listed: what seems to lack is looked for until the files stay the same.
   */
  private async known(
    gateway: string,
    where: Where,
    rows: readonly RawRow[],
  ): Promise<Set<number>> {
    let before: string | undefined;
    for (let attempt = 1; ; attempt++) {
      const files = await filesWith(this.lake, 'raw', gateway, where, () => false);
      const paths = [...(await this.lake.whole(files, 600_000)).keys()];
      const known =
        paths.length === 0 ? new Set<number>() : await this.lake.parquet.known(paths, rows);
      const names = files
        .map(({ key, version }) => `${key} ${version}`)
        .sort()
        .join();
      const isAll = rows.every((row, at) => !isOfEpoch(row) || known.has(at));
      if (isAll || names === before || attempt === LAKE_ATTEMPTS) return known;
      before = names;
    }
  }

  /** Undefined: the file is not there any more. */
  private async frames(file: LakeFile): Promise<StoredFrame[] | undefined> {
    try {
      const path = await this.lake.check.whole(file, 600_000);
      return path === undefined ? [] : await this.lake.parquet.frames(path);
    } catch (error) {
      if (!isGone(error)) throw error;
      return undefined;
    }
  }

  /** Looks at every frame that the lake has. */
  async check(found: RawComparison, pacing: Pacing): Promise<void> {
    const seen = new Set<string>();
    const queue = await this.lake.files('raw');
    for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
      if (pacing.isStopped()) return;
      if (seen.has(file.key)) continue;
      seen.add(file.key);
      const began = performance.now();
      const rows = await this.frames(file);
      // It was merged meanwhile: what became of it is looked at.
      if (rows === undefined)
        queue.push(...(await this.lake.folder(file.key.slice(0, file.key.lastIndexOf('/') + 1))));
      for (const { frame, kind, epoch, firstSequence } of rows ?? []) {
        if (kind < 0 || isWhole(frame)) continue;
        const name = epochName(file.gateway, epoch);
        let set = found.damaged.get(name);
        if (set === undefined) found.damaged.set(name, (set = new RangeSet()));
        set.add(firstSequence, firstSequence);
      }
      await pacing.rest(performance.now() - began);
    }
  }
}

/** Once more when files were merged meanwhile. */
async function whileMerging<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++)
    try {
      return await work();
    } catch (error) {
      if (!isGone(error) || attempt === LAKE_ATTEMPTS) throw error;
    }
}

function isWhole(frame: Buffer): boolean {
  try {
    checkFrame(frame);
    return true;
  } catch {
    return false;
  }
}

/** Status reports are of no epoch's messages. */
const isOfEpoch = ({ kind }: RawRow): boolean => kind <= 3;

function spanOf(row: RawRow): Spans {
  if (!isOfEpoch(row)) return {};
  const { epoch, firstSequence, count } = row;
  return { [epoch]: [[firstSequence, firstSequence + Math.max(1, count) - 1]] };
}

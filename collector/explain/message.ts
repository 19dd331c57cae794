/** From an identity to the bytes as received: the frame that holds it, in the lake's raw zone or in the log. */
import {
  KIND_RECORDS,
  checkFrame,
  readHeader,
  readRecords,
  type FrameHeader,
  type FrameRecord,
} from '../../shared/frame/frame.ts';
import { quote } from '../duckdb/database.ts';
import type { Lake } from '../lake/lake.ts';
import { pathList } from '../lake/lake-sql.ts';
import { filesWith } from '../lake/replace.ts';
import { objectOf } from '../lake/scan.ts';
import { TOPIC_RAW, type Log } from '../log/log.ts';
import type { Identity } from '../store/store.ts';
import { onFiles, rowsIn } from './rows.ts';
import { lakeHas, scan, type ScanLimits } from './tail.ts';

export interface Message {
  frame: Buffer;
  header: FrameHeader;
  /** Undefined: the frame is a summary of messages that the gateway thinned out. */
  record: FrameRecord | undefined;
  headers: Record<string, string>;
  where: { lake?: string; log?: { topic: string; partition: number; offset: number } };
}

function messageOf(
  frame: Buffer,
  headers: Record<string, string>,
  sequence: number,
  where: Message['where'],
): Message {
  const header = checkFrame(frame);
  const record =
    header.kind === KIND_RECORDS
      ? readRecords(frame, header).find((each) => each.sequence === sequence)
      : undefined;
  return { frame, header, record, headers, where };
}

async function inLake(lake: Lake, identity: Identity): Promise<Message | undefined> {
  const { gateway, epoch, sequence } = identity;
  const spans = { [epoch]: [[sequence, sequence] as [number, number]] };
  return await onFiles(
    lake,
    () => filesWith(lake, 'raw', gateway, { spans, dates: [] }, () => false),
    async (connection, paths, keys) => {
      if (paths.length === 0) return undefined;
      const sql = `SELECT frame, headers, filename FROM read_parquet(${pathList(paths)}, union_by_name = true, hive_partitioning = false, filename = true) WHERE gateway = ${quote(gateway)} AND epoch = ${quote(epoch)} AND kind BETWEEN 0 AND 3 AND first_sequence <= ${sequence} AND first_sequence + "count" > ${sequence} LIMIT 1`;
      const [row] = await rowsIn(connection, sql);
      if (row === undefined) return undefined;
      const [bytes, headers, name] = row;
      const frame = Buffer.from((bytes as { bytes: Uint8Array }).bytes); // A BLOB column.
      const where = { lake: keys.get(String(name)) ?? '' };
      return messageOf(frame, objectOf<string>(headers), sequence, where);
    },
  );
}

/** Throws LAKE_UNAVAILABLE, LOG_UNAVAILABLE, FRAME_INVALID for a frame that is damaged. */
export async function findMessage(
  { lake, log }: { lake: Lake | undefined; log: Log },
  identity: Identity,
  limits: ScanLimits,
  doubts: string[],
): Promise<Message | undefined> {
  const stored = lake === undefined ? undefined : await inLake(lake, identity);
  if (stored !== undefined) return stored;
  const { gateway, epoch, sequence } = identity;
  let found: Message | undefined;
  const from = lake === undefined ? undefined : await lakeHas(log, 'raw');
  const unread = await scan(log, TOPIC_RAW, from, limits, (record) => {
    if (record.key !== gateway) return undefined;
    const { value, headers, partition, offset } = record;
    try {
      const header = readHeader(value);
      const { firstSequence, count, kind } = header;
      if (header.epoch !== epoch || kind > 3) return undefined;
      if (sequence < firstSequence || sequence >= firstSequence + count) return undefined;
      found = messageOf(value, headers, sequence, { log: { topic: TOPIC_RAW, partition, offset } });
    } catch {
      return undefined; // It is in quarantine as a frame: nothing in it can be read.
    }
    return true;
  });
  if (unread !== undefined) doubts.push(unread);
  return found;
}

/** Follows a compacted topic in PostgreSQL: its state as it is, then its changes; and again after every break. */
import type { LogRecord, Watch } from '@headwater/contracts';
import type { Database } from './database.ts';
import { toRecord, type Row } from './log.ts';

const LOOK_EVERY_MS = 20;
const RETRY_MS = 200;
const READ_RECORDS_MAX = 1000;

export async function watchState(
  database: Database,
  topic: string,
  onRecords: (records: LogRecord[]) => void,
): Promise<Watch> {
  const known = new Set<string>();
  let isClosed = false;
  /** Of the next change to be told. */
  let next = 0;

  const tell = (records: LogRecord[]): void => {
    if (records.length === 0 || isClosed) return;
    for (const { key, value } of records) {
      if (value.length === 0) known.delete(key);
      else known.add(key);
    }
    onRecords(records);
  };

  /** Everything as it is now, and where its changes go on; what has gone meanwhile is told as removed. */
  const load = async (): Promise<void> => {
    // First: a change in between is told twice, and not missed.
    const [end] = await database.run<{ next: string }>(
      'SELECT next FROM ends WHERE topic = $1 AND part = -1',
      [topic],
    );
    const rows = await database.run<Row>('SELECT key, headers, value FROM state WHERE topic = $1', [
      topic,
    ]);
    next = Number(end?.next ?? 0);
    const present = new Set(rows.map(({ key }) => key));
    const gone = [...known].filter((key) => !present.has(key));
    tell([
      ...rows.map(toRecord),
      ...gone.map((key) => ({ key, value: Buffer.alloc(0), headers: {} })),
    ]);
  };

  /** False where changes were cut away before they were read. */
  const follow = async (): Promise<boolean> => {
    const rows = await database.run<Row>(
      `SELECT pos, key, headers, value FROM changes WHERE topic = $1 AND pos >= $2 ORDER BY pos LIMIT ${READ_RECORDS_MAX}`,
      [topic, next],
    );
    const [first] = rows;
    if (first !== undefined && Number(first.pos) > next) return false;
    next += rows.length;
    tell(rows.map(toRecord));
    return true;
  };

  const run = async (): Promise<void> => {
    let isBroken = false;
    while (!isClosed) {
      try {
        if (isBroken || !(await follow())) await load();
        isBroken = false;
      } catch {
        isBroken = true; // PostgreSQL is away: `health` says why, and it is loaded again afterwards.
      }
      await new Promise((resolve) => setTimeout(resolve, isBroken ? RETRY_MS : LOOK_EVERY_MS));
    }
  };

  await load();
  const running = run();
  return {
    close: async () => {
      isClosed = true;
      await running;
    },
  };
}

/** Follows a compacted topic on Redis: its state as it is, then its changes; and again after every break. */
import type { LogRecord, Watch } from '@headwater/contracts';
import type { RedisLog } from './log.ts';

const LOOK_EVERY_MS = 20;
const RETRY_MS = 200;
const READ_RECORDS_MAX = 1000;

type Entry = [Buffer, Buffer[]];

export async function watchState(
  log: RedisLog,
  topic: string,
  onRecords: (records: LogRecord[]) => void,
): Promise<Watch> {
  const changes = log.key('changes', topic);
  const known = new Set<string>();
  let isClosed = false;
  let after = '0-0';

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
    const [last] = (await log.connection.call(
      'XREVRANGE',
      changes,
      '+',
      '-',
      'COUNT',
      1,
    )) as Entry[];
    const records: LogRecord[] = [];
    for (let partition = 0; partition < log.partitions; partition++)
      records.push(...(await log.state(topic, partition, '')));
    after = last === undefined ? '0-0' : String(last[0]);
    const present = new Set(records.map(({ key }) => key));
    const gone = [...known].filter((key) => !present.has(key));
    tell([...records, ...gone.map((key) => ({ key, value: Buffer.alloc(0), headers: {} }))]);
  };

  /** False where changes were cut away before they were read. */
  const follow = async (): Promise<boolean> => {
    const [first] = (await log.connection.call('XRANGE', changes, '-', '+', 'COUNT', 1)) as Entry[];
    const entries = (await log.connection.call(
      'XRANGE',
      changes,
      `(${after}`,
      '+',
      'COUNT',
      READ_RECORDS_MAX,
    )) as Entry[];
    if (first !== undefined && after !== '0-0' && isLater(String(first[0]), after)) return false;
    after = String(entries.at(-1)?.[0] ?? after);
    tell(
      entries.map(([, [, key, , headers, , value]]) => ({
        key: String(key),
        value: value as Buffer,
        headers: JSON.parse(String(headers)) as Record<string, string>,
      })),
    );
    return true;
  };

  const run = async (): Promise<void> => {
    let isBroken = false;
    while (!isClosed) {
      try {
        if (isBroken || !(await follow())) await load();
        isBroken = false;
      } catch {
        isBroken = true; // Redis is away: `health` says why, and it is loaded again afterwards.
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

function isLater(a: string, b: string): boolean {
  const [aMs = 0, aCount = 0] = a.split('-').map(Number);
  const [bMs = 0, bCount = 0] = b.split('-').map(Number);
  return aMs > bMs || (aMs === bMs && aCount > bCount);
}

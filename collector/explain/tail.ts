/** What the log has of a topic and the lake has not yet, or all of it where there is no lake: read through once, within limits. */
import { Turns } from '../../shared/env/turns.ts';
import type { Log, StoredRecord } from '../log/log.ts';
import { lakeGroup, type LAKE_TOPICS } from '../log/topics.ts';

const POLL_MS = 25;
/** What is made of records takes longer than their reading: others have their turn after so long. */
const TURN_MS = 10;
const POLL_BYTES = 1024 * 1024;

export interface ScanLimits {
  bytesMax: number;
  timeoutMs: number;
  signal?: AbortSignal | undefined;
}

export type LakeTopic = (typeof LAKE_TOPICS)[number];

/** Why a part was not read; undefined: all of it was. */
export type Unread = string | undefined;

/** Where the lake has come in a topic, by partition. Undefined: the log cannot tell. */
export async function lakeHas(
  log: Log,
  topic: LakeTopic,
): Promise<ReadonlyMap<number, number> | undefined> {
  return await log.committedBy?.(lakeGroup(topic), topic);
}

/**
 * Hands on every record of a topic from these offsets on (left out: from the start) until `take` gives true or the end that
 * the log has. Throws LOG_UNAVAILABLE.
 */
export async function scan(
  log: Log,
  topic: string,
  from: ReadonlyMap<number, number> | undefined,
  { bytesMax, timeoutMs, signal }: ScanLimits,
  take: (record: StoredRecord) => boolean | undefined,
): Promise<Unread> {
  const since = performance.now();
  const consumer = await log.consumer({
    group: `headwater-explain-${process.pid}-${Math.round(since * 1000).toString(36)}`,
    topic,
    from: 'start',
    watches: true,
    bytesMax: POLL_BYTES,
    onAssign: (partition) => Promise.resolve(from?.get(partition)),
  });
  let bytes = 0;
  const turns = new Turns(TURN_MS);
  try {
    for (;;) {
      for (const record of await consumer.poll(POLL_MS)) {
        if (turns.isDue) await turns.pass();
        bytes += record.value.length;
        if (record.offset < (from?.get(record.partition) ?? 0)) continue;
        if (take(record) === true) return undefined;
      }
      if (consumer.ended().size >= log.partitions) return undefined;
      if (bytes > bytesMax)
        return `of the log's topic '${topic}' only ${Math.round(bytes / 2 ** 20)} MiB were read`;
      if (performance.now() - since > timeoutMs)
        return `the log's topic '${topic}' was read for ${Math.round(timeoutMs / 1000)} s, and not to its end`;
      if (signal?.aborted === true) return 'nobody waits for it any more';
    }
  } finally {
    await consumer.close();
  }
}

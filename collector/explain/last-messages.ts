/** The newest messages of a topic, as the log's topic `raw` has them at its end: looked for within limits, never through all of it. */
import { hasCode } from '../../shared/errors.ts';
import { KIND_RECORDS, checkFrame, readRecords } from '../../shared/frame/frame.ts';
import type { Log } from '../log/log.ts';
import { scan } from './tail.ts';

export interface LastMessage {
  payload: Buffer;
  receivedMs: number;
}

/** Frames of each partition that are looked through. */
const FRAMES = 5000;
const LIMITS = { bytesMax: 32 * 1024 * 1024, timeoutMs: 3000 };

/** Newest first; [] where the log cannot begin near its end. Throws LOG_UNAVAILABLE. */
export async function lastMessages(log: Log, topic: string, limit: number): Promise<LastMessage[]> {
  const { next } = log;
  if (next === undefined) return [];
  const from = new Map<number, number>();
  for (let partition = 0; partition < log.partitions; partition++)
    from.set(partition, Math.max(0, (await next.call(log, 'raw', partition)) - FRAMES));
  let found: LastMessage[] = [];
  await scan(log, 'raw', from, LIMITS, ({ value }) => {
    for (const each of messagesOf(value, topic)) found.push(each);
    // The newest stay: of each partition they come in order.
    if (found.length > 20 * limit) found = newest(found, limit);
    return undefined;
  });
  return newest(found, limit);
}

const newest = (found: LastMessage[], limit: number): LastMessage[] =>
  found.sort((a, b) => b.receivedMs - a.receivedMs).slice(0, limit);

/** Of a frame; none of one that is not whole, which `headwater audit` names. */
function messagesOf(frame: Buffer, topic: string): LastMessage[] {
  try {
    const header = checkFrame(frame);
    if (header.kind !== KIND_RECORDS) return [];
    return readRecords(frame, header)
      .filter((each) => each.topic === topic)
      .map(({ payload, receivedUs }) => ({
        payload: Buffer.from(payload),
        receivedMs: Math.floor(receivedUs / 1000),
      }));
  } catch (error) {
    if (hasCode(error, 'FRAME_INVALID')) return [];
    throw error;
  }
}

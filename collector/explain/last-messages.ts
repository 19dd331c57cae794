/** The newest messages of a topic, as the log's topic `raw` has them at its end. */
import type { Log } from '../log/log.ts';
import { newestMessages } from './newest.ts';

export interface LastMessage {
  payload: Buffer;
  receivedMs: number;
}

/** Newest first; [] where the log cannot begin near its end. Throws LOG_UNAVAILABLE. */
export async function lastMessages(log: Log, topic: string, limit: number): Promise<LastMessage[]> {
  const { messages } = await newestMessages(log, { isWanted: (each) => each === topic, limit });
  return messages.map(({ payload, receivedMs }) => ({ payload, receivedMs }));
}

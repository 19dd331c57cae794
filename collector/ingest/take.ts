/** Frames into the raw log, so that one that it does not take holds up none of the others. */
import { hasCode } from '../../shared/errors.ts';
import { KIND_RECORDS, readHeader } from '../../shared/frame/frame.ts';
import { TOPIC_RAW, type Log, type LogRecord } from '../log/log.ts';
import { splitFrame } from '../log/fit.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { Seldom } from '../../shared/access/seldom.ts';

export interface Taken {
  /** What the log has now. */
  taken: LogRecord[];
  /** One message, or a note, each, that is larger than the log takes: it may be set to take more. */
  tooLarge: LogRecord[];
}

/** Throws what `append` throws, but for LOG_TOO_LARGE: then nothing that is not said to be taken counts. */
export async function take(log: Pick<Log, 'append'>, records: LogRecord[]): Promise<Taken> {
  const result: Taken = { taken: [], tooLarge: [] };
  await takeInto(log, records, result);
  return result;
}

async function takeInto(
  log: Pick<Log, 'append'>,
  records: LogRecord[],
  result: Taken,
): Promise<void> {
  try {
    await log.append(TOPIC_RAW, records);
    result.taken.push(...records);
    return;
  } catch (error) {
    if (!hasCode(error, 'LOG_TOO_LARGE')) throw error;
  }
  const [record] = records;
  if (record === undefined) return;
  if (records.length === 1) {
    const { kind, count } = readHeader(record.value);
    if (kind !== KIND_RECORDS || count < 2) return void result.tooLarge.push(record);
    // Down to the one message that is the reason.
    return await takeInto(log, halves(record), result);
  }
  const middle = records.length >> 1;
  await takeInto(log, records.slice(0, middle), result);
  await takeInto(log, records.slice(middle), result);
}

const halves = (record: LogRecord): LogRecord[] =>
  splitFrame({ ...record, topic: TOPIC_RAW }, Number.POSITIVE_INFINITY).map(
    ({ key, value, headers }) => ({ key, value, headers }),
  );

const AGAIN_MS = 5000;

/**
 * What gateways keep since the log does not take it. It is tried again while its connection lasts, and comes again with the
 * next one: nothing of it is acknowledged.
 */
export class TooLarge {
  private readonly log: Pick<Log, 'append'>;
  private readonly notify: Notify;
  private readonly seldom: Seldom;
  private readonly waiting = new Map<object, { gateway: string; records: readonly LogRecord[] }>();

  constructor(log: Pick<Log, 'append'>, notify: Notify, monotonicUs: () => number) {
    this.log = log;
    this.notify = notify;
    this.seldom = new Seldom(monotonicUs);
  }

  get messages(): number {
    let count = 0;
    for (const { records } of this.waiting.values()) count += records.length;
    return count;
  }

  /** One sentence for each gateway. */
  warnings(): string[] {
    const byGateway = new Map<string, LogRecord[]>();
    for (const { gateway, records } of this.waiting.values())
      byGateway.set(gateway, [...(byGateway.get(gateway) ?? []), ...records]);
    return [...byGateway].map(([gateway, records]) => sentence(gateway, records));
  }

  /** Until `isOver`. `onTaken` hears what has gone in after all. */
  async keep(
    gateway: string,
    records: readonly LogRecord[],
    isOver: () => boolean,
    onTaken: (records: readonly LogRecord[]) => void,
  ): Promise<void> {
    const place = {};
    let left = [...records];
    try {
      while (left.length > 0 && !isOver()) {
        this.waiting.set(place, { gateway, records: left });
        if (this.seldom.may(gateway) !== undefined) {
          const text = sentence(gateway, left);
          this.notify({ level: 'error', event: 'ingest_too_large', text });
        }
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS).unref());
        if (isOver()) return;
        try {
          const { taken, tooLarge } = await take(this.log, left);
          if (taken.length > 0) onTaken(taken);
          left = tooLarge;
        } catch {
          // The log says for itself why it takes nothing now.
        }
      }
    } finally {
      this.waiting.delete(place);
    }
  }
}

function sentence(gateway: string, records: readonly LogRecord[]): string {
  const largest = Math.max(...records.map(({ value }) => value.length));
  const what = records.length === 1 ? 'a message' : `${records.length} messages`;
  return `gateway ${gateway} keeps ${what} of up to ${largest} bytes that the log's topic ${TOPIC_RAW} takes too little for: raise its max.message.bytes; until then they wait in the gateway, and what is behind them goes on`;
}

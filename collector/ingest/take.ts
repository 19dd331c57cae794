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

interface Large {
  gateway: string;
  count: number;
  /** Bytes. */
  largest: number;
}

/**
 * What gateways keep since the log does not take it. It is tried again while its connection lasts, and comes again with the
 * next one: nothing of it is acknowledged.
 */
export class TooLarge {
  private readonly log: Pick<Log, 'append'>;
  private readonly notify: Notify;
  private readonly seldom: Seldom;
  private readonly waiting = new Map<object, Large>();
  /** Of connections: what is not tried again before the next one. */
  private readonly letGo = new Map<{ readonly isOpen: boolean }, Large>();

  constructor(log: Pick<Log, 'append'>, notify: Notify, monotonicUs: () => number) {
    this.log = log;
    this.notify = notify;
    this.seldom = new Seldom(monotonicUs);
  }

  private all(): Large[] {
    for (const peer of this.letGo.keys()) if (!peer.isOpen) this.letGo.delete(peer);
    return [...this.waiting.values(), ...this.letGo.values()];
  }

  get messages(): number {
    return this.all().reduce((sum, { count }) => sum + count, 0);
  }

  /** One sentence for each gateway. */
  warnings(): string[] {
    const byGateway = new Map<string, Large>();
    for (const each of this.all())
      byGateway.set(each.gateway, together(each, byGateway.get(each.gateway)));
    return [...byGateway.values()].map(sentence);
  }

  private tell(large: Large): void {
    if (this.seldom.may(large.gateway) === undefined) return;
    this.notify({ level: 'error', event: 'ingest_too_large', text: sentence(large) });
  }

  /** There is no room to have them here: the gateway has them. */
  leave(gateway: string, records: readonly LogRecord[], peer: { readonly isOpen: boolean }): void {
    const large = largeOf(gateway, records);
    this.tell(large);
    this.letGo.set(peer, together(large, this.letGo.get(peer)));
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
        const large = largeOf(gateway, left);
        this.waiting.set(place, large);
        this.tell(large);
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

const largeOf = (gateway: string, records: readonly LogRecord[]): Large => ({
  gateway,
  count: records.length,
  largest: Math.max(...records.map(({ value }) => value.length)),
});

const together = (one: Large, other: Large | undefined): Large => ({
  gateway: one.gateway,
  count: one.count + (other?.count ?? 0),
  largest: Math.max(one.largest, other?.largest ?? 0),
});

function sentence({ gateway, count, largest }: Large): string {
  const what = count === 1 ? 'a message' : `${count} messages`;
  return `gateway ${gateway} keeps ${what} of up to ${largest} bytes that the log's topic ${TOPIC_RAW} takes too little for: raise its max.message.bytes; until then they wait in the gateway, and what is behind them goes on`;
}

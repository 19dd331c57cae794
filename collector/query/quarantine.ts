/** What is in quarantine, newest first, so that a person sees it. The topic itself keeps everything. */
import { isUtf8 } from 'node:buffer';
import { HeadwaterError } from '../../shared/errors.ts';
import { decodeQuarantined } from '../../shared/model/quarantine-record.ts';
import type { Quarantined } from '../../shared/model/reading.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { TOPIC_QUARANTINE, type Log } from '../log/log.ts';
import { Follower } from '../log/follow.ts';

/** Items kept in memory. */
const ITEMS_MAX = 1000;

/** As the API gives it: the payload as text where it is text. */
export type QuarantineItem = Omit<Quarantined, 'payload'> & {
  payload: string;
  encoding: 'utf8' | 'base64';
};

function itemOf({ payload, ...rest }: Quarantined): QuarantineItem {
  const encoding = isUtf8(payload) ? 'utf8' : 'base64';
  return { ...rest, payload: payload.toString(encoding), encoding };
}

export class QuarantineView {
  private readonly log: Log;
  private readonly notify: Notify;
  private readonly items: QuarantineItem[] = [];
  private total = 0;
  private follower: Follower | undefined;

  constructor(log: Log, notify: Notify) {
    this.log = log;
    this.notify = notify;
  }

  /** `group` is this process's own: it reads from the beginning and commits nothing. */
  start(group: string): void {
    this.follower = new Follower({
      log: this.log,
      notify: this.notify,
      event: 'quarantine_view',
      topic: TOPIC_QUARANTINE,
      from: 'start',
      group,
      onRecords: (records) => {
        for (const { value } of records) this.add(value);
      },
    });
  }

  private add(value: Buffer): void {
    this.total++;
    try {
      this.items.push(itemOf(decodeQuarantined(value)));
    } catch {
      // Somebody else wrote to this topic: it counts, and cannot be shown as one of ours.
      return;
    }
    if (this.items.length > ITEMS_MAX) this.items.shift();
  }

  /** Of all, and the newest `limit`. Throws QUERY_INVALID. */
  list(limitText: string | null): { count: number; items: QuarantineItem[] } {
    const limit = limitText === null ? 100 : Number(limitText);
    if (!Number.isInteger(limit) || limit < 0 || limit > ITEMS_MAX) {
      throw new HeadwaterError(
        'QUERY_INVALID',
        `limit=${limitText} is not a number from 0 to ${ITEMS_MAX}`,
      );
    }
    return { count: this.total, items: limit === 0 ? [] : this.items.slice(-limit).toReversed() };
  }

  async close(): Promise<void> {
    await this.follower?.close();
  }
}

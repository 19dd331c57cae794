/**
 * What is in quarantine, newest first, so that a person sees it, finds the pattern, mends the mapping and replays. The
 * topic itself keeps everything; here are the newest items, and how many are open in all.
 */
import { isUtf8 } from 'node:buffer';
import { maySee } from '../../shared/access/may.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { listReply } from '../../shared/http/list.ts';
import { READ_EACH } from '../../shared/http/route.ts';
import { INTEGER, TEXT, listOf, object, textsOf } from '../../shared/http/schema.ts';
import { decodeQuarantineRecord, isResolved } from '../../shared/model/quarantine-record.ts';
import { RangeSet } from '../../shared/model/ranges.ts';
import type { Quarantined } from '../../shared/model/reading.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { Seldom } from '../../shared/access/seldom.ts';
import { gauge } from '../../shared/telemetry/metrics.ts';
import { kindOfReason } from '../decode/reasons.ts';
import { selects, type Selection } from '../decode/replay-jobs.ts';
import { SELECTION, selectionOf } from '../decode/replay-part.ts';
import { TOPIC_QUARANTINE, type Log } from '../log/log.ts';
import { Follower } from '../log/follow.ts';
import { logPart } from '../log/part.ts';
import type { CollectorPart } from '../part.ts';

/** Items kept in memory, and what their payloads may take together. */
const ITEMS_MAX = 1000;
const BYTES_MAX = 16 * 1024 * 1024;
/** Characters of a topic and a reason in a log line. */
const TOPIC_SHOWN = 200;
const REASON_SHOWN = 500;
/** Who asks right after a start waits so long for the list. */
const READ_MS = 10_000;

/** As the API gives it: the payload as text where it is text. */
export type QuarantineItem = Omit<Quarantined, 'payload'> & {
  payload: string;
  encoding: 'utf8' | 'base64';
};

export interface QuarantineAnswer {
  /** Open in all, also those that are not listed. */
  count: number;
  /** Made when they are asked for: their payloads may take much. */
  items: Iterable<QuarantineItem>;
  /** Of the listed ones, by reason without its particulars. */
  reasons: { reason: string; count: number }[];
}

/** What is described of it: a record has more. */
function itemOf(item: Quarantined): QuarantineItem {
  const { gateway, epoch, sequence, index, client, topic, reason, receivedMs, payload } = item;
  const encoding = isUtf8(payload) ? 'utf8' : 'base64';
  const of = { gateway, epoch, sequence, index, client, topic, reason, receivedMs };
  return { ...of, payload: payload.toString(encoding), encoding };
}

const identityOf = ({ gateway, epoch, sequence, index }: Quarantined): string =>
  `${gateway}/${epoch}/${sequence}/${index}`;

function* itemsOf(items: readonly Quarantined[]): Generator<QuarantineItem> {
  for (const item of items) yield itemOf(item);
}

const KIND_CHARS = 160;

export class QuarantineView {
  private readonly log: Log;
  private readonly notify: Notify;
  private readonly items = new Map<string, Quarantined>();
  private bytes = 0;
  /** `gateway/epoch` → sequences that are open. */
  private readonly open = new Map<string, RangeSet>();
  /** Frames and records that have no identity, and what somebody else wrote to the topic. */
  private readonly nameless = new Map<string, number>();
  private namelessCount = 0;
  private follower: Follower | undefined;

  /** What was there at the start is no news. */
  isRead = false;
  private readonly seldom: Seldom;

  constructor(log: Log, notify: Notify, monotonicUs: () => number) {
    this.log = log;
    this.notify = notify;
    this.seldom = new Seldom(monotonicUs);
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
        for (const { value } of records) this.take(value);
      },
    });
    void this.follower.caughtUp.then(() => {
      this.isRead = true;
    });
  }

  /** Resolves once the list is whole: after a start it is read from the log. Throws LOG_UNAVAILABLE when that takes too long. */
  async whenRead(): Promise<void> {
    const { up, reason } = this.log.health();
    if (!this.isRead && !up)
      throw new HeadwaterError(
        'LOG_UNAVAILABLE',
        `the quarantine is not known yet: it is read from the log, and ${reason}`,
      );
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(resolve, READ_MS, 'late');
    });
    const first = await Promise.race([this.follower?.caughtUp, late]);
    clearTimeout(timer);
    if (first === 'late')
      throw new HeadwaterError(
        'LOG_UNAVAILABLE',
        'the quarantine is still being read from the log after the start: ask again in some seconds',
      );
  }

  private take(value: Buffer): void {
    let record: ReturnType<typeof decodeQuarantineRecord>;
    try {
      record = decodeQuarantineRecord(value);
    } catch {
      this.addNameless('');
      return;
    }
    if (isResolved(record)) {
      const set = this.open.get(`${record.gateway}/${record.epoch}`);
      for (const [from, to] of record.resolved) set?.remove(from, to);
      for (const [identity, item] of this.items) {
        const { gateway, epoch, sequence } = item;
        if (gateway !== record.gateway || epoch !== record.epoch) continue;
        if (record.resolved.some(([from, to]) => from <= sequence && sequence <= to))
          this.drop(identity, item);
      }
      return;
    }
    this.add(record);
  }

  /** Once a minute, with the newest; the list has all of them. */
  private tell({ gateway, topic, reason }: Quarantined): void {
    const unsaid = this.isRead ? this.seldom.may('') : undefined;
    if (unsaid === undefined) return;
    const others = unsaid === 0 ? '' : ` (and ${unsaid} others since it was last said)`;
    const where = `${topic === '' ? '' : `topic '${topic.slice(0, TOPIC_SHOWN)}' `}of gateway '${gateway}'`;
    this.notify({
      level: 'warn',
      event: 'quarantine',
      text: `in quarantine${others}: ${where}: ${reason.slice(0, REASON_SHOWN)}; headwater quarantine lists them, and replays what was mended`,
    });
  }

  /** One sentence while something is in it. */
  warnings(): string[] {
    const { count } = this;
    const [first] = this.list(0).reasons;
    if (count === 0) return [];
    const most = first === undefined ? '' : `, most for this: ${first.reason}`;
    const many = count === 1 ? '1 message is' : `${count} messages are`;
    return [
      `${many} in quarantine${most}; headwater quarantine lists what is there, and replays what was mended`,
    ];
  }

  private add(item: Quarantined): void {
    const { gateway, epoch, sequence } = item;
    this.tell(item);
    if (epoch === '') this.addNameless(gateway);
    else {
      const name = `${gateway}/${epoch}`;
      let set = this.open.get(name);
      if (set === undefined) this.open.set(name, (set = new RangeSet()));
      set.add(sequence, sequence);
    }
    const identity = epoch === '' ? `${this.namelessCount}` : identityOf(item);
    const before = this.items.get(identity);
    if (before !== undefined) this.drop(identity, before);
    this.items.set(identity, item);
    this.bytes += item.payload.length;
    for (const [oldest, each] of this.items) {
      if (this.items.size <= ITEMS_MAX && this.bytes <= BYTES_MAX) return;
      this.drop(oldest, each);
    }
  }

  private drop(identity: string, { payload }: Quarantined): void {
    this.items.delete(identity);
    this.bytes -= payload.length;
  }

  /** `gateway`: '' where it is not known, which nobody may see who may see some. */
  private addNameless(gateway: string): void {
    this.namelessCount++;
    this.nameless.set(gateway, (this.nameless.get(gateway) ?? 0) + 1);
  }

  private countOf(may: (gateway: string) => boolean): number {
    let count = 0;
    for (const [gateway, each] of this.nameless) if (may(gateway)) count += each;
    for (const [name, set] of this.open) if (may(name.split('/')[0] ?? '')) count += set.count;
    return count;
  }

  get count(): number {
    return this.countOf(() => true);
  }

  /** The newest that are meant. `may` tells which gateways the asker may see. */
  list(
    limit: number,
    selection: Omit<Selection, 'which'> = {},
    may: (gateway: string) => boolean = () => true,
  ): QuarantineAnswer {
    const all = [...this.items.values()].filter(
      (item) => may(item.gateway) && selects({ which: 'all', ...selection }, item),
    );
    const reasons = new Map<string, number>();
    for (const { reason } of all) {
      const kind = kindOfReason(reason, KIND_CHARS);
      reasons.set(kind, (reasons.get(kind) ?? 0) + 1);
    }
    return {
      count: this.countOf(may),
      items: limit === 0 ? [] : itemsOf(all.slice(-limit).toReversed()),
      reasons: [...reasons]
        .map(([reason, count]) => ({ reason, count }))
        .sort((a, b) => b.count - a.count),
    };
  }

  async close(): Promise<void> {
    await this.follower?.close();
  }
}

export const quarantinePart: CollectorPart<{ view: QuarantineView; nowMs: () => number }> = {
  name: 'quarantine',
  roles: ['query'],
  open: (site) => {
    const { notify, newId, nowMs, env } = site.context;
    const view = new QuarantineView(site.get(logPart), notify, () => env.clock.monotonicUs());
    view.start(`headwater-quarantine-${newId()}`);
    return { view, nowMs };
  },
  metrics: {
    headwater_quarantine_open_messages: gauge(
      'Messages in quarantine that no replay has resolved; NaN until they have been read from the log.',
      ({ view }) => (view.isRead ? view.count : Number.NaN),
    ),
  },
  routes: [
    {
      method: 'GET',
      path: '/api/v1/quarantine',
      isCostly: true,
      about: 'Messages that could not be decoded or stored, newest first, with the reason.',
      right: READ_EACH,
      query: {
        limit: {
          about: 'At most so many; 100 when left out.',
          integer: { min: 0, max: ITEMS_MAX },
        },
        ...SELECTION,
      },
      replies: {
        200: {
          about: 'Items, how often each kind of reason, and how many wait in all.',
          schema: object({
            count: INTEGER,
            items: listOf({
              gateway: TEXT,
              epoch: TEXT,
              sequence: INTEGER,
              index: INTEGER,
              topic: TEXT,
              client: TEXT,
              reason: TEXT,
              receivedMs: INTEGER,
              payload: TEXT,
              encoding: textsOf('utf8', 'base64'),
            }),
            reasons: listOf({ reason: TEXT, count: INTEGER }),
          }),
        },
      },
      handle: async ({ view, nowMs }, { query, identity }) => {
        await view.whenRead();
        const limit = Number(query.get('limit') ?? 100);
        const { items, ...before } = view.list(limit, selectionOf(query, nowMs()), (gateway) =>
          maySee(identity, gateway),
        );
        return listReply({ before, name: 'items', items });
      },
    },
  ],
  close: ({ view }) => view.close(),
};

/** The ledger as this process sees it: it follows the ledger topic and answers "is anything missing?". */
import { RangeSet, type Range } from '../../shared/model/ranges.ts';
import { TOPIC_LEDGER, type Log, type LogRecord } from '../log/log.ts';
import { View } from '../log/view.ts';
import {
  accountOf,
  wantedOf,
  type EpochAccount,
  type EpochRecord,
  type Loss,
  type Missing,
} from './epoch-ledger.ts';

export const LEDGER_PREFIX = 'decoded/';
/** Frames that wait for a clock: `held/GATEWAY/BOOT/EPOCH/SEQUENCE`. */
export const HELD_PREFIX = 'held/';
/** Header of those whose readings are written already, by this correction: they wait only for a better clock. */
export const HELD_USED = 'used';
/** Whether a gateway is connected to any collector: `link/GATEWAY`. */
export const LINK_PREFIX = 'link/';

/** What is said of a connection counts for so long, where several collectors share the log. */
export const LINK_FRESH_MS = 900_000;

/** Several collectors may be on it: what one of them says of its gateways does not end with it. */
export const isShared = ({ kind }: Pick<Log, 'kind'>): boolean => kind !== 'embedded';

export interface Link {
  connected: boolean;
  /** Epoch milliseconds. */
  at: number;
  /** In which the gateway runs, and from where and at which collector it is connected, once it has told. */
  epoch?: string;
  from?: string;
}

/** Epochs of a gateway of which it is known from where they came. */
const FROMS_MAX = 16;

/** A file of the lake whose rows are lost, and made again where something still has them. */
export interface LakeLoss {
  zone: string;
  key: string;
  gateway: string;
  rows: number;
  kind: 'damaged' | 'missing';
  reason: string;
  /** Epoch milliseconds. */
  since: number;
  /** No source has all of them. */
  final: boolean;
}

export interface LedgerAnswer {
  /** Something acknowledged will not come, or is nowhere to be found. */
  missing: boolean;
  gateways: { gateway: string; epochs: EpochAccount[] }[];
  lake: LakeLoss[];
}

/** How a gateway stands now, as far as the ledger knows. */
export interface Standing {
  link: Link;
  /** Messages that its last status named and that have not arrived since. */
  pending: number;
  /** Messages that its last status named as not acknowledged. */
  waiting: number;
  /** Frames that wait for its clock. */
  held: number;
  /** Of its last status, epoch milliseconds; 0: none came. */
  statusMs: number;
  missing: (Missing & { epoch: string })[];
  lost: (Loss & { epoch: string })[];
}

/** Of one gateway; there may be many, and each has an entry that is written often. */
class Epochs extends Map<string, EpochRecord> {
  /** The newest of all, epoch milliseconds. */
  statusMs = 0;
  private spokeMs = 0;

  /** Whether the gateway has spoken since. */
  take(record: EpochRecord): boolean {
    const isNews = record.spokeMs > this.spokeMs;
    this.set(record.epoch, record);
    this.spokeMs = Math.max(this.spokeMs, record.spokeMs);
    this.statusMs = Math.max(this.statusMs, record.statusMs);
    return isNews;
  }
}

export class LedgerView {
  private readonly log: Log;
  private readonly gateways = new Map<string, Epochs>();
  private readonly links = new Map<string, Link>();
  private readonly held = new Map<string, Set<string>>();
  private readonly froms = new Map<string, Map<string, string>>();
  private readonly view: View;
  /**
   * Any collector of this log has heard a gateway that runs in this epoch. In the order in which they were heard; what a
   * collector was late to write is left out.
   */
  onSpoke: (gateway: string, epoch: string, spokeMs: number) => void = () => undefined;
  /** Something of this gateway has changed. */
  onChange: (gateway: string) => void = () => undefined;
  /** What the lake has lost. */
  lake: () => readonly LakeLoss[] = () => [];
  /** Frames of a gateway that log and lake have lost, by epoch. */
  wantedRaw: (gateway: string) => Record<string, Range[]> = () => ({});

  /** Gateways that are connected here are to say again what they hold: it is wanted. */
  askGateways: () => void = () => undefined;

  constructor(log: Log) {
    this.log = log;
    this.view = new View(log, TOPIC_LEDGER, 'the ledger');
  }

  /** Resolves when the ledger has been read, or the log is away. */
  async start(): Promise<void> {
    await this.view.start((records) => {
      for (const record of records) this.take(record);
    });
  }

  /** What it answers before is not the whole, and is not to be given out. */
  get isRead(): boolean {
    return this.view.isRead;
  }

  get whenRead(): Promise<void> {
    return this.view.whenRead;
  }

  /** Throws LOG_UNAVAILABLE until it has been read. */
  check(): void {
    this.view.check();
  }

  private take({ key, value, headers }: LogRecord): void {
    if (key.startsWith(LINK_PREFIX) && value.length > 0)
      this.takeLink(key.slice(LINK_PREFIX.length), JSON.parse(value.toString('utf8')) as Link);
    if (key.startsWith(HELD_PREFIX))
      this.takeHeld(key, value.length > 0 && headers[HELD_USED] === undefined);
    if (!key.startsWith(LEDGER_PREFIX)) return;
    const [gateway = '', epoch = ''] = key.slice(LEDGER_PREFIX.length).split('/');
    let epochs = this.gateways.get(gateway);
    if (epochs === undefined) this.gateways.set(gateway, (epochs = new Epochs()));
    this.onChange(gateway);
    if (value.length === 0) return void epochs.delete(epoch);
    const record = parseRecord(gateway, epoch, value);
    const isNews = epochs.take(record);
    // What was there at the start is no news.
    if (this.isRead && isNews) this.onSpoke(gateway, epoch, record.spokeMs);
  }

  /** How many epochs of a gateway there are. */
  epochCount(gateway: string): number {
    return this.gateways.get(gateway)?.size ?? 0;
  }

  epochOf(gateway: string, epoch: string): EpochRecord | undefined {
    return this.gateways.get(gateway)?.get(epoch);
  }

  private takeLink(gateway: string, link: Link): void {
    this.links.set(gateway, link);
    this.onChange(gateway);
    const { epoch, from } = link;
    if (epoch === undefined || from === undefined) return;
    const froms = this.froms.get(gateway) ?? new Map<string, string>();
    this.froms.set(gateway, froms.set(epoch, from));
    if (froms.size > FROMS_MAX) froms.delete([...froms.keys()][0] ?? '');
  }

  /** From where a gateway was connected in this epoch, and to which collector, as far as that was told. */
  fromOf(gateway: string, epoch: string): string | undefined {
    return this.froms.get(gateway)?.get(epoch);
  }

  /** Frames whose readings are in no store before their clock is known. */
  private takeHeld(key: string, isHeld: boolean): void {
    const gateway = key.slice(HELD_PREFIX.length).split('/')[0] ?? '';
    let frames = this.held.get(gateway);
    if (frames === undefined) this.held.set(gateway, (frames = new Set()));
    if (isHeld) frames.add(key);
    else frames.delete(key);
    this.onChange(gateway);
  }

  /** Throws LOG_UNAVAILABLE until it has been read. */
  answer(only?: string): LedgerAnswer {
    this.check();
    const gateways = [...this.gateways]
      .filter(([gateway]) => only === undefined || only === gateway)
      .map(([gateway, epochs]) => ({ gateway, epochs: [...epochs.values()].map(accountOf) }));
    return this.judge(gateways, (gateway) => only === undefined || only === gateway);
  }

  /**
   * The answer for these gateways alone. `isAsked`: of which the lake's losses are said. A log that was lost knows no gateway,
   * and what the lake has lost of it is missing nonetheless.
   */
  judge(gateways: LedgerAnswer['gateways'], isAsked: (gateway: string) => boolean): LedgerAnswer {
    const lake = this.lake().filter(({ gateway }) => isAsked(gateway) || gateway.startsWith('~'));
    const isMissing = gateways.some(({ epochs }) =>
      epochs.some(
        (each) => each.lost.length > 0 || each.missing.length > 0 || each.damage.length > 0,
      ),
    );
    return { missing: isMissing || lake.length > 0, gateways, lake };
  }

  /**
   * What a gateway holds as history and the log lacks, once its status of `atMs` is in the ledger; undefined before.
   */
  wanted(gateway: string, atMs: number): { epoch: string; ranges: Range[] }[] | undefined {
    const epochs = [...(this.gateways.get(gateway)?.values() ?? [])];
    if (!epochs.some(({ statusMs }) => statusMs >= atMs)) return undefined;
    const raw = this.wantedRaw(gateway);
    return epochs
      .map((record) => ({ epoch: record.epoch, ranges: wantedOf(record, raw[record.epoch]) }))
      .filter(({ ranges }) => ranges.length > 0);
  }

  /** Whether a gateway that is connected says that it has any of these as history. */
  holds(gateway: string, spans: Readonly<Record<string, Range[]>>): boolean {
    if (this.links.get(gateway)?.connected !== true) return false;
    return Object.entries(spans).some(([epoch, ranges]) => {
      const history = new RangeSet(this.gateways.get(gateway)?.get(epoch)?.history);
      return ranges.some(([from, to]) => history.touches(from, to));
    });
  }

  /**
   * What a silence may come from: whether the gateway is connected, what it holds, and what it says it lost since then.
   * `link` is undefined for what is not a gateway: readings that came by HTTP.
   */
  stateOf(
    gateway: string,
    sinceMs: number,
  ): { link: Link | undefined; pending: number; held: number; lostSince: string | undefined } {
    let pending = 0;
    let lostSince: string | undefined;
    for (const record of this.gateways.get(gateway)?.values() ?? []) {
      const account = accountOf(record);
      for (const [from, to] of account.pending) pending += to - from + 1;
      lostSince ??= account.lost.findLast(({ since }) => since >= sinceMs)?.reason;
    }
    const held = this.held.get(gateway)?.size ?? 0;
    return { link: this.links.get(gateway), pending, held, lostSince };
  }

  /** Undefined for what is no gateway, or was never connected. */
  standingOf(gateway: string): Standing | undefined {
    const link = this.links.get(gateway);
    if (link === undefined) return undefined;
    const standing: Standing = {
      ...{ link, pending: 0, waiting: 0, statusMs: 0, missing: [], lost: [] },
      held: this.held.get(gateway)?.size ?? 0,
    };
    for (const record of this.gateways.get(gateway)?.values() ?? []) {
      const { epoch, pending, missing, lost, statusMs } = accountOf(record);
      for (const [from, to] of pending) standing.pending += to - from + 1;
      for (const [from, to] of record.waiting) standing.waiting += to - from + 1;
      standing.missing.push(...missing.map((each) => ({ ...each, epoch })));
      standing.lost.push(...lost.map((each) => ({ ...each, epoch })));
      standing.statusMs = Math.max(standing.statusMs, statusMs);
    }
    return standing;
  }

  /** Gateways that were ever connected. */
  linked(): string[] {
    return [...this.links.keys()];
  }

  /** Every gateway that was ever connected to any collector of this log. `lastSeenMs`: epoch milliseconds. */
  known(nowMs: number): { gateway: string; connected: boolean; lastSeenMs: number }[] {
    return [...this.links].map(([gateway, { connected, at }]) => {
      const isFresh = !isShared(this.log) || nowMs - at < LINK_FRESH_MS;
      const lastSeenMs = Math.max(at, this.gateways.get(gateway)?.statusMs ?? 0);
      return { gateway, connected: connected && isFresh, lastSeenMs };
    });
  }

  /** Names of gateways that are connected to any process of the collector. */
  connected(): string[] {
    return [...this.links].filter(([, { connected }]) => connected).map(([gateway]) => gateway);
  }

  /** Latest moment that a collector dated anything of a gateway with, epoch milliseconds; 0: none yet. */
  newestMs(): number {
    let newest = 0;
    for (const { at } of this.links.values()) newest = Math.max(newest, at);
    for (const { statusMs } of this.gateways.values()) newest = Math.max(newest, statusMs);
    return newest;
  }

  /** Messages by state, for metrics. */
  totals(): { lost: Map<string, number>; missing: number; pending: number } {
    const lost = new Map<string, number>();
    let missing = 0;
    let pending = 0;
    for (const { epochs } of this.answer().gateways) {
      for (const epoch of epochs) {
        for (const { from, to, cause } of epoch.lost)
          lost.set(cause, (lost.get(cause) ?? 0) + (to === null ? 1 : to - from + 1));
        for (const { from, to } of epoch.missing) missing += to - from + 1;
        for (const [from, to] of epoch.pending) pending += to - from + 1;
      }
    }
    return { lost, missing, pending };
  }

  async close(): Promise<void> {
    await this.view.close();
  }
}

/** A record of the ledger topic; one that an older version wrote has fewer keys. */
export function parseRecord(gateway: string, epoch: string, value: Buffer): EpochRecord {
  const empty: EpochRecord = {
    gateway,
    epoch,
    ranges: [],
    lost: [],
    damage: [],
    next: 1,
    waiting: [],
    history: [],
    missing: [],
    statusMs: 0,
    spokeMs: 0,
  };
  return { ...empty, ...(JSON.parse(value.toString('utf8')) as Partial<EpochRecord>) };
}

/** The ledger as this process sees it: it follows the ledger topic and answers "is anything missing?". */
import type { Range } from '../../shared/model/ranges.ts';
import { TOPIC_LEDGER, type Log, type LogRecord, type Watch } from '../log/log.ts';
import { accountOf, wantedOf, type EpochAccount, type EpochRecord } from './epoch-ledger.ts';

export const LEDGER_PREFIX = 'decoded/';

export interface LedgerAnswer {
  /** Something acknowledged will not come, or is nowhere to be found. */
  missing: boolean;
  gateways: { gateway: string; epochs: EpochAccount[] }[];
}

export class LedgerView {
  private readonly log: Log;
  private readonly gateways = new Map<string, Map<string, EpochRecord>>();
  private watch: Watch | undefined;

  constructor(log: Log) {
    this.log = log;
  }

  async start(): Promise<void> {
    this.watch = await this.log.watch(TOPIC_LEDGER, (records) => {
      for (const record of records) this.take(record);
    });
  }

  private take({ key, value }: LogRecord): void {
    if (!key.startsWith(LEDGER_PREFIX)) return;
    const [gateway = '', epoch = ''] = key.slice(LEDGER_PREFIX.length).split('/');
    let epochs = this.gateways.get(gateway);
    if (epochs === undefined) this.gateways.set(gateway, (epochs = new Map()));
    if (value.length === 0) epochs.delete(epoch);
    else epochs.set(epoch, parseRecord(gateway, epoch, value));
  }

  answer(only?: string): LedgerAnswer {
    const gateways = [...this.gateways]
      .filter(([gateway]) => only === undefined || only === gateway)
      .map(([gateway, epochs]) => ({ gateway, epochs: [...epochs.values()].map(accountOf) }));
    return this.judge(gateways);
  }

  /** The answer for these gateways alone. */
  judge(gateways: LedgerAnswer['gateways']): LedgerAnswer {
    const missing = gateways.some(({ epochs }) =>
      epochs.some(
        (each) => each.lost.length > 0 || each.missing.length > 0 || each.damage.length > 0,
      ),
    );
    return { missing, gateways };
  }

  /**
   * What a gateway holds as history and the log lacks, once its status of `atMs` is in the ledger; undefined before.
   */
  wanted(gateway: string, atMs: number): { epoch: string; ranges: Range[] }[] | undefined {
    const epochs = [...(this.gateways.get(gateway)?.values() ?? [])];
    if (!epochs.some(({ statusMs }) => statusMs >= atMs)) return undefined;
    return epochs
      .map((record) => ({ epoch: record.epoch, ranges: wantedOf(record) }))
      .filter(({ ranges }) => ranges.length > 0);
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
    await this.watch?.close();
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
  };
  return { ...empty, ...(JSON.parse(value.toString('utf8')) as Partial<EpochRecord>) };
}

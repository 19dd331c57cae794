/** What a store that adds up its own points has, for the audit. */
import { timeOf } from '../duckdb/nanos.ts';
import type { Asked, PointSum } from '../duckdb/points.ts';
import { identityName } from '../store/changes.ts';
import { valueOf } from '../store/duckdb-catalog.ts';
import { answersSql } from '../store/session.ts';
import type { Change, Identity } from '../store/store.ts';
import type { Reading } from '../../shared/model/reading.ts';
import type { Summing, SumsAsked } from '../store/sums.ts';

const DAY_MS = 86_400_000;
const READ_MS = 600_000;

export class SummingSide {
  private readonly store: Summing;

  constructor(store: Summing) {
    this.store = store;
  }

  days(): Promise<string[]> {
    return this.store.days();
  }

  async day(day: string, { level, only }: Pick<SumsAsked, 'level' | 'only'>): Promise<PointSum[]> {
    const fromMs = Date.parse(day);
    const range: [number, number] = [fromMs, fromMs + DAY_MS];
    return await this.store.sums(only === undefined ? { level, range } : { level, range, only });
  }

  async sums(asked: readonly Asked[]): Promise<PointSum[]> {
    if (asked.length === 0) return [];
    return await this.store.sums({ level: 'reading', only: { by: 'reading', asked } });
  }

  /** The readings of these identities, as far as the store can tell whose its points are. Throws STORE_UNAVAILABLE. */
  async readings(asked: readonly Identity[]): Promise<Change[]> {
    const { store } = this;
    if (asked.length === 0 || !answersSql(store)) return [];
    const series = new Map((await store.known()).map((each) => [each.id, each]));
    const session = await store.session({ timeoutMs: READ_MS, signal: undefined });
    try {
      const columns = { gateway: 'VARCHAR', epoch: 'VARCHAR', s: 'BIGINT', i: 'INTEGER' } as const;
      const table = await session.table(columns);
      await session.append(
        table,
        Object.values(columns),
        asked.map(({ gateway, epoch, sequence, index }) => [gateway, epoch, sequence, index]),
      );
      const found = new Map<string, Change>();
      const sql = `SELECT p.series, p.time, p.num, p.txt, o.gateway, o.epoch, p.seq, p.idx FROM points AS p JOIN origins AS o ON o.id = p.origin SEMI JOIN ${table} AS a ON a.gateway = o.gateway AND a.epoch = o.epoch AND a.s = p.seq AND a.i = p.idx`;
      for (const [id, time, num, txt, gateway, epoch, seq, idx] of await session.all(sql)) {
        const own = series.get(Number(id));
        if (own === undefined) continue;
        const [sequence, index] = [Number(seq), Number(idx)];
        const identity = { gateway: String(gateway), epoch: String(epoch), sequence, index };
        const name = identityName(identity);
        const { measurement, tags, field, kind } = own;
        const at = timeOf(time as bigint); // A BIGINT column.
        const reading: Reading = { measurement, tags, fields: {}, sequence, index, ...at };
        const { put = reading } = found.get(name) ?? { identity, put: reading };
        put.fields[field] = valueOf(kind, num, txt);
        found.set(name, { identity, put });
      }
      return [...found.values()];
    } finally {
      await session.close();
    }
  }
}

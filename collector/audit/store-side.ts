/** What a store that adds up its own points has, for the audit. */
import type { Asked, PointSum } from '../duckdb/points.ts';
import type { Summing, SumsAsked } from '../store/sums.ts';

const DAY_MS = 86_400_000;

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
}

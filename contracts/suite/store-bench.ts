/**
 * What a case of the TimeSeriesStore suite works with.
 *
 * A case has a gateway, an epoch and measurements of its own, so that none sees what another has left.
 */
import assert from 'node:assert/strict';
import { identityDigits, identitySeed, type FieldValue, type Reading } from '../reading.ts';
import type {
  Change,
  PointsPart,
  Refused,
  StoreQuery,
  StoreSupports,
  TimeSeriesStore,
} from '../store.ts';
import type { Case } from './runner.ts';

/** How the suite gets at what is tested. */
export interface StoreUnderTest {
  supports: StoreSupports;
  /** Makes a store on the same storage each time; `open()` is the suite's. */
  create(): TimeSeriesStore | Promise<TimeSeriesStore>;
  /** Kills its server without a warning, and has it up again when this resolves. */
  crash?: () => Promise<void>;
}

export type StoreCase = Case<StoreBench, StoreSupports>;

export const T0 = Date.UTC(2024, 0, 1);
const NONE: ReadonlyMap<string, string> = new Map();
const PAUSE_MS = 5;
let benches = 0;

export class StoreBench {
  store: TimeSeriesStore;
  private readonly tested: StoreUnderTest;
  /** Of this case alone. */
  private readonly gateway: string;
  private sequence = 0;

  private constructor(tested: StoreUnderTest, store: TimeSeriesStore) {
    this.tested = tested;
    this.store = store;
    this.gateway = `suite-${process.pid}-${benches++}`;
  }

  static async use(
    tested: StoreUnderTest,
    run: (bench: StoreBench) => Promise<void>,
  ): Promise<void> {
    const store = await tested.create();
    const bench = new StoreBench(tested, store);
    try {
      await store.open();
      await run(bench);
    } finally {
      await bench.store.close();
    }
  }

  async reopen(): Promise<void> {
    await this.store.close();
    this.store = await this.tested.create();
    await this.store.open();
  }

  async crash(): Promise<void> {
    assert.ok(this.tested.crash, 'a case that crashes is skipped without a way to');
    await this.tested.crash();
  }

  get supports(): StoreSupports {
    return this.tested.supports;
  }

  /** Between two tries. */
  async pause(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }

  /** A measurement's name for this case. */
  name(measurement: string): string {
    return `${measurement}@${this.gateway}`;
  }

  change(
    measurement: string,
    timeMs: number,
    fields: Record<string, FieldValue>,
    tags: Record<string, string> = { device: 'd1' },
    epoch = '00112233aabbccdd',
  ): Change & { put: Reading } {
    const sequence = ++this.sequence;
    const ns = identityDigits(identitySeed(this.gateway, epoch), sequence, 0, 1_000_000);
    const put = {
      measurement: this.name(measurement),
      tags,
      fields,
      sequence,
      index: 0,
      timeMs,
      ns,
    };
    return { identity: { gateway: this.gateway, epoch, sequence, index: 0 }, put };
  }

  async apply(changes: readonly Change[], marks = NONE): Promise<Refused[]> {
    return await this.store.apply(changes, marks);
  }

  async parts(query: StoreQuery): Promise<PointsPart[]> {
    const parts: PointsPart[] = [];
    for await (const part of this.store.query(query)) parts.push(part);
    return parts;
  }

  async points(
    measurement: string,
    field = 'value',
    more: StoreQuery = {},
  ): Promise<[number, FieldValue][]> {
    const parts = await this.parts({ measurement: this.name(measurement), field, ...more });
    return parts.flatMap(({ points }) => points);
  }
}

/** Why a case about aggregates does not apply. */
export const aggregates = ({ aggregates: has }: StoreSupports): string | undefined =>
  has ? undefined : 'Headwater aggregates for it';
/** Why a case about removals does not apply. */
export const removes = ({ remove }: StoreSupports): string | undefined =>
  remove === 'none' ? 'it removes nothing' : undefined;

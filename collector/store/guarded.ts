/** A store of somebody else's package: see `collector/guard.ts`. */
import type { Time } from '../../shared/env/env.ts';
import {
  Guard,
  SENTENCES,
  WRITE_MS,
  isListOf,
  isObject,
  isText,
  isTexts,
  shape,
} from '../guard.ts';
import type {
  Change,
  LatestPoint,
  PointsPart,
  Refused,
  SeriesFilter,
  SeriesKey,
  StoreQuery,
  StoreSupports,
  StoredPoint,
  TimeSeriesStore,
} from './store.ts';

const isValue = (value: unknown): boolean =>
  typeof value === 'number' ? Number.isFinite(value) : isText(value) || typeof value === 'boolean';

function isKey(value: unknown): value is Record<string, unknown> {
  return (
    isObject(value) &&
    isText(value['measurement']) &&
    isText(value['field']) &&
    isTexts(value['tags'])
  );
}

const isPoint = (value: unknown): boolean =>
  Array.isArray(value) && value.length === 2 && Number.isFinite(value[0]) && isValue(value[1]);

const IDENTITY = shape<string>(
  'a name (letters, digits, . _ -, at most 64)',
  (value) => isText(value) && /^[A-Za-z0-9._-]{1,64}$/.test(value),
);
const nameOf = ({ identity: { gateway, epoch, sequence, index } }: Change): string =>
  JSON.stringify([gateway, epoch, sequence, index]);
const REFUSED = shape<Refused[]>(
  'a list of what it refuses, each with a reason and its changes',
  isListOf(
    (each) =>
      isObject(each) &&
      isText(each['reason']) &&
      isListOf((change) => isObject(change) && isObject(change['identity']))(each['changes']),
  ),
);
const MARKS = shape<Map<string, string>>(
  'a Map of texts',
  (value) =>
    value instanceof Map && [...value].every(([name, text]) => isText(name) && isText(text)),
);
const SERIES = shape<SeriesKey[]>('a list of series', isListOf(isKey));
const LATEST = shape<LatestPoint[]>(
  'a list of points with a time and a value',
  isListOf((each) => isKey(each) && Number.isFinite(each['time']) && isValue(each['value'])),
);
const PART = shape<PointsPart>(
  'points of a series with a cursor',
  (value) => isKey(value) && isText(value['cursor']) && isListOf(isPoint)(value['points']),
);
const SCANNED = shape<StoredPoint[]>(
  'a list of points to the nanosecond',
  isListOf((each) => isKey(each) && typeof each['timeNs'] === 'bigint' && isValue(each['value'])),
);
const KEEPS = shape<number | undefined>(
  'a time',
  (value) => value === undefined || Number.isFinite(value),
);

export const STORE_METHODS = [
  ...(['open', 'identity', 'apply', 'marks', 'series', 'latest', 'query', 'warnings'] as const),
  'close',
] as const;

export class GuardedStore implements TimeSeriesStore {
  readonly kind: string;
  readonly supports: StoreSupports;
  private readonly store: TimeSeriesStore;
  private readonly guard: Guard;
  /** What a store need not have is there where it has it. */
  scan?: NonNullable<TimeSeriesStore['scan']>;
  keepsFromMs?: NonNullable<TimeSeriesStore['keepsFromMs']>;

  constructor(store: TimeSeriesStore, name: string, supports: StoreSupports, time?: Time) {
    this.store = store;
    this.kind = name;
    this.supports = supports;
    const guard = new Guard('store', name, 'STORE_UNAVAILABLE', time);
    this.guard = guard;
    const { scan, keepsFromMs } = store;
    if (scan !== undefined)
      this.scan = (fromMs, toMs) =>
        guard.parts('scan', () => scan.call(store, fromMs, toMs), SCANNED);
    if (keepsFromMs !== undefined)
      this.keepsFromMs = () =>
        guard.answer(
          'keepsFromMs',
          () => keepsFromMs.call(store),
          KEEPS,
          () => undefined,
        );
  }

  open(): Promise<void> {
    return this.guard.write('open', () => this.store.open());
  }

  identity(): Promise<string> {
    return this.guard.call('identity', () => this.store.identity(), IDENTITY);
  }

  async apply(changes: readonly Change[], marks: ReadonlyMap<string, string>): Promise<Refused[]> {
    const work = (): unknown => this.store.apply(changes, marks);
    const refused = await this.guard.call('apply', work, REFUSED, WRITE_MS);
    if (refused.length === 0) return refused;
    // They may have been to another process and back: the identity says which they are.
    const given = new Map(changes.map((change) => [nameOf(change), change]));
    return refused.map(({ reason, changes: theirs }) => ({
      reason,
      changes: theirs.map((change) => {
        const own = given.get(nameOf(change));
        if (own === undefined) throw this.guard.failure('apply refused what it was not given');
        return own;
      }),
    }));
  }

  marks(prefix: string): Promise<Map<string, string>> {
    return this.guard.call('marks', () => this.store.marks(prefix), MARKS);
  }

  series(): Promise<SeriesKey[]> {
    return this.guard.call('series', () => this.store.series(), SERIES);
  }

  latest(filter: SeriesFilter): Promise<LatestPoint[]> {
    return this.guard.call('latest', () => this.store.latest(filter), LATEST);
  }

  query(query: StoreQuery): AsyncIterable<PointsPart> {
    return this.guard.parts('query', () => this.store.query(query), PART);
  }

  warnings(): string[] {
    return this.guard.answer(
      'warnings',
      () => this.store.warnings(),
      SENTENCES,
      (why) => [why],
    );
  }

  close(): Promise<void> {
    return this.guard.close(() => this.store.close());
  }
}

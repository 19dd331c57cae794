/** The TimeSeriesStore suite finds what is broken: each of these stores breaks one law, and the case that states it fails. */
import { randomBytes } from 'node:crypto';
import { it } from 'vitest';
import { STORE_CASES, runStoreCase, type StoreUnderTest } from '../../contracts/suite/store.ts';
import { DuckDbStore } from '../../collector/store/duckdb.ts';
import type {
  Change,
  LatestPoint,
  PointsPart,
  Refused,
  SeriesFilter,
  StoreQuery,
} from '../../collector/store/store.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { failsTheCase } from '../support/broken.ts';
import { temporaryFolder } from '../support/process.ts';

type Marks = ReadonlyMap<string, string>;
const NO_MARKS: Marks = new Map();
const DOWN_MS = 100;
let isDown = false;

/** Sound, and away while its server would be: what it is asked for then fails. */
class Sound extends DuckDbStore {
  override async apply(changes: readonly Change[], marks: Marks): Promise<Refused[]> {
    if (isDown) throw new HeadwaterError('STORE_UNAVAILABLE', 'the server is away');
    return await super.apply(changes, marks);
  }
}

class KeepsTwo extends Sound {
  override async apply(changes: readonly Change[], marks: Marks): Promise<Refused[]> {
    const fresh = (): string => randomBytes(8).toString('hex');
    const others = changes.map((change) => ({
      ...change,
      identity: { ...change.identity, epoch: fresh() },
    }));
    return await super.apply(others, marks);
  }
}

class RemovalIsForgotten extends Sound {
  override async apply(changes: readonly Change[], marks: Marks): Promise<Refused[]> {
    return await super.apply(
      changes.filter(({ put }) => put !== undefined),
      marks,
    );
  }
}

/** Knows points by series and millisecond: what another identity has there goes as well. */
class WasIsTooWide extends Sound {
  private readonly past: Change[] = [];
  override async apply(changes: readonly Change[], marks: Marks): Promise<Refused[]> {
    const times = new Set(changes.flatMap(({ was = [] }) => was.map(({ timeMs }) => timeMs)));
    const gone = this.past.filter(({ put }) => put !== undefined && times.has(put.timeMs));
    this.past.push(...changes);
    await super.apply(
      gone.map(({ identity }) => ({ identity, put: undefined })),
      NO_MARKS,
    );
    return await super.apply(changes, marks);
  }
}

class FirstPutCounts extends Sound {
  override async apply(changes: readonly Change[], marks: Marks): Promise<Refused[]> {
    return await super.apply(changes.toReversed(), marks);
  }
}

class BatchLosesOne extends Sound {
  override async apply(changes: readonly Change[], marks: Marks): Promise<Refused[]> {
    return await super.apply(changes.length > 1000 ? changes.slice(1) : changes, marks);
  }
}

class PageLosesItsEdge extends Sound {
  override async *query(query: StoreQuery): AsyncIterable<PointsPart> {
    let isEdge = query.cursor !== undefined;
    for await (const part of super.query(query)) {
      yield isEdge ? { ...part, points: part.points.slice(1) } : part;
      isEdge = false;
    }
  }
}

class LimitIsIgnored extends Sound {
  override async *query({ limit: _, ...query }: StoreQuery): AsyncIterable<PointsPart> {
    yield* super.query(query);
  }
}

class EveryCursorIsTaken extends Sound {
  override async *query({ cursor, ...query }: StoreQuery): AsyncIterable<PointsPart> {
    yield* super.query(cursor === 'x' || cursor === undefined ? query : { ...query, cursor });
  }
}

class EndIsInclusive extends Sound {
  override async *query(query: StoreQuery): AsyncIterable<PointsPart> {
    const { toMs } = query;
    yield* super.query(toMs === undefined ? query : { ...query, toMs: toMs + 1 });
  }
}

class IdentityChanges extends Sound {
  override identity(): Promise<string> {
    return Promise.resolve(randomBytes(8).toString('hex'));
  }
}

class LatestIsWrittenLast extends Sound {
  private last: Change | undefined;
  override async apply(changes: readonly Change[], marks: Marks): Promise<Refused[]> {
    this.last = changes.at(-1);
    return await super.apply(changes, marks);
  }
  override async latest(filter: SeriesFilter): Promise<LatestPoint[]> {
    const put = this.last?.put;
    const points = await super.latest(filter);
    return points.map((point) => ({ ...point, time: put?.timeMs ?? point.time }));
  }
}

class CursorIsIgnored extends Sound {
  override async *query({ cursor, ...query }: StoreQuery): AsyncIterable<PointsPart> {
    yield* super.query(cursor === 'x' ? { ...query, cursor } : query);
  }
}

/** Answers what it has answered before. */
class LatestIsStale extends Sound {
  private readonly before = new Map<string, Promise<LatestPoint[]>>();
  override latest(filter: SeriesFilter): Promise<LatestPoint[]> {
    const name = JSON.stringify(filter);
    const points = this.before.get(name) ?? super.latest(filter);
    this.before.set(name, points);
    return points;
  }
}

class MarksAreLost extends Sound {
  override async apply(changes: readonly Change[]): Promise<Refused[]> {
    return await super.apply(changes, NO_MARKS);
  }
}

class MarksRunAhead extends Sound {
  override async apply(changes: readonly Change[], marks: Marks): Promise<Refused[]> {
    await DuckDbStore.prototype.apply.call(this, [], marks);
    return await super.apply(changes, NO_MARKS);
  }
}

class AcknowledgesWhileAway extends Sound {
  override async apply(changes: readonly Change[], marks: Marks): Promise<Refused[]> {
    return isDown ? [] : await super.apply(changes, marks);
  }
}

it.each([
  ['two points of one identity', KeepsTwo, 'the same identity applied again'],
  ['a removal that is forgotten', RemovalIsForgotten, 'a reading that is taken back is gone'],
  ['a `was` that takes others along', WasIsTooWide, 'a reading that is put elsewhere'],
  ['changes in another order', FirstPutCounts, 'changes of one call are applied in their order'],
  ['a large batch that loses one', BatchLosesOne, 'takes ten thousand points'],
  ['a page that loses its edge', PageLosesItsEdge, 'a query with a limit goes on'],
  ['a limit that is none', LimitIsIgnored, 'a query with a limit goes on'],
  ['a cursor of nobody that is taken', EveryCursorIsTaken, 'a cursor that no answer had'],
  ['a range that includes its end', EndIsInclusive, 'a range is inclusive where it begins'],
  ['an identity that changes', IdentityChanges, 'has an identity, which stays'],
  ['the last written as the newest', LatestIsWrittenLast, 'a point older than the newest'],
  ['a cursor that is ignored', CursorIsIgnored, 'a query with a limit goes on'],
  ['newest points of before', LatestIsStale, 'what is asked again after a change'],
  ['lost marks', MarksAreLost, 'marks are kept with the changes'],
  ['marks ahead of their data', MarksRunAhead, 'changes that are not applied leave no mark'],
  ['an early acknowledgement', AcknowledgesWhileAway, 'what was acknowledged is there once'],
])('%s fails the case that says so', async (_, Broken, name) => {
  const tested = (Tested: typeof Sound): StoreUnderTest => {
    const folder = temporaryFolder();
    return {
      supports: { progress: true, remove: 'rows', aggregates: true },
      create: () =>
        new Tested(
          { folder, memoryBytes: 256 * 1024 * 1024, now: () => Date.now() },
          () => undefined,
        ),
      crash: async () => {
        isDown = true;
        await new Promise((resolve) => setTimeout(resolve, DOWN_MS));
        isDown = false;
      },
    };
  };
  const adapters = { broken: tested(Broken), sound: tested(Sound) };
  await failsTheCase(STORE_CASES, name, adapters, runStoreCase);
});

/** A view of the store as it was known at a moment, for `query`: points come from the lake and the log, aggregates are made of them here. */
import { readAsOf, type AsOfSources, type Doubts } from '../explain/as-of.ts';
import type { Answering } from '../store/aggregate.ts';
import { paged } from '../store/pages.ts';
import type { SeriesPoints, StoreQuery } from '../store/store.ts';
import { through } from './channel.ts';

export class AsOf {
  private readonly sources: AsOfSources;

  constructor(sources: AsOfSources) {
    this.sources = sources;
  }

  /** `doubts` is what the answer cannot be sure of, once its first part has been given, or its end. */
  view(atMs: number): { store: Answering; doubts: Doubts } {
    const doubts: Doubts = [];
    const store: Answering = {
      supports: { aggregates: false },
      query: (query) => paged(query, this.parts(query, atMs, doubts)),
    };
    return { store, doubts };
  }

  private parts(query: StoreQuery, atMs: number, doubts: Doubts): AsyncGenerator<SeriesPoints> {
    const told = (list: Doubts): void => void doubts.splice(0, Infinity, ...list);
    return through<SeriesPoints>((channel) =>
      readAsOf(this.sources, query, atMs, told, (part) => channel.put(part)),
    );
  }
}

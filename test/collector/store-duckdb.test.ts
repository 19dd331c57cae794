import { DuckDbStore } from '../../collector/store/duckdb.ts';
import { storeContract } from '../contract/store.ts';
import { temporaryFolder } from '../support/process.ts';

storeContract('embedded (DuckDB)', () => {
  const folder = temporaryFolder();
  return Promise.resolve({
    supports: { progress: true, remove: 'rows', aggregates: true },
    create: () =>
      new DuckDbStore(
        { folder, memoryBytes: 256 * 1024 * 1024, now: () => Date.now() },
        () => undefined,
      ),
    stop: () => Promise.resolve(),
  });
});

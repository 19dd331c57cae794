/** The package's face: everything that an adapter is written against. The suites are beside it, under `/suite/`. */
export * from './batch-engine.ts';
export * from './codec.ts';
export * from './context.ts';
export * from './define.ts';
export * from './errors.ts';
export * from './log.ts';
export * from './notice.ts';
export * from './object-store.ts';
export * from './options.ts';
export * from './partition.ts';
export * from './reading.ts';
export * from './store.ts';

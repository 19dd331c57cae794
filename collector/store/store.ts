/** The TimeSeriesStore contract, as the stages see it: `contracts/store.ts` says what it is. */
export * from '../../contracts/store.ts';

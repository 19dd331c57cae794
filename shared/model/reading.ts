/** A reading, as the contracts have it: `contracts/reading.ts` says what it is. */
export * from '../../contracts/reading.ts';

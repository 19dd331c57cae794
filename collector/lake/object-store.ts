/** The ObjectStore contract, as the contracts have it: `contracts/object-store.ts`. */
export * from '../../contracts/object-store.ts';

/** The ObjectStore contract's suite (`contracts/suite/object-store.ts`) as tests. */
import { describe, it } from 'vitest';
import { OBJECT_STORE_CASES, runObjectStoreCase } from '../../contracts/suite/object-store.ts';
import type { ObjectStore } from '../../contracts/object-store.ts';

/** `many`: objects of a list that is longer than a page. */
export function objectStoreContract(
  name: string,
  create: () => Promise<ObjectStore>,
  many: number,
): void {
  describe(`ObjectStore contract: ${name}`, () => {
    for (const { name: law, skip: reasonOf, run } of OBJECT_STORE_CASES)
      it(law, async ({ skip }) => {
        const reason = reasonOf?.({}, { canCrash: false });
        if (reason !== undefined) skip(reason);
        await runObjectStoreCase({ create, many }, run);
      });
  });
}

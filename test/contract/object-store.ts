/** The ObjectStore contract's suite (`contracts/suite/object-store.ts`) as tests. */
import { describe, it } from 'vitest';
import { OBJECT_STORE_CASES, runObjectStoreCase } from '../../contracts/suite/object-store.ts';
import type { ObjectStore } from '../../contracts/object-store.ts';

export function objectStoreContract(name: string, create: () => Promise<ObjectStore>): void {
  describe(`ObjectStore contract: ${name}`, () => {
    for (const { name: law, run } of OBJECT_STORE_CASES)
      it(law, async () => await runObjectStoreCase({ create }, run));
  });
}

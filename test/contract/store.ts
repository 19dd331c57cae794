/** The TimeSeriesStore contract's suite (`contracts/suite/store.ts`) as tests. */
import { afterAll, beforeAll, describe, it } from 'vitest';
import {
  STORE_CASES,
  runStoreCase,
  skipReason,
  type StoreUnderTest,
} from '../../contracts/suite/store.ts';

export interface StoreHarness extends StoreUnderTest {
  stop(): Promise<void>;
}

export function storeContract(name: string, makeHarness: () => Promise<StoreHarness>): void {
  describe(`TimeSeriesStore contract: ${name}`, () => {
    let harness: StoreHarness;
    beforeAll(async () => {
      harness = await makeHarness();
    });
    afterAll(async () => await harness.stop());
    for (const each of STORE_CASES) {
      it(each.name, async ({ skip }) => {
        const reason = skipReason(harness, each);
        if (reason !== undefined) skip(reason);
        await runStoreCase(harness, each);
      });
    }
  });
}

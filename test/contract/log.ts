/** The Log contract's suite (`contracts/suite/log.ts`) as tests. */
import { afterAll, beforeAll, describe, it } from 'vitest';
import { LOG_CASES, runLogCase, skipReason, type LogUnderTest } from '../../contracts/suite/log.ts';

export interface LogHarness extends LogUnderTest {
  stop(): Promise<void>;
}

export function logContract(name: string, makeHarness: () => Promise<LogHarness>): void {
  describe(`Log contract: ${name}`, () => {
    let harness: LogHarness;
    beforeAll(async () => {
      harness = await makeHarness();
    });
    afterAll(async () => await harness.stop());
    for (const each of LOG_CASES) {
      it(each.name, async ({ skip }) => {
        const reason = skipReason(harness, each);
        if (reason !== undefined) skip(reason);
        await runLogCase(harness, each);
      });
    }
  });
}

/** The Log contract (`contracts/log.ts`) and the topics that the stages use (`topics.ts`), as the stages see them. */
import type { Log } from '../../contracts/log.ts';
import { TOPIC_LEDGER, TOPIC_STATE } from './topics.ts';

export * from '../../contracts/log.ts';
export * from './topics.ts';

/** Topics that keep the last value of each key instead of a history. */
export const COMPACTED: ReadonlySet<string> = new Set([TOPIC_LEDGER, TOPIC_STATE]);

/** What a log need not have. Who stands before a log hands on every one: a new one does not compile where it is forgotten. */
export type Optional = {
  [K in keyof Log as undefined extends Log[K] ? K : never]-?: NonNullable<Log[K]>;
};

/** The Log contract (`contracts/log.ts`) and the topics that the stages use (`topics.ts`), as the stages see them. */
import { TOPIC_LEDGER, TOPIC_STATE } from './topics.ts';

export * from '../../contracts/log.ts';
export * from './topics.ts';

/** Topics that keep the last value of each key instead of a history. */
export const COMPACTED: ReadonlySet<string> = new Set([TOPIC_LEDGER, TOPIC_STATE]);

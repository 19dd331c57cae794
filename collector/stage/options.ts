/** What a stage is made of, and what its step may do. `stage.ts` runs it. */
import type { Time } from '../../shared/env/env.ts';
import type { Histogram } from '../../shared/telemetry/histogram.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { ConsumerOptions, Produced, StoredRecord } from '../log/log.ts';
import type { Offsets, StageLog } from './membership.ts';
import type { StageState } from './state.ts';

/**
 * Commits state before the work that it announces, without moving on: fenced like every other step.
 * Throws what `commit` throws; the records at hand are read again then.
 */
export type Announce = (state: Produced[]) => Promise<void>;

/**
 * What a step touches, which decides how its failure is taken.
 *
 * - nothing: it makes its output of the records and of state that `onAssign` loads. After a failure it begins anew from
 *   what is committed; a record that fails alone is the reason.
 * - elsewhere: it asks another system, and may be done again in any order. It is repeated in place; a record that fails
 *   alone is the reason only if others pass in between.
 * - gathers: like elsewhere, of many steps' records at once. No record is known to be the reason.
 */
export type Touches = 'nothing' | 'elsewhere' | 'gathers';

export interface StageOptions {
  name: string;
  log: StageLog;
  notify: Notify;
  time?: Time;
  consumer: ConsumerOptions;
  touches: Touches;
  /** Works on records and returns what to produce. When `isCareful`, what fails is being looked for: nothing is gathered. */
  step: (
    records: StoredRecord[],
    offsets: Offsets,
    announce: Announce,
    isCareful: boolean,
  ) => Promise<Produced[] | undefined>;
  /** The same without records: at least every half second while none come, and every second else. */
  idle?: (offsets: Offsets, announce: Announce) => Promise<Produced[] | undefined>;
  /** Its work holds the event loop: so long a step may take, milliseconds, as far as one record does not take longer. */
  stepMs?: number;
  /** It keeps its place in its own state, committed with each step: `onAssign` says it. */
  isPlaceOwn?: boolean;
  /** What is to be committed, too, where a record is passed over: for such a stage. */
  passOver?: (offsets: Offsets) => Produced[];
}

export interface Stage {
  state(): StageState;
  /** From the arrival of records to this stage's commit of them. */
  readonly latencySeconds: Histogram;
  close(): Promise<void>;
}

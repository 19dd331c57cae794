/**
 * A step of decoding, without log, clock or disk: raw frames and what is known of their gateways → readings, what goes
 * to quarantine, and what is known then. A stage over a log calls it, and so could a Lambda or a Flink operator: what it
 * returns is to be committed with the position in `raw` or not at all, and then the state is to be loaded again.
 *
 * Every sequence of every epoch that has been decoded is in the ledger's entry for it, so a frame that arrives twice
 * adds nothing, however it came to be sent again (law 3). Losses, summaries, anchors and status reports are frames among
 * the others and make the rest of the entry.
 */
import { messageOf } from '../../shared/errors.ts';
import {
  KIND_ANCHOR,
  KIND_LOSS,
  KIND_RECORDS,
  KIND_STATUS,
  KIND_SUMMARY,
  checkFrame,
  type FrameHeader,
} from '../../shared/frame/frame.ts';
import { encodeQuarantined } from '../../shared/model/quarantine-record.ts';
import type { Quarantined } from '../../shared/model/reading.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { CounterBy } from '../../shared/telemetry/metrics.ts';
import {
  HEADER_FROM_LAKE,
  TOPIC_QUARANTINE,
  type Produced,
  type StoredRecord,
} from '../log/log.ts';
import { accountLoss, accountStatus, accountSummary, arrivedOf } from './accounting.ts';
import type { SeriesLimits } from './admission.ts';
import { BootClocks } from './boot-clocks.ts';
import { FrameDecoder } from './frame-decoder.ts';
import type { FrameJob } from './frame-job.ts';
import { holdFrame, isUnsettled, mayMove, settleFrames, takeAnchor } from './held-frames.ts';
import type { Mappings } from './mapping/mappings.ts';
import { atOnce, never, type IsDue, type Portions } from './portions.ts';
import { kindOfReason } from './reasons.ts';
import type { DecodeState, PartitionState } from './state.ts';
import { timedBy } from './summary-clock.ts';

export interface StepResult {
  produced: Produced[];
  state: DecodeState;
}

const always = (): boolean => true;

/** Of a label. */
const KIND_CHARS = 80;

export class DecodeStep {
  readonly quarantinedBy = new CounterBy('reason');
  duplicateMessages = 0;
  readonly decoder: FrameDecoder;
  private readonly notify: Notify;

  constructor(mappings: Mappings, limits: SeriesLimits, notify: Notify) {
    this.notify = notify;
    this.decoder = new FrameDecoder(mappings, limits, (item) => this.quarantined(item));
  }

  /** Does not throw for anything that a record holds. */
  step(state: DecodeState, records: readonly StoredRecord[]): StepResult {
    return atOnce(this.portions(state, records));
  }

  /** The same in portions, each of which ends when others are due. */
  *portions(
    state: DecodeState,
    records: readonly StoredRecord[],
    isDue: IsDue = never,
  ): Portions<StepResult> {
    const produced: Produced[] = [];
    for (const record of records) {
      if (isDue()) yield;
      try {
        const header = checkFrame(record.value);
        const partition = state.of(record.partition);
        yield* this.frame(partition, record, header, produced, isDue);
      } catch (error) {
        // A frame that was whole on arrival is damaged in the log: its bytes go where a person sees them.
        produced.push(this.damaged(record, messageOf(error)));
      }
    }
    for (const each of state.takeChanges()) produced.push(each);
    return { produced, state };
  }

  private damaged(record: StoredRecord, reason: string): Produced {
    return this.quarantined({
      gateway: record.key,
      epoch: '',
      sequence: 0,
      index: 0,
      client: '',
      topic: '',
      reason,
      receivedMs: arrivedOf(record),
      payload: record.value,
    });
  }

  private *frame(
    state: PartitionState,
    record: StoredRecord,
    header: FrameHeader,
    produced: Produced[],
    isDue: IsDue,
  ): Portions<void> {
    if (header.kind === KIND_STATUS) {
      accountStatus(state, record, header);
      return;
    }
    const { gateway, epoch, firstSequence, count } = header;
    // A part of a note has no place of its own: the last one has it, and ends what is said again.
    const last = firstSequence + Math.max(1, count) - 1;
    const ledger = state.touch(state.epoch(gateway, epoch));
    if (!isUnsettled(record)) settleFrames(state, gateway, produced);
    const { received } = ledger;
    if (received.covers(firstSequence, last)) {
      this.duplicateMessages += count;
      return;
    }
    if (header.kind === KIND_RECORDS) {
      const partly = received.touches(firstSequence, last);
      const isFresh = (sequence: number): boolean => !partly || !received.has(sequence);
      if (partly)
        this.duplicateMessages += received
          .within(firstSequence, last)
          .reduce((sum, [a, b]) => sum + b - a + 1, 0);
      yield* this.records(state, record, header, isFresh, produced, isDue);
    } else yield* this.note(state, record, header, produced, isDue);
    if (count > 0) ledger.receive(firstSequence, last);
  }

  private *records(
    state: PartitionState,
    record: StoredRecord,
    header: FrameHeader,
    isFresh: (sequence: number) => boolean,
    produced: Produced[],
    isDue: IsDue,
  ): Portions<void> {
    const known = BootClocks.believes(header)
      ? { offsetUs: 0, isFinal: true }
      : state.clocks.resolve(header);
    const job = jobOf(state, record, header, known?.offsetUs ?? 0, isFresh);
    if (known !== undefined)
      for (const each of yield* this.decoder.portions(job, isDue)) produced.push(each);
    if (known?.isFinal !== true || mayMove(record, header))
      holdFrame(state, record, job, known?.offsetUs, this.decoder, produced);
  }

  private *note(
    state: PartitionState,
    record: StoredRecord,
    header: FrameHeader,
    produced: Produced[],
    isDue: IsDue,
  ): Portions<void> {
    const { gateway, kind } = header;
    switch (kind) {
      case KIND_LOSS: {
        const text = accountLoss(state, record, header);
        this.notify({ level: 'error', event: 'gateway_loss', text });
        return;
      }
      case KIND_SUMMARY: {
        const summary = accountSummary(state, record, header);
        yield* this.records(state, record, timedBy(header, summary), always, produced, isDue);
        return;
      }
      case KIND_ANCHOR:
        takeAnchor(
          state,
          record,
          header,
          ({ frame, header: held, headers }, offsetUs) =>
            jobOf(state, { value: frame, headers }, held, offsetUs, always),
          this.decoder,
          produced,
        );
        return;
      default:
        this.notify({
          level: 'warn',
          event: 'frame_kind',
          text: `gateway ${gateway} sent a frame of kind ${kind}, which this version does not know; it stays in the raw log`,
        });
    }
  }

  private quarantined(item: Quarantined): Produced {
    this.quarantinedBy.add(kindOfReason(item.reason, KIND_CHARS));
    return {
      topic: TOPIC_QUARANTINE,
      key: item.gateway,
      headers: {},
      value: encodeQuarantined(item),
    };
  }
}

function jobOf(
  state: PartitionState,
  { value: frame, headers }: Pick<StoredRecord, 'value' | 'headers'>,
  header: FrameHeader,
  offsetUs: number,
  isFresh: (sequence: number) => boolean,
): FrameJob {
  const { gateway, epoch } = header;
  const { received } = state.epoch(gateway, epoch);
  return {
    frame,
    header,
    arrivedMs: arrivedOf({ headers }),
    isAgain: headers[HEADER_FROM_LAKE] !== undefined,
    isUnsettled: isUnsettled({ headers }),
    offsetUs,
    isFresh,
    state: state.codecs.of(gateway),
    partition: state.partition,
    hasAll: (from, to) => {
      const first = Math.max(from, header.firstSequence);
      // Of this frame itself every message before `to` has been seen by now.
      return first === from || received.covers(from, header.firstSequence - 1) || to < first;
    },
  };
}

/** The decode stage: the step of `step.ts` over a log, with its state loaded from the ledger topic or, without one, rebuilt. */
import { monotonicMs, processTime, type Time } from '../../shared/env/env.ts';
import { Turns } from '../../shared/env/turns.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { LEDGER_PREFIX, isShared } from '../ledger/view.ts';
import { TOPIC_LEDGER, TOPIC_RAW, type Log } from '../log/log.ts';
import { CheckedPlaces } from '../stage/own-place.ts';
import type { Stage } from '../stage/options.ts';
import { runStage } from '../stage/stage.ts';
import { account } from './accounting.ts';
import type { SeriesLimits } from './admission.ts';
import { FrozenState } from './codec-state.ts';
import type { CodecState } from './codecs/context.ts';
import type { FrameDecoder } from './frame-decoder.ts';
import { inTurns } from './portions.ts';
import type { Mappings } from './mapping/mappings.ts';
import { DECODED_PREFIX, DecodeState, PartitionState } from './state.ts';
import { DecodeStep } from './step.ts';

const STEP_BYTES_MAX = 1024 * 1024;
/** Others of this process wait while it decodes. */
const STEP_MS = 40;
/** And within a step for so long. */
const TURN_MS = 10;
const REBUILD_BYTES_MAX = 4 * 1024 * 1024;

export class DecodeStage {
  private readonly log: Log;
  private readonly notify: Notify;
  private readonly time: Time;
  private readonly decode: DecodeStep;
  private readonly state = new DecodeState();
  private readonly places = new CheckedPlaces(TOPIC_LEDGER, DECODED_PREFIX);
  private stage: Stage | undefined;
  /** The simulation, whose time stands still meanwhile, gives others their turn after each portion. */
  turnMs = TURN_MS;

  constructor(
    log: Log,
    mappings: Mappings,
    limits: SeriesLimits,
    notify: Notify,
    time: Time = processTime,
  ) {
    this.log = log;
    this.notify = notify;
    this.time = time;
    this.decode = new DecodeStep(mappings, limits, notify);
  }

  /** The ledger after a log that was damaged: told anew, and in a step that was not begun again. */
  private told: 'anew' | 'said' | undefined;

  get decoder(): FrameDecoder {
    return this.decode.decoder;
  }

  get quarantinedBy(): DecodeStep['quarantinedBy'] {
    return this.decode.quarantinedBy;
  }

  get duplicateMessages(): number {
    return this.decode.duplicateMessages;
  }

  /** Frames that wait for their boot's clock. */
  get heldFrames(): number {
    return this.state.heldFrames;
  }

  /** Frames that are kept to be moved, or wait for a clock. */
  get keptFrames(): number {
    return this.state.keptFrames;
  }

  /** What codecs remember of a gateway, to be read; undefined: its partition is decoded elsewhere. */
  codecsOf(partition: number, gateway: string): CodecState | undefined {
    const state = this.state.peek(partition);
    return state && new FrozenState(state.codecs.of(gateway));
  }

  start(): void {
    this.stage = runStage({
      name: 'decode',
      touches: 'nothing',
      log: this.log,
      notify: this.notify,
      time: this.time,
      consumer: {
        group: 'headwater-decode',
        topic: TOPIC_RAW,
        from: 'start',
        bytesMax: STEP_BYTES_MAX,
        // Also after a step that was not committed: its sequences must not stay in the sets.
        onAssign: (partition, committed) => this.load(partition, committed ?? 0),
        onRevoke: (partition) => this.state.revoke(partition),
      },
      isPlaceOwn: true,
      stepMs: STEP_MS,
      step: async (given, offsets) => {
        // What was told anew came with the step before this one.
        if (this.told === 'said') await this.log.madeUp?.('ledger');
        this.told = this.told === 'anew' ? 'said' : undefined;
        const records = this.places.fresh(given);
        // A frame may hold many messages that take long. Not where a partition may be given away meanwhile: what a step makes
        // of it would be said, and its place not be committed.
        const turns = isShared(this.log)
          ? undefined
          : new Turns(this.turnMs, () => monotonicMs(this.time));
        const { produced } = await inTurns(
          (isDue) => this.decode.portions(this.state, records, isDue),
          turns,
        );
        return [...produced, ...this.places.after(records, offsets)];
      },
      passOver: (offsets) => this.places.after([], offsets),
    });
  }

  /** Its own place, where the ledger knows one. */
  private async load(partition: number, committed: number): Promise<number | undefined> {
    const state = new PartitionState(partition);
    const records = await this.log.state(TOPIC_LEDGER, partition, '');
    const entries = records.filter(({ key }) => key.startsWith(LEDGER_PREFIX));
    const hasLost = this.log.hasLost?.('ledger') === true;
    const why =
      entries.length === 0
        ? 'is empty'
        : hasLost
          ? 'may lack something, for the log was damaged'
          : undefined;
    this.told = hasLost ? 'anew' : undefined;
    if (why === undefined || committed === 0) state.load(records);
    else {
      state.load(records.filter((record) => !entries.includes(record)));
      await this.rebuild(state, committed, why);
      state.join(entries);
    }
    this.state.assign(state);
    return this.places.load(
      records,
      partition,
      (await this.log.first?.(TOPIC_RAW, partition)) ?? 0,
    );
  }

  /** The raw log alone tells the ledger again, up to where decoding had come. */
  private async rebuild(state: PartitionState, committed: number, why: string): Promise<void> {
    const { partition } = state;
    this.notify({
      level: 'warn',
      event: 'ledger_rebuild',
      text: `the ledger of partition ${partition} ${why}; it is rebuilt from the raw log`,
    });
    const consumer = await this.log.consumer({
      group: `headwater-rebuild-${partition}-${committed}`,
      topic: TOPIC_RAW,
      from: 'start',
      bytesMax: REBUILD_BYTES_MAX,
    });
    try {
      for (let next = 0; next < committed; ) {
        const records = await consumer.poll(1000);
        for (const record of records)
          if (record.partition === partition && record.offset < committed) account(state, record);
        const last = records.findLast((record) => record.partition === partition);
        if (last !== undefined) next = last.offset + 1;
        // Offsets before `committed` that hold no record any more do not come.
        else if (records.length === 0) break;
      }
    } finally {
      await consumer.close();
    }
    state.touchAll();
  }

  running(): readonly Stage[] {
    return this.stage === undefined ? [] : [this.stage];
  }

  async close(): Promise<void> {
    await this.stage?.close();
  }
}

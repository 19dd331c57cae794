/**
 * The decode stage: raw frames → readings, once in effect (law 3), and the ledger.
 *
 * Every sequence of every epoch that has been decoded is in the ledger's entry for it; the entry is committed in the
 * same step as the readings and the offsets, so a frame that arrives twice adds nothing, however it came to be sent
 * again. Losses, summaries, anchors and status reports are frames among the others and make the rest of the entry.
 */
import { processTime, type Time } from '../../shared/env/env.ts';
import { messageOf } from '../../shared/errors.ts';
import {
  CLOCK_ASSUMED,
  KIND_ANCHOR,
  KIND_LOSS,
  KIND_RECORDS,
  KIND_STATUS,
  KIND_SUMMARY,
  checkFrame,
  type FrameHeader,
} from '../../shared/frame/frame.ts';
import { readNote } from '../../shared/frame/notes.ts';
import { encodeQuarantined } from '../../shared/model/quarantine-record.ts';
import type { Quarantined } from '../../shared/model/reading.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { CounterBy } from '../../shared/telemetry/metrics.ts';
import { EpochLedger } from '../ledger/epoch-ledger.ts';
import { HELD_PREFIX, LEDGER_PREFIX, parseRecord } from '../ledger/view.ts';
import {
  HEADER_FROM_LAKE,
  TOPIC_LEDGER,
  TOPIC_QUARANTINE,
  TOPIC_RAW,
  type Log,
  type Produced,
  type StoredRecord,
} from '../log/log.ts';
import { HEADER_UNSETTLED } from '../log/topics.ts';
import { runStage, type Stage } from '../stage/stage.ts';
import type { StageState } from '../stage/state.ts';
import { BootClocks, CLOCK_PREFIX, HELD_BYTES_MAX, type HeldFrame } from './boot-clocks.ts';
import { FrameDecoder, type FrameJob } from './frame-decoder.ts';
import type { SeriesLimits } from './cardinality.ts';
import { CODEC_PREFIX, CodecStates, FrozenState } from './codec-state.ts';
import type { Mappings } from './mapping/mappings.ts';

/** A frame's own clock agrees with an anchor within this, microseconds. */
const AGREES_US = 1e6;

/** What is known of the gateways of one partition. */
interface State {
  epochs: Map<string, EpochLedger>;
  clocks: BootClocks;
  codecs: CodecStates;
  /** All entries are written with the next step: they were rebuilt. */
  rebuilt: boolean;
}

/** What one step makes. */
interface Work {
  produced: Produced[];
  touched: Map<EpochLedger, number>;
}

const freshState = (): State => ({
  epochs: new Map(),
  clocks: new BootClocks(),
  codecs: new CodecStates(),
  rebuilt: false,
});

export class DecodeStage {
  readonly quarantinedBy = new CounterBy('reason');
  duplicateMessages = 0;
  readonly decoder: FrameDecoder;

  private readonly log: Log;
  private readonly notify: Notify;
  private readonly time: Time;
  private readonly states = new Map<number, State>();
  private stage: Stage | undefined;

  constructor(
    log: Log,
    mappings: Mappings,
    limits: SeriesLimits,
    notify: Notify,
    time: Time = processTime,
  ) {
    this.time = time;
    this.log = log;
    this.notify = notify;
    this.decoder = new FrameDecoder(mappings, limits, (item) => this.quarantined(item));
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
        bytesMax: 1024 * 1024,
        // Also after a step that was not committed: its sequences must not stay in the sets.
        onAssign: async (partition, committed) => {
          await this.load(partition, committed ?? 0);
          return undefined;
        },
        onRevoke: (partition) => this.states.delete(partition),
      },
      step: (records) => Promise.resolve(this.step(records)),
    });
  }

  /** Frames that wait for their boot's clock. */
  get heldFrames(): number {
    let count = 0;
    for (const { clocks } of this.states.values()) count += clocks.waitingFrames;
    return count;
  }

  /** Frames that are kept to be moved, or wait for a clock. */
  get keptFrames(): number {
    let count = 0;
    for (const { clocks } of this.states.values()) count += clocks.frames;
    return count;
  }

  // ---- state ----

  private async load(partition: number, committed: number): Promise<void> {
    const state = freshState();
    const records = await this.log.state(TOPIC_LEDGER, partition, '');
    for (const { key, value, headers } of records) {
      if (key.startsWith(LEDGER_PREFIX)) {
        const name = key.slice(LEDGER_PREFIX.length);
        const [gateway = '', epoch = ''] = name.split('/');
        const record = parseRecord(gateway, epoch, value);
        state.epochs.set(name, new EpochLedger(gateway, epoch, record));
      } else if (key.startsWith(CODEC_PREFIX)) {
        state.codecs.load(key, value);
      } else if (key.startsWith(CLOCK_PREFIX)) {
        state.clocks.load(key, value);
      } else if (key.startsWith(HELD_PREFIX)) {
        const header = checkFrame(value);
        const usedUs = headers['used'] === undefined ? undefined : Number(headers['used']);
        const { gateway, bootId: boot } = header;
        state.clocks.hold({ key, gateway, boot, frame: value, header, headers, usedUs });
      }
    }
    if (records.length === 0 && committed > 0) await this.rebuild(partition, committed, state);
    this.states.set(partition, state);
  }

  /** The ledger is lost: the raw log alone tells it again, up to where decoding had come. */
  private async rebuild(partition: number, committed: number, state: State): Promise<void> {
    this.notify({
      level: 'warn',
      event: 'ledger_rebuild',
      text: `the ledger of partition ${partition} is empty; it is rebuilt from the raw log`,
    });
    const consumer = await this.log.consumer({
      group: `headwater-rebuild-${partition}-${committed}`,
      topic: TOPIC_RAW,
      from: 'start',
      bytesMax: 4 * 1024 * 1024,
    });
    try {
      const work: Work = { produced: [], touched: new Map() };
      for (let next = 0; next < committed; ) {
        const records = await consumer.poll(1000);
        const mine = records.filter(
          (record) => record.partition === partition && record.offset < committed,
        );
        for (const record of mine) this.account(state, record, work);
        const last = records.findLast((record) => record.partition === partition);
        if (last !== undefined) next = last.offset + 1;
        // Offsets before `committed` that hold no record any more do not come.
        else if (records.length === 0) break;
      }
    } finally {
      await consumer.close();
    }
    state.rebuilt = true;
  }

  /** Accounts for a frame whose readings are written already. */
  private account(state: State, record: StoredRecord, work: Work): void {
    try {
      const header = checkFrame(record.value);
      const ledger = this.epochOf(state, header.gateway, header.epoch);
      if (header.kind === KIND_RECORDS) {
        ledger.receive(header.firstSequence, header.firstSequence + header.count - 1);
        return;
      }
      this.note(state, record, header, work, true);
    } catch {
      // It went to quarantine when it was decoded.
    }
  }

  private epochOf(state: State, gateway: string, epoch: string): EpochLedger {
    const name = `${gateway}/${epoch}`;
    let ledger = state.epochs.get(name);
    if (ledger === undefined) state.epochs.set(name, (ledger = new EpochLedger(gateway, epoch)));
    return ledger;
  }

  private stateOf(partition: number): State {
    let state = this.states.get(partition);
    if (state === undefined) this.states.set(partition, (state = freshState()));
    return state;
  }

  // ---- a step ----

  private step(records: StoredRecord[]): Produced[] {
    const work: Work = { produced: [], touched: new Map() };
    for (const record of records) {
      const state = this.stateOf(record.partition);
      if (state.rebuilt) {
        state.rebuilt = false;
        for (const ledger of state.epochs.values()) work.touched.set(ledger, record.partition);
      }
      try {
        this.frame(state, record, checkFrame(record.value), work);
      } catch (error) {
        // A frame that was whole on arrival is damaged in the log: its bytes go where a person sees them.
        work.produced.push(
          this.quarantined({
            gateway: record.key,
            epoch: '',
            sequence: 0,
            index: 0,
            client: '',
            topic: '',
            reason: messageOf(error),
            receivedMs: arrivedOf(record),
            payload: record.value,
          }),
        );
      }
    }
    for (const [partition, { codecs }] of this.states)
      for (const { key, value } of codecs.takeChanges())
        work.produced.push({ topic: TOPIC_LEDGER, partition, key, headers: {}, value });
    for (const [ledger, partition] of work.touched) {
      work.produced.push({
        topic: TOPIC_LEDGER,
        partition,
        key: `${LEDGER_PREFIX}${ledger.gateway}/${ledger.epoch}`,
        headers: {},
        value: Buffer.from(JSON.stringify(ledger.record)),
      });
    }
    return work.produced;
  }

  private frame(state: State, record: StoredRecord, header: FrameHeader, work: Work): void {
    if (header.kind === KIND_STATUS) return this.note(state, record, header, work, false);
    const { gateway, epoch, firstSequence, count } = header;
    const last = firstSequence + count - 1;
    const ledger = this.epochOf(state, gateway, epoch);
    if (!isUnsettled(record)) this.settle(state, gateway, record.partition, work);
    const { received } = ledger;
    work.touched.set(ledger, record.partition);
    if (received.covers(firstSequence, last)) {
      this.duplicateMessages += count;
      return undefined;
    }
    if (header.kind !== KIND_RECORDS) {
      this.note(state, record, header, work, false);
      return undefined;
    }
    const partly = received.touches(firstSequence, last);
    const isFresh = (sequence: number): boolean => !partly || !received.has(sequence);
    if (partly)
      this.duplicateMessages += received
        .within(firstSequence, last)
        .reduce((sum, [a, b]) => sum + b - a + 1, 0);
    this.records(state, record, header, work, isFresh);
    ledger.receive(firstSequence, last);
    return undefined;
  }

  private records(
    state: State,
    record: StoredRecord,
    header: FrameHeader,
    work: Work,
    isFresh: (sequence: number) => boolean,
  ): void {
    const { clocks } = state;
    const known = BootClocks.believes(header)
      ? { offsetUs: 0, isFinal: true }
      : clocks.resolve(header);
    if (known !== undefined) {
      const job = this.job(state, record, header, known.offsetUs, isFresh);
      work.produced.push(...this.decoder.readings(job));
      const mayMove = isUnsettled(record) && header.clockQuality !== CLOCK_ASSUMED;
      if (known.isFinal && !mayMove) return;
    }
    this.hold(state, record, header, known?.offsetUs, work, isFresh);
  }

  private job(
    state: State,
    { value: frame, headers, partition }: Pick<StoredRecord, 'value' | 'headers' | 'partition'>,
    header: FrameHeader,
    offsetUs: number,
    isFresh: (sequence: number) => boolean,
  ): FrameJob {
    const { gateway, epoch } = header;
    const { received } = this.epochOf(state, gateway, epoch);
    return {
      frame,
      header,
      arrivedMs: Number(headers['arrived'] ?? 0),
      isAgain: headers[HEADER_FROM_LAKE] !== undefined,
      offsetUs,
      isFresh,
      state: state.codecs.of(gateway),
      partition,
      hasAll: (from, to) => {
        const first = Math.max(from, header.firstSequence);
        // Of this frame itself every message before `to` has been seen by now.
        return first === from || received.covers(from, header.firstSequence - 1) || to < first;
      },
    };
  }

  /** Keeps a frame until its clock is known, or known well. */
  private hold(
    state: State,
    record: StoredRecord,
    header: FrameHeader,
    usedUs: number | undefined,
    work: Work,
    isFresh: (sequence: number) => boolean,
  ): void {
    const { clocks } = state;
    const { gateway, bootId, epoch, firstSequence } = header;
    if (clocks.heldBytes + record.value.length > HELD_BYTES_MAX) {
      // What is written already gives way first: it stays where it is.
      for (const settled of clocks.settledFrames())
        this.letGo(state, settled, record.partition, work);
    }
    if (clocks.heldBytes + record.value.length > HELD_BYTES_MAX) {
      if (usedUs !== undefined) return;
      const reason = `its clock is not known, and ${HELD_BYTES_MAX} bytes of such frames are held already`;
      work.produced.push(...this.decoder.aside(record.value, header, reason, isFresh));
      return;
    }
    const key = `${HELD_PREFIX}${gateway}/${bootId}/${epoch}/${firstSequence}`;
    const headers: Record<string, string> = { arrived: record.headers['arrived'] ?? '0' };
    if (isUnsettled(record)) headers[HEADER_UNSETTLED] = 'true';
    const frame: HeldFrame = {
      key,
      gateway,
      boot: bootId,
      frame: record.value,
      header,
      headers,
      usedUs,
    };
    this.keep(state, frame, record.partition, work);
  }

  private keep(state: State, frame: HeldFrame, partition: number, work: Work): void {
    const { key, headers, usedUs } = frame;
    state.clocks.hold(frame);
    work.produced.push({
      topic: TOPIC_LEDGER,
      partition,
      key,
      headers: usedUs === undefined ? headers : { ...headers, used: String(usedUs) },
      value: frame.frame,
    });
  }

  /** The collector's clock has settled: what it placed stays where it is, unless its own anchor is still a poor one. */
  private settle(state: State, gateway: string, partition: number, work: Work): void {
    const { clocks } = state;
    for (const frame of clocks.takeUnsettled(gateway)) {
      const known = clocks.resolve(frame.header);
      if (BootClocks.believes(frame.header) || known?.isFinal === true)
        this.letGo(state, frame, partition, work);
    }
  }

  private letGo(state: State, frame: HeldFrame, partition: number, work: Work): void {
    state.clocks.drop(frame);
    const value = Buffer.alloc(0);
    work.produced.push({ topic: TOPIC_LEDGER, partition, key: frame.key, headers: {}, value });
  }

  // ---- notes ----

  private note(
    state: State,
    record: StoredRecord,
    header: FrameHeader,
    work: Work,
    isReplay: boolean,
  ): void {
    const { gateway, epoch, firstSequence, count } = header;
    const arrivedMs = arrivedOf(record);
    const touch = (ledger: EpochLedger): EpochLedger => {
      work.touched.set(ledger, record.partition);
      return ledger;
    };
    const ledger = this.epochOf(state, gateway, epoch);
    switch (header.kind) {
      case KIND_LOSS: {
        const report = readNote(KIND_LOSS, record.value, header);
        touch(this.epochOf(state, gateway, report.epoch ?? epoch)).lose(report, arrivedMs);
        if (!isReplay)
          this.notify({
            level: 'error',
            event: 'gateway_loss',
            text: `gateway ${gateway} reports: ${report.where}: ${report.reason}`,
          });
        break;
      }
      case KIND_SUMMARY: {
        const summary = readNote(KIND_SUMMARY, record.value, header);
        const reason = `thinned to minimum, maximum and mean in sequence ${firstSequence} of epoch ${epoch}`;
        const ranges = summary.replaces;
        touch(this.epochOf(state, gateway, summary.epoch)).lose(
          { cause: 'thinned', where: 'buffer', reason, ranges },
          arrivedMs,
        );
        if (!isReplay) work.produced.push(...this.decoder.summary(summary, header, arrivedMs));
        break;
      }
      case KIND_ANCHOR:
        this.anchor(state, record, header, work, isReplay);
        break;
      case KIND_STATUS: {
        const status = readNote(KIND_STATUS, record.value, header);
        const named = new Set(status.epochs.map((each) => each.epoch));
        const sending = status.epochs.some(({ waiting }) => waiting.length > 0);
        for (const holdings of status.epochs)
          touch(this.epochOf(state, gateway, holdings.epoch)).heard(holdings, sending, arrivedMs);
        for (const other of state.epochs.values())
          if (other.gateway === gateway && !named.has(other.epoch) && other.holdsAnything)
            touch(other).heard(undefined, sending, arrivedMs);
        return;
      }
      default:
        if (!isReplay)
          this.notify({
            level: 'warn',
            event: 'frame_kind',
            text: `gateway ${gateway} sent a frame of kind ${header.kind}, which this version does not know; it stays in the raw log`,
          });
    }
    ledger.receive(firstSequence, firstSequence + count - 1);
  }

  /** The clock of a boot is known, or known better: what waited for it goes on, what was misplaced moves. */
  private anchor(
    state: State,
    record: StoredRecord,
    header: FrameHeader,
    work: Work,
    isReplay: boolean,
  ): void {
    const { clocks } = state;
    const { partition } = record;
    const { gateway } = header;
    const anchor = readNote(KIND_ANCHOR, record.value, header);
    const { key, value } = clocks.add(gateway, anchor);
    const improves = clocks.improves(gateway, anchor);
    work.produced.push({ topic: TOPIC_LEDGER, partition, key, headers: {}, value });
    if (isReplay) return;
    for (const held of clocks.heldOf(gateway, anchor.boot)) {
      const best = clocks.resolve(held.header);
      if (best === undefined) continue;
      const known = { ...best, isFinal: best.isFinal && !isUnsettled(record) };
      // A clock of its own that agrees is as good as the anchor.
      const agrees =
        BootClocks.believes(held.header) &&
        held.usedUs !== undefined &&
        Math.abs(known.offsetUs - held.usedUs) < AGREES_US;
      if (held.usedUs === undefined || (improves && !agrees)) {
        const { frame, header: frameHeader, headers, usedUs } = held;
        const stored = { value: frame, headers, partition };
        const all = (): boolean => true;
        const job = this.job(state, stored, frameHeader, known.offsetUs, all);
        work.produced.push(
          ...this.decoder.readings(
            usedUs === undefined ? job : { ...job, usedUs, state: new FrozenState(job.state) },
          ),
        );
        if (!known.isFinal) this.keep(state, { ...held, usedUs: known.offsetUs }, partition, work);
      }
      if (known.isFinal) this.letGo(state, held, partition, work);
    }
  }

  private quarantined(item: Quarantined): Produced {
    this.quarantinedBy.add(item.reason.replaceAll(/'[^']*'|\d+/g, '…').slice(0, 80));
    return {
      topic: TOPIC_QUARANTINE,
      key: item.gateway,
      headers: {},
      value: encodeQuarantined(item),
    };
  }

  stageStates(): StageState[] {
    return this.stage === undefined ? [] : [this.stage.state()];
  }

  async close(): Promise<void> {
    await this.stage?.close();
  }
}

const isUnsettled = ({ headers }: StoredRecord): boolean => headers[HEADER_UNSETTLED] !== undefined;

const arrivedOf = ({ headers }: StoredRecord): number => Number(headers['arrived'] ?? 0);

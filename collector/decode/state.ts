/**
 * What the decode stage knows of the gateways of one partition: which sequences of every epoch have been decoded (the
 * ledger), the clocks of boots and the frames that wait for them, and what codecs remember. It is kept in the ledger
 * topic, whose entries are committed together with the readings that came of them.
 */
import { KIND_SUMMARY, checkFrame, type FrameHeader } from '../../shared/frame/frame.ts';
import { readNote } from '../../shared/frame/notes.ts';
import { EpochLedger, type EpochRecord } from '../ledger/epoch-ledger.ts';
import { HELD_PREFIX, HELD_USED, LEDGER_PREFIX, parseRecord } from '../ledger/view.ts';
import { TOPIC_LEDGER, type LogRecord, type Produced } from '../log/log.ts';
import { BootClocks } from './boot-clocks.ts';
import { CODEC_PREFIX, CodecStates } from './codec-state.ts';
import { timedBy } from './summary-clock.ts';

/** What may be configured of epochs of a gateway (`ingest.epochsPerGatewayMax`); notes can name any. */
export const EPOCHS_TOLD_MAX = 1_000_000;

/** In the ledger topic: how far a partition of raw is decoded. */
export const DECODED_PREFIX = 'at/decode/';

/** The first record of raw that is not decoded yet; 0: nobody knows. */
export function decodedTo(records: readonly LogRecord[], partition: number): number {
  const known = records.find(({ key }) => key === `${DECODED_PREFIX}${partition}`);
  if (known === undefined || known.value.length === 0) return 0;
  return (JSON.parse(known.value.toString('utf8')) as { next: number }).next;
}

export class PartitionState {
  readonly partition: number;
  readonly clocks = new BootClocks();
  readonly codecs = new CodecStates();
  /** By gateway. */
  private readonly epochs = new Map<string, Map<string, EpochLedger>>();
  private readonly touched = new Set<EpochLedger>();

  constructor(partition: number) {
    this.partition = partition;
  }

  /** Takes what the ledger topic has. */
  load(records: readonly LogRecord[]): void {
    for (const { key, value, headers } of records) {
      if (key.startsWith(LEDGER_PREFIX)) {
        const record = recordOf(key, value);
        this.put(new EpochLedger(record.gateway, record.epoch, record));
      } else if (key.startsWith(CODEC_PREFIX)) {
        this.codecs.load(key, value);
      } else if (key.startsWith(HELD_PREFIX)) {
        const header = heldHeader(value);
        const used = headers[HELD_USED];
        const usedUs = used === undefined ? undefined : Number(used);
        const { gateway, bootId: boot } = header;
        this.clocks.hold({ key, gateway, boot, frame: value, header, headers, usedUs });
      } else this.clocks.load(key, value);
    }
  }

  /** Of the ledger that is told anew by the raw log: entries that say more than it stay. */
  join(records: readonly LogRecord[]): void {
    for (const { key, value } of records)
      if (key.startsWith(LEDGER_PREFIX)) {
        const record = recordOf(key, value);
        const { gateway, epoch, statusMs, ranges } = record;
        const told = this.epoch(gateway, epoch);
        const received = [...told.received.ranges];
        if (statusMs > told.record.statusMs) this.put(new EpochLedger(gateway, epoch, record));
        for (const [from, to] of [...received, ...ranges])
          this.epoch(gateway, epoch).receive(from, to);
      }
  }

  private put(ledger: EpochLedger): EpochLedger {
    const { gateway, epoch } = ledger;
    let own = this.epochs.get(gateway);
    if (own === undefined) this.epochs.set(gateway, (own = new Map()));
    own.set(epoch, ledger);
    return ledger;
  }

  epoch(gateway: string, epoch: string): EpochLedger {
    return this.epochs.get(gateway)?.get(epoch) ?? this.put(new EpochLedger(gateway, epoch));
  }

  /** One that a note tells of: its entry is written with this step. Undefined: it is new, and its gateway has told of as many as are remembered. */
  touchTold(gateway: string, epoch: string): EpochLedger | undefined {
    const own = this.epochs.get(gateway);
    const isFull = own !== undefined && !own.has(epoch) && own.size >= EPOCHS_TOLD_MAX;
    return isFull ? undefined : this.touch(this.epoch(gateway, epoch));
  }

  epochsOf(gateway: string): EpochLedger[] {
    return [...(this.epochs.get(gateway)?.values() ?? [])];
  }

  /** Its entry is written with this step. */
  touch(ledger: EpochLedger): EpochLedger {
    this.touched.add(ledger);
    return ledger;
  }

  /** All entries are written with the next step: they were rebuilt. */
  touchAll(): void {
    for (const own of this.epochs.values())
      for (const ledger of own.values()) this.touched.add(ledger);
  }

  /** An entry of this partition's ledger topic; an empty value takes one back. */
  entry(key: string, value: Buffer, headers: Record<string, string> = {}): Produced {
    return { topic: TOPIC_LEDGER, partition: this.partition, key, headers, value };
  }

  /** The entries of what has changed since the last call. */
  takeChanges(): Produced[] {
    const entries = this.codecs.takeChanges().map(({ key, value }) => this.entry(key, value));
    for (const ledger of this.touched) {
      const key = `${LEDGER_PREFIX}${ledger.gateway}/${ledger.epoch}`;
      entries.push(this.entry(key, Buffer.from(JSON.stringify(ledger.record))));
    }
    this.touched.clear();
    return entries;
  }
}

function heldHeader(frame: Buffer): FrameHeader {
  const header = checkFrame(frame);
  if (header.kind !== KIND_SUMMARY) return header;
  return timedBy(header, readNote(KIND_SUMMARY, frame, header));
}

function recordOf(key: string, value: Buffer): EpochRecord {
  const [gateway = '', epoch = ''] = key.slice(LEDGER_PREFIX.length).split('/');
  return parseRecord(gateway, epoch, value);
}

/** By partition. */
export class DecodeState {
  private readonly partitions = new Map<number, PartitionState>();

  of(partition: number): PartitionState {
    let state = this.partitions.get(partition);
    if (state === undefined)
      this.partitions.set(partition, (state = new PartitionState(partition)));
    return state;
  }

  peek(partition: number): PartitionState | undefined {
    return this.partitions.get(partition);
  }

  assign(state: PartitionState): void {
    this.partitions.set(state.partition, state);
  }

  revoke(partition: number): void {
    this.partitions.delete(partition);
  }

  takeChanges(): Produced[] {
    return [...this.partitions.values()].flatMap((state) => state.takeChanges());
  }

  /** Frames that are kept to be moved, or wait for a clock. */
  get keptFrames(): number {
    let count = 0;
    for (const { clocks } of this.partitions.values()) count += clocks.frames;
    return count;
  }

  /** Frames that wait for their boot's clock. */
  get heldFrames(): number {
    let count = 0;
    for (const { clocks } of this.partitions.values()) count += clocks.waitingFrames;
    return count;
  }
}

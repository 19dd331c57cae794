/**
 * Brings a database's frames under known epochs after an open: epochs whose note is lost are made up from their frames,
 * and whole frames of damaged files, which LevelDB leaves out, are put back (law 7: what is good is used).
 */
import { checkFrame, readHeader, type FrameHeader } from '../../shared/frame/frame.ts';
import type { KvDatabase, KvOp } from '../../shared/kv/kv.ts';
import type { Recovery } from '../../shared/kv/recover.ts';
import { seal, unseal } from '../../shared/kv/sealed.ts';
import type { LossReport } from '../../shared/frame/notes.ts';
import type { Notice } from '../../shared/telemetry/log.ts';
import { EPOCH_NOTES, type Epoch, type Epochs } from './epochs.ts';
import { framesFrom, ordinalOf, positionOf, sequenceOf } from './position.ts';
import { salvage, type Salvaged } from './salvage.ts';
import type { BufferStorage } from './storage.ts';

const BATCH_BYTES = 1024 * 1024;
const ORDINAL_KEY = Buffer.from('mordinal');

export class Rescue {
  private readonly gateway: string;
  private readonly storage: BufferStorage;
  private readonly epochs: Epochs;
  /** Made up from frames: what was acknowledged of them is not known. */
  private readonly adopted = new Set<Epoch>();

  constructor(gateway: string, storage: BufferStorage, epochs: Epochs) {
    this.gateway = gateway;
    this.storage = storage;
    this.epochs = epochs;
  }

  /** Everything that can be known of an opened database. Returns how many frames were put back. */
  async takeUp(recovery: Recovery): Promise<number> {
    const { db } = recovery;
    this.epochs.load(await db.read(EPOCH_NOTES, Number.POSITIVE_INFINITY));
    await this.meet(db);
    return await this.putBack(recovery);
  }

  /** An ordinal above all that were given before. */
  async nextOrdinal(db: KvDatabase, last: number): Promise<number> {
    const noted = await db.get(ORDINAL_KEY);
    const value = noted === undefined ? undefined : unseal(noted);
    const newest = Math.max(this.epochs.newest?.ordinal ?? 0, last);
    return Math.max(newest, value?.length === 8 ? Number(value.readBigUInt64BE(0)) : 0) + 1;
  }

  /** Keeps the newest ordinal, for when nothing else of it is left. */
  static ordinalNote(ordinal: number): KvOp {
    const value = Buffer.alloc(8);
    value.writeBigUInt64BE(BigInt(ordinal), 0);
    return { type: 'put', key: ORDINAL_KEY, value: seal(value) };
  }

  /** Meets every epoch that has frames: its end, and the epoch itself where its note is lost. */
  private async meet(db: KvDatabase): Promise<void> {
    for (let from: Buffer | undefined; ; ) {
      const [first] = await db.read({ ...framesFrom(from), limit: 1 }, 1);
      if (first === undefined) return;
      const ordinal = ordinalOf(first[0]);
      const [last] = await db.read(
        {
          gte: positionOf(ordinal, 0),
          lt: positionOf(ordinal + 1, 0),
          reverse: true,
          limit: 1,
        },
        1,
      );
      const epoch = this.epochs.at(ordinal) ?? this.adopt(ordinal, headerOf(first[1]), first[0]);
      if (epoch !== undefined && last !== undefined) this.extend(epoch, last[0], last[1]);
      from = positionOf(ordinal + 1, 0);
    }
  }

  private adopt(
    ordinal: number,
    header: FrameHeader | undefined,
    position: Buffer,
  ): Epoch | undefined {
    // Without note and header the epoch's name is not known: its frames cannot be told apart from damage.
    if (header === undefined) return undefined;
    const { epoch, bootId, wallUs, monotonicUs } = header;
    const start = { wallUs, monotonicUs };
    const adopted = this.epochs.adopt(ordinal, epoch, bootId, sequenceOf(position), start);
    this.adopted.add(adopted);
    return adopted;
  }

  private extend(epoch: Epoch, position: Buffer, frame: Buffer): void {
    const header = headerOf(frame);
    const isWhole = header !== undefined && header.epoch === epoch.epoch && isIntact(frame);
    const end = sequenceOf(position) + (isWhole ? header.count : 1);
    if (end <= epoch.next) return;
    epoch.next = end;
    epoch.openEnd = !isWhole;
    if (isWhole) epoch.last = { wallUs: header.wallUs, monotonicUs: header.monotonicUs };
    this.epochs.touch(epoch);
  }

  /** Puts whole frames of damaged logs, and of a database that was set aside, back. Returns how many frames. */
  private async putBack({ db, damaged, setAside }: Recovery): Promise<number> {
    let count = 0;
    let batch: KvOp[] = [];
    let bytes = 0;
    const flush = async (): Promise<void> => {
      if (batch.length > 0) await db.write(batch, { sync: false });
      batch = [];
      bytes = 0;
    };
    const take = async ({ header, frame }: Salvaged): Promise<void> => {
      const position = await this.place(db, header);
      if (position === undefined) return;
      count++;
      batch.push({ type: 'put', key: position, value: frame });
      bytes += frame.length;
      if (bytes >= BATCH_BYTES) await flush();
    };
    if (setAside !== undefined) {
      // What was history there is not here, until it is found.
      for (const epoch of this.epochs.all)
        for (const [from, to] of epoch.released.ranges) epoch.gone.add(from, to);
      for await (const found of this.storage.salvage(setAside)) await take(found);
    } else {
      for (const { bytes: log } of damaged)
        for (const found of salvage(log, true)) await take(found);
    }
    await flush();
    return count;
  }

  /** Where a found frame belongs, or undefined when it is there or is not wanted any more. */
  private async place(db: KvDatabase, header: FrameHeader): Promise<Buffer | undefined> {
    const { gateway, epoch: name, bootId, firstSequence, count, wallUs, monotonicUs } = header;
    let epoch = this.epochs.named(name);
    // Under another name it is this gateway's only if its epoch is: it was written before there was a name.
    if ((gateway !== this.gateway && epoch === undefined) || count === 0) return undefined;
    const last = firstSequence + count - 1;
    if (epoch === undefined) {
      const ordinal = (this.epochs.newest?.ordinal ?? 0) + 1;
      epoch = this.epochs.adopt(ordinal, name, bootId, firstSequence, { wallUs, monotonicUs });
      this.adopted.add(epoch);
    }
    const position = positionOf(epoch.ordinal, firstSequence);
    if ((await db.get(position)) !== undefined) {
      epoch.gone.remove(firstSequence, last);
      return undefined;
    }
    // What a collector had acknowledged is history again; of the rest nothing is known, so it waits.
    if (this.adopted.has(epoch)) epoch.released.remove(firstSequence, last);
    epoch.gone.remove(firstSequence, last);
    if (last >= epoch.next) {
      epoch.next = last + 1;
      epoch.last = { wallUs, monotonicUs };
    }
    this.epochs.touch(epoch);
    return position;
  }
}

/** What an open found damaged, as losses for the ledger and notices for the operator. `kept`: what was saved of it. */
export function damageReports(
  { damaged, setAside, carried, copies }: Recovery,
  kept: string,
): { report?: LossReport; notice?: Notice }[] {
  const found: { report?: LossReport; notice?: Notice }[] = [];
  for (const { file, damages } of damaged) {
    const where = `buffer/${file}`;
    for (const { kind, bytes, offset } of damages) {
      if (kind === 'torn') {
        // As after a power cut during a write: what is torn was never acknowledged.
        const text = `${where} ends within a record (${bytes} bytes at ${offset}), as after a power cut; it had not been acknowledged${kept}`;
        found.push({ notice: { level: 'info', event: 'log_tail_torn', text } });
      } else {
        const reason = `damaged log record at offset ${offset}; a copy of the file is in ${copies ?? 'damaged/'}${kept}`;
        found.push({ report: { cause: 'damaged', where, reason, bytes } });
      }
    }
  }
  if (setAside !== undefined) {
    const reason = `the database was damaged and set aside to ${setAside}; ${carried} whole entries of it were carried over${kept}`;
    found.push({ report: { cause: 'damaged', where: 'buffer', reason } });
  }
  return found;
}

function isIntact(frame: Buffer): boolean {
  try {
    checkFrame(frame);
    return true;
  } catch {
    return false; // The reader will say what is wrong with it.
  }
}

function headerOf(frame: Buffer): FrameHeader | undefined {
  try {
    return readHeader(frame);
  } catch {
    return undefined; // Damaged: the reader will say so.
  }
}

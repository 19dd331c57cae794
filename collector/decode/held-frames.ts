/**
 * Frames of a clock that is not known, or not known well (law 9): they are kept in the ledger topic until their boot has
 * an anchor, and those that were written under a bad one until it has a good one. What would be too much goes aside.
 */
import { CLOCK_ASSUMED, KIND_ANCHOR, type FrameHeader } from '../../shared/frame/frame.ts';
import { readNote } from '../../shared/frame/notes.ts';
import { HELD_PREFIX, HELD_USED } from '../ledger/view.ts';
import { HEADER_FROM_LAKE, type Produced, type StoredRecord } from '../log/log.ts';
import { HEADER_UNSETTLED } from '../log/topics.ts';
import { arrivedOf } from './accounting.ts';
import { AGREES_US, BootClocks, HELD_BYTES_MAX, type HeldFrame } from './boot-clocks.ts';
import { FrozenState } from './codec-state.ts';
import type { FrameDecoder } from './frame-decoder.ts';
import type { FrameJob } from './frame-job.ts';
import type { PartitionState } from './state.ts';
import type { TimedHeader } from './summary-clock.ts';

const NOTHING = Buffer.alloc(0);

/** The collector doubted its own clock when it took this record. */
export const isUnsettled = ({ headers }: Pick<StoredRecord, 'headers'>): boolean =>
  headers[HEADER_UNSETTLED] !== undefined;

/** Its readings may move, though its own clock is believed. */
export const mayMove = (record: Pick<StoredRecord, 'headers'>, header: FrameHeader): boolean =>
  isUnsettled(record) && header.clockQuality !== CLOCK_ASSUMED;

/** Under which a frame is kept. */
export const heldKey = ({ gateway, bootId, epoch, firstSequence, part }: TimedHeader): string =>
  `${HELD_PREFIX}${gateway}/${bootId}/${epoch}/${firstSequence}${part === undefined ? '' : `/${part}`}`;

function keep(state: PartitionState, frame: HeldFrame, produced: Produced[]): void {
  const { key, headers, usedUs } = frame;
  state.clocks.hold(frame);
  const all = usedUs === undefined ? headers : { ...headers, [HELD_USED]: String(usedUs) };
  produced.push(state.entry(key, frame.frame, all));
}

function letGo(state: PartitionState, frame: HeldFrame, produced: Produced[]): void {
  state.clocks.drop(frame);
  produced.push(state.entry(frame.key, NOTHING));
}

/** Keeps a frame until its clock is known, or known well. `usedUs`: the correction that its readings are written with. */
export function holdFrame(
  state: PartitionState,
  record: StoredRecord,
  { header, isFresh }: Pick<FrameJob, 'header' | 'isFresh'>,
  usedUs: number | undefined,
  decoder: FrameDecoder,
  produced: Produced[],
): void {
  const { clocks } = state;
  const { gateway, bootId } = header;
  const held = clocks.heldBytes;
  const isFull = (): boolean => held.room(gateway) < record.value.length;
  // What is written already gives way first, it stays where it is: the gateway's own, and others' where the whole is taken.
  if (isFull()) {
    const isWhole = held.used + record.value.length > held.whole;
    for (const settled of clocks.settledFrames())
      if (isWhole || settled.gateway === gateway) letGo(state, settled, produced);
  }
  if (isFull()) {
    if (usedUs !== undefined) return;
    held.refused++;
    const reason = `its clock is not known, and ${held.of(gateway)} bytes of its frames are held already, of ${HELD_BYTES_MAX} for all`;
    for (const each of decoder.aside(record.value, header, reason, isFresh)) produced.push(each);
    return;
  }
  const key = heldKey(header);
  const headers: Record<string, string> = { arrived: record.headers['arrived'] ?? '0' };
  // What was put back into the log had been counted before, however late its clock becomes known.
  for (const name of [HEADER_UNSETTLED, HEADER_FROM_LAKE])
    if (record.headers[name] !== undefined) headers[name] = 'true';
  const frame = record.value;
  keep(state, { key, gateway, boot: bootId, frame, header, headers, usedUs }, produced);
}

/** The collector's clock has settled: what it placed stays where it is, unless its own anchor is still a poor one. */
export function settleFrames(state: PartitionState, gateway: string, produced: Produced[]): void {
  const { clocks } = state;
  for (const frame of clocks.takeUnsettled(gateway))
    if (BootClocks.believes(frame.header) || clocks.resolve(frame.header)?.isFinal === true)
      letGo(state, frame, produced);
}

/** The clock of a boot is known, or known better: what waited for it goes on, what was misplaced moves. */
export function takeAnchor(
  state: PartitionState,
  record: StoredRecord,
  header: FrameHeader,
  jobOf: (held: HeldFrame, offsetUs: number) => FrameJob,
  decoder: FrameDecoder,
  produced: Produced[],
): void {
  const { clocks } = state;
  const { gateway } = header;
  const anchor = readNote(KIND_ANCHOR, record.value, header);
  for (const { key, value } of clocks.add(gateway, anchor)) produced.push(state.entry(key, value));
  const improves = clocks.improves(gateway, anchor);
  for (const held of clocks.heldOf(gateway, anchor.boot)) {
    const best = clocks.resolve(held.header);
    if (best === undefined) continue;
    const known = { ...best, isFinal: best.isFinal && !isUnsettled(record) };
    const { usedUs } = held;
    // A clock of its own that agrees is as good as the anchor.
    const agrees =
      BootClocks.believes(held.header) &&
      usedUs !== undefined &&
      Math.abs(known.offsetUs - usedUs) < AGREES_US;
    if (usedUs === undefined || (improves && !agrees)) {
      const job = { ...jobOf(held, known.offsetUs), saidMs: arrivedOf(record) };
      const again = { ...job, state: new FrozenState(job.state) };
      const readings = decoder.readings(usedUs === undefined ? job : { ...again, usedUs });
      for (const each of readings) produced.push(each);
      if (!known.isFinal) keep(state, { ...held, usedUs: known.offsetUs }, produced);
    }
    if (known.isFinal) letGo(state, held, produced);
  }
}

/** The ledger's side of frames: losses, summaries and status reports, and frames whose readings are written already. */
import {
  KIND_ANCHOR,
  KIND_LOSS,
  KIND_RECORDS,
  KIND_STATUS,
  KIND_SUMMARY,
  checkFrame,
  type FrameHeader,
} from '../../shared/frame/frame.ts';
import { readNote, type Summary } from '../../shared/frame/notes.ts';
import type { StoredRecord } from '../log/log.ts';
import type { PartitionState } from './state.ts';

export const arrivedOf = ({ headers }: Pick<StoredRecord, 'headers'>): number =>
  Number(headers['arrived'] ?? 0);

/** What a loss report says, for people. */
export function accountLoss(
  state: PartitionState,
  record: StoredRecord,
  header: FrameHeader,
): string {
  const { gateway, epoch } = header;
  const report = readNote(KIND_LOSS, record.value, header);
  state.touchTold(gateway, report.epoch ?? epoch)?.lose(report, arrivedOf(record));
  return `gateway ${gateway} reports: ${report.where}: ${report.reason}`;
}

export function accountSummary(
  state: PartitionState,
  record: StoredRecord,
  header: FrameHeader,
): Summary {
  const { gateway, epoch, firstSequence } = header;
  const summary = readNote(KIND_SUMMARY, record.value, header);
  const reason = `thinned to minimum, maximum and mean in sequence ${firstSequence} of epoch ${epoch}`;
  const ranges = summary.replaces;
  state
    .touchTold(gateway, summary.epoch)
    ?.lose({ cause: 'thinned', where: 'buffer', reason, ranges }, arrivedOf(record));
  return summary;
}

export function accountStatus(
  state: PartitionState,
  record: StoredRecord,
  header: FrameHeader,
): void {
  const { gateway } = header;
  const arrivedMs = arrivedOf(record);
  const status = readNote(KIND_STATUS, record.value, header);
  const named = new Set([...status.epochs.map((each) => each.epoch), ...(status.also ?? [])]);
  const sending =
    status.sending === true || status.epochs.some(({ waiting }) => waiting.length > 0);
  state.touch(state.epoch(gateway, header.epoch)).spoke(arrivedMs);
  for (const holdings of status.epochs)
    state.touchTold(gateway, holdings.epoch)?.heard(holdings, sending, arrivedMs);
  for (const other of state.epochsOf(gateway))
    if (!named.has(other.epoch) && other.holdsAnything)
      state.touch(other).heard(undefined, sending, arrivedMs);
}

/** Accounts for a frame whose readings are written already: the ledger is told anew by the raw log. */
export function account(state: PartitionState, record: StoredRecord): void {
  try {
    const header = checkFrame(record.value);
    const { gateway, epoch, firstSequence, count, kind } = header;
    switch (kind) {
      case KIND_STATUS:
        return accountStatus(state, record, header);
      case KIND_LOSS:
        accountLoss(state, record, header);
        break;
      case KIND_SUMMARY:
        accountSummary(state, record, header);
        break;
      case KIND_ANCHOR:
        state.clocks.add(gateway, readNote(KIND_ANCHOR, record.value, header));
        break;
      case KIND_RECORDS:
        break;
      default:
    }
    // A part of a note has no place of its own: the last one has it.
    if (count > 0) state.epoch(gateway, epoch).receive(firstSequence, firstSequence + count - 1);
  } catch {
    // It went to quarantine when it was decoded.
  }
}

/**
 * How much the ledger keeps of one gateway: epochs, of which each start of a gateway begins one, and ranges of an epoch. Both are
 * needed for good, since any frame may come again and counts once. So nothing gives way: what would begin one more is not
 * taken, and its gateway, which keeps it, hears why.
 */
import { HeadwaterError } from '../../shared/errors.ts';
import type { FrameHeader } from '../../shared/frame/frame.ts';
import { SPANS_MAX } from '../ledger/epoch-ledger.ts';
import type { LedgerView } from '../ledger/view.ts';

/** Epochs that were taken and are not looked for in the ledger again before there are so many. */
const FRESH_KEPT = 100;

export class EpochRoom {
  private readonly ledger: Pick<LedgerView, 'isRead' | 'epochCount' | 'epochOf'>;
  private readonly epochsMax: number;
  /** Of a gateway: taken, and perhaps not decoded yet. */
  private readonly fresh = new Map<string, Set<string>>();

  /** `epochsMax`: of one gateway. */
  constructor(ledger: EpochRoom['ledger'], epochsMax: number) {
    this.ledger = ledger;
    this.epochsMax = epochsMax;
  }

  /** Throws LEDGER_FULL: nothing of the message is taken. */
  check(gateway: string, frames: readonly { header: FrameHeader }[]): void {
    const { ledger } = this;
    if (!ledger.isRead) return; // Nothing is taken in then.
    for (const { header } of frames) {
      const { epoch, firstSequence, count } = header;
      const known = ledger.epochOf(gateway, epoch);
      if (known === undefined) this.begin(gateway, epoch);
      else if (known.ranges.length >= SPANS_MAX && count > 0)
        this.touching(gateway, epoch, known.ranges, firstSequence, firstSequence + count - 1);
    }
  }

  private begin(gateway: string, epoch: string): void {
    const { epochsMax, ledger } = this;
    const fresh = this.fresh.get(gateway) ?? new Set<string>();
    this.fresh.set(gateway, fresh);
    if (fresh.has(epoch)) return;
    const isFull = (): boolean => ledger.epochCount(gateway) + fresh.size >= epochsMax;
    if (fresh.size >= FRESH_KEPT || isFull())
      for (const each of fresh) if (ledger.epochOf(gateway, each) !== undefined) fresh.delete(each);
    if (isFull())
      throw new HeadwaterError(
        'LEDGER_FULL',
        `the ledger has ${ledger.epochCount(gateway)} epochs of gateway ${gateway}, which begins one at each start; it keeps what is new: raise ingest.epochsPerGatewayMax (${epochsMax}), or enrol it under another name`,
      );
    fresh.add(epoch);
  }

  private touching(
    gateway: string,
    epoch: string,
    ranges: readonly (readonly [number, number])[],
    from: number,
    to: number,
  ): void {
    if (ranges.some(([low, high]) => from <= high + 1 && to >= low - 1)) return;
    throw new HeadwaterError(
      'LEDGER_FULL',
      `what came of epoch ${epoch} of gateway ${gateway} is in ${ranges.length} pieces; only what adjoins one of them is taken: it keeps the rest until they do`,
    );
  }
}

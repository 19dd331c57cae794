/**
 * Two machines with one identity: a data folder that was copied to a second card, or an old copy started beside the
 * original. Every start begins an epoch of its own, and a gateway that is one never goes back to an earlier one: so when
 * its status comes from epoch A, then B, then A again, there are two. Nothing is mixed up by it (what each stores has its
 * own epoch), but it must be said.
 */
import type { Notify } from '../../shared/telemetry/log.ts';
import { Seldom } from '../../shared/access/seldom.ts';

/** Epochs remembered of one gateway, and gateways. */
const EPOCHS_MAX = 16;
const GATEWAYS_MAX = 10_000;

interface Known {
  now: string;
  /** Epoch → address from which it was heard last; the latest last. */
  addresses: Map<string, string>;
  isDoubled: boolean;
}

export class Twins {
  private readonly known = new Map<string, Known>();
  private readonly seldom: Seldom;
  private readonly notify: Notify;

  constructor(monotonicUs: () => number, notify: Notify) {
    this.seldom = new Seldom(monotonicUs);
    this.notify = notify;
  }

  /** Gateways of whose name there are two; `counts`: of these. */
  count(counts: (gateway: string) => boolean = () => true): number {
    let count = 0;
    for (const [gateway, { isDoubled }] of this.known) if (isDoubled && counts(gateway)) count++;
    return count;
  }

  /** One sentence for each of them. */
  warnings(counts: (gateway: string) => boolean = () => true): string[] {
    return [...this.known].flatMap(([gateway, { isDoubled, addresses }]) =>
      isDoubled && counts(gateway)
        ? `two gateways call themselves ${gateway}, heard from ${[...new Set(addresses.values())].join(' and ')}: give one of them a folder and an id of its own`
        : [],
    );
  }

  isDoubled(gateway: string): boolean {
    return this.known.get(gateway)?.isDoubled === true;
  }

  /**
   * A status of `gateway`, which runs in `epoch`, has come from `address`. True: it ran in another epoch before, and whoever
   * still does should be asked for a status now.
   */
  see(gateway: string, epoch: string, address: string): boolean {
    const known = this.known.get(gateway) ?? { now: epoch, addresses: new Map(), isDoubled: false };
    const { addresses } = known;
    const before = addresses.get(known.now) ?? address;
    const isBack = epoch !== known.now && addresses.has(epoch);
    const isNew = epoch !== known.now && !isBack;
    addresses.delete(epoch);
    addresses.set(epoch, address);
    known.now = epoch;
    if (addresses.size > EPOCHS_MAX) addresses.delete([...addresses.keys()][0] ?? '');
    this.known.delete(gateway);
    this.known.set(gateway, known);
    if (this.known.size > GATEWAYS_MAX) this.known.delete([...this.known.keys()][0] ?? '');
    if (!isBack) return isNew;
    known.isDoubled = true;
    if (this.seldom.may(gateway) === undefined) return false;
    this.notify({
      level: 'error',
      event: 'gateway_doubled',
      text: `two gateways call themselves ${gateway}, from ${before} and ${address}: give one of them a folder and an id of its own (a copied data folder?); what each sends is kept apart by its epoch, and nothing of it is lost`,
    });
    return false;
  }
}

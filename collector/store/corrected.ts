/** Readings that the log has said anew while a store is filled: what the lake still has of them is older. */
import { RangeSet } from '../../shared/model/ranges.ts';
import type { Change, Identity } from './store.ts';

export class Corrected {
  private readonly sets = new Map<string, RangeSet>();

  private static nameOf({ gateway, epoch, index }: Identity): string {
    return `${gateway}/${epoch}/${index}`;
  }

  /** Notes every change that takes something back, or all of them. */
  note(changes: readonly Change[], all: boolean): void {
    for (const { identity, put, was } of changes) {
      if (!all && was === undefined && put !== undefined) continue;
      const name = Corrected.nameOf(identity);
      let set = this.sets.get(name);
      if (set === undefined) this.sets.set(name, (set = new RangeSet()));
      set.add(identity.sequence, identity.sequence);
    }
  }

  without(changes: readonly Change[]): readonly Change[] {
    if (this.sets.size === 0) return changes;
    return changes.filter(
      ({ identity }) => this.sets.get(Corrected.nameOf(identity))?.has(identity.sequence) !== true,
    );
  }
}

/**
 * Requests that were answered under an `Idempotency-Key`. All of them have one limit, of which nobody has everything: who has
 * his share forgets his own oldest, so that another's keys stay however many he sends.
 */
import type { Share } from '../access/shares.ts';

export interface Answered {
  body: string;
  stored: Promise<void>;
}

export class AnsweredKeys {
  private readonly answered = new Map<string, Answered & { forget: () => void }>();
  /** Principal → its keys, the oldest first. */
  private readonly owned = new Map<string, Set<string>>();

  get(key: string): Answered | undefined {
    return this.answered.get(key);
  }

  set(key: string, answered: Answered, principal: string, share: Share): void {
    if (!share.take(principal)) {
      const [oldest] = this.owned.get(principal) ?? [];
      // Nothing of its own is there: the next one who lets go makes room.
      if (oldest === undefined) return;
      this.delete(oldest);
      share.add(principal, 1);
    }
    let own = this.owned.get(principal);
    if (own === undefined) this.owned.set(principal, (own = new Set()));
    own.add(key);
    const forget = (): void => {
      share.give(principal);
      own.delete(key);
      if (own.size === 0) this.owned.delete(principal);
    };
    this.answered.set(key, { ...answered, forget });
  }

  delete(key: string): void {
    this.answered.get(key)?.forget();
    this.answered.delete(key);
  }
}

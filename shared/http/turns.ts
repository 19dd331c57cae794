/**
 * Questions that cost wait for their turn, so that they cannot stall the writing: a few at once, some more in a queue, and
 * of both nobody can take all. The queue goes round the principals. Who finds no room is told when to come again.
 */
import { HeadwaterError } from '../errors.ts';
import { Share } from '../access/shares.ts';

/** At once, and waiting: in all. One principal has at most half of what the others leave. */
export const QUESTIONS_MAX = 4;
export const QUEUED_MAX = 64;
/** Streams that read what they have missed, at once. */
export const CATCH_UPS_MAX = 4;

/** 429, with the seconds after which it is worth coming again. */
export class Busy extends HeadwaterError {
  readonly retryAfterSeconds: number;

  constructor(why: string, retryAfterSeconds = 1) {
    super('TOO_MANY_REQUESTS', `${why}: come again in ${retryAfterSeconds} s`);
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

interface Waiting {
  isWanted: () => boolean;
  resume: (isMyTurn: boolean) => void;
}

export class Turns {
  readonly running: Share;
  readonly queued: Share;
  /** In the order in which they are served: who was served goes to the end. */
  private readonly waiting = new Map<string, Waiting[]>();

  constructor(running: Share, queued: Share) {
    this.running = running;
    this.queued = queued;
  }

  /** Throws TOO_MANY_REQUESTS. Undefined: nobody waits for the answer any more. */
  async run<T>(
    principal: string,
    isWanted: () => boolean,
    work: () => Promise<T>,
  ): Promise<T | undefined> {
    if (!this.begin(principal)) {
      if (!this.queued.take(principal)) throw new Busy('too many questions at once');
      const isMyTurn = await new Promise<boolean>((resume) => {
        const own = this.waiting.get(principal);
        if (own === undefined) this.waiting.set(principal, [{ isWanted, resume }]);
        else own.push({ isWanted, resume });
      });
      this.queued.give(principal);
      if (!isMyTurn) return undefined;
    }
    try {
      return await work();
    } finally {
      this.running.give(principal);
      while (this.resumeOne());
    }
  }

  private begin(principal: string): boolean {
    if (this.waiting.has(principal) || this.running.room(principal) < 1) return false;
    this.running.add(principal, 1);
    return true;
  }

  private resumeOne(): boolean {
    for (const [principal, list] of this.waiting) {
      while (list.length > 0 && list[0]?.isWanted() === false) list.shift()?.resume(false);
      if (list.length > 0 && this.running.room(principal) < 1) continue;
      const first = list.shift();
      this.waiting.delete(principal);
      if (list.length > 0) this.waiting.set(principal, list);
      if (first === undefined) continue;
      this.running.add(principal, 1);
      first.resume(true);
      return true;
    }
    return false;
  }
}

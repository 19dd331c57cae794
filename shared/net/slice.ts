/**
 * What comes from outside gets a slice of each turn of the event loop, and no more: what comes in it beyond that waits for the
 * next one, in turn by who sent it. So a thousand that come at once keep nobody waiting who comes behind them, nor what the
 * process does beside, and one that sends without end keeps nobody from being read.
 */
import { setImmediate as nextTurn } from 'node:timers';

/** Of a turn of the event loop; what has begun by then is done. */
const SLICE_US = 5000;

type Work = () => void;

export class Slice {
  private readonly nowUs: () => number;
  /** By principal, in the order in which they are served: who was served goes to the end. */
  private readonly waiting = new Map<string, Work[]>();
  /** Since when this turn is used. */
  private turnUs: number | undefined;

  constructor(nowUs: () => number) {
    this.nowUs = nowUs;
  }

  /** Nobody waits, and there is something left. */
  mayGoOn(): boolean {
    return this.waiting.size === 0 && !this.isSpent();
  }

  wait(principal: string, work: Work): void {
    const own = this.waiting.get(principal);
    if (own === undefined) this.waiting.set(principal, [work]);
    else own.push(work);
  }

  private isSpent(): boolean {
    if (this.turnUs !== undefined) return this.nowUs() - this.turnUs >= SLICE_US;
    this.turnUs = this.nowUs();
    nextTurn(this.begin);
    return false;
  }

  private readonly begin = (): void => {
    this.turnUs = undefined;
    this.serve();
  };

  /** The next that waits, and when all is done that it does at once, the one behind it. */
  private readonly serve = (): void => {
    const [first] = this.waiting;
    if (first === undefined || this.isSpent()) return;
    const [principal, list] = first;
    const work = list.shift();
    this.waiting.delete(principal);
    if (list.length > 0) this.waiting.set(principal, list);
    try {
      work?.();
    } finally {
      queueMicrotask(this.afterwards);
    }
  };

  private readonly afterwards = (): void => process.nextTick(this.serve);
}

/**
 * What happens often is said seldom: once a minute for each key, with how often it was not said. Bounded in keys, and in what
 * is said of them all in a minute: who can make up ever new keys has his share of that.
 */

import { Share } from './shares.ts';

const MINUTE_US = 60_000_000;
const KEYS_MAX = 1000;
const LINES_PER_MINUTE_MAX = 120;

export class Seldom {
  private readonly monotonicUs: () => number;
  private minuteUs = -MINUTE_US;
  private lines = new Share('seldom_lines', LINES_PER_MINUTE_MAX);
  private readonly keys = new Map<string, { sinceUs: number; unsaid: number }>();

  constructor(monotonicUs: () => number) {
    this.monotonicUs = monotonicUs;
  }

  /**
   * Times that it was not said before, when it may be said now; undefined when not. `principal`: who brings it about, where
   * that is a stranger.
   */
  may(key: string, principal = ''): number | undefined {
    const nowUs = this.monotonicUs();
    const entry = this.keys.get(key);
    if (entry !== undefined && nowUs - entry.sinceUs < MINUTE_US) {
      entry.unsaid++;
      return undefined;
    }
    if (nowUs - this.minuteUs >= MINUTE_US) {
      this.minuteUs = nowUs;
      this.lines = new Share('seldom_lines', LINES_PER_MINUTE_MAX);
    }
    if (!this.lines.take(principal)) return undefined;
    this.keys.delete(key);
    this.keys.set(key, { sinceUs: nowUs, unsaid: 0 });
    if (this.keys.size > KEYS_MAX) {
      const [oldest] = this.keys.keys();
      if (oldest !== undefined) this.keys.delete(oldest);
    }
    return entry?.unsaid ?? 0;
  }
}

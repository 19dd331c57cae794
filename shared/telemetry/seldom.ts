/** What happens often is said seldom: once a minute for each key, with how often it was not said. Bounded in keys. */

const MINUTE_US = 60_000_000;
const KEYS_MAX = 1000;

export class Seldom {
  private readonly monotonicUs: () => number;
  private readonly keys = new Map<string, { sinceUs: number; unsaid: number }>();

  constructor(monotonicUs: () => number) {
    this.monotonicUs = monotonicUs;
  }

  /** Times that it was not said before, when it may be said now; undefined when not. */
  may(key: string): number | undefined {
    const nowUs = this.monotonicUs();
    const entry = this.keys.get(key);
    if (entry !== undefined && nowUs - entry.sinceUs < MINUTE_US) {
      entry.unsaid++;
      return undefined;
    }
    this.keys.delete(key);
    this.keys.set(key, { sinceUs: nowUs, unsaid: 0 });
    if (this.keys.size > KEYS_MAX) {
      const [oldest] = this.keys.keys();
      if (oldest !== undefined) this.keys.delete(oldest);
    }
    return entry?.unsaid ?? 0;
  }
}

/** Wrong credentials by address: beyond a limit an address is refused for a while without any work done for it. */

const WINDOW_US = 60_000_000;
/** Addresses remembered; the oldest give way. */
const ADDRESSES_MAX = 10_000;

export class FailureLimiter {
  private readonly perMinuteMax: number;
  private readonly monotonicUs: () => number;
  private readonly byAddress = new Map<string, { sinceUs: number; count: number }>();

  constructor(perMinuteMax: number, monotonicUs: () => number) {
    this.perMinuteMax = perMinuteMax;
    this.monotonicUs = monotonicUs;
  }

  isBlocked(address: string): boolean {
    const entry = this.byAddress.get(address);
    if (entry === undefined) return false;
    if (this.monotonicUs() - entry.sinceUs > WINDOW_US) {
      this.byAddress.delete(address);
      return false;
    }
    return entry.count >= this.perMinuteMax;
  }

  fail(address: string): void {
    const nowUs = this.monotonicUs();
    const entry = this.byAddress.get(address);
    if (entry !== undefined && nowUs - entry.sinceUs <= WINDOW_US) {
      entry.count++;
      return;
    }
    this.byAddress.delete(address);
    this.byAddress.set(address, { sinceUs: nowUs, count: 1 });
    if (this.byAddress.size > ADDRESSES_MAX) {
      const [oldest] = this.byAddress.keys();
      if (oldest !== undefined) this.byAddress.delete(oldest);
    }
  }
}

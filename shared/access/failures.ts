/**
 * Wrong credentials by address: who fails too often in a minute is refused for a while without any work done for it. An
 * IPv6 address stands for its /64, which one sender has whole. Right credentials are not refused for the wrong ones that
 * came from the same address: that is why whoever asks here has looked first at what is quickly known to be right.
 */
import { addressGroup } from './shares.ts';

const WINDOW_US = 60_000_000;
/** Addresses remembered; the oldest give way. */
const ADDRESSES_MAX = 10_000;
/** Times the limit at which even what is quickly compared is not looked at: nobody may guess as fast as he can send. */
const FLOOD = 100;

export class FailureLimiter {
  private readonly perMinuteMax: number;
  private readonly monotonicUs: () => number;
  private readonly byAddress = new Map<string, { sinceUs: number; count: number }>();

  constructor(perMinuteMax: number, monotonicUs: () => number) {
    this.perMinuteMax = perMinuteMax;
    this.monotonicUs = monotonicUs;
  }

  private countOf(address: string): number {
    const key = addressGroup(address);
    const entry = this.byAddress.get(key);
    if (entry === undefined) return 0;
    if (this.monotonicUs() - entry.sinceUs > WINDOW_US) {
      this.byAddress.delete(key);
      return 0;
    }
    return entry.count;
  }

  /** Nearly nothing wrong, nor much at once. */
  isQuiet(address: string): boolean {
    return this.countOf(address) <= this.perMinuteMax / 10;
  }

  isBlocked(address: string): boolean {
    return this.countOf(address) >= this.perMinuteMax;
  }

  isFlooding(address: string): boolean {
    return this.countOf(address) >= this.perMinuteMax * FLOOD;
  }

  /** Where looking takes long, it is counted before: many at once are no more than one after the other. */
  fail(address: string): void {
    const key = addressGroup(address);
    const nowUs = this.monotonicUs();
    const entry = this.byAddress.get(key);
    if (entry !== undefined && nowUs - entry.sinceUs <= WINDOW_US) {
      entry.count++;
      return;
    }
    this.byAddress.delete(key);
    this.byAddress.set(key, { sinceUs: nowUs, count: 1 });
    if (this.byAddress.size > ADDRESSES_MAX) {
      const [oldest] = this.byAddress.keys();
      if (oldest !== undefined) this.byAddress.delete(oldest);
    }
  }

  /** It was right after all. */
  forgive(address: string): void {
    const entry = this.byAddress.get(addressGroup(address));
    if (entry !== undefined && entry.count > 0) entry.count--;
  }
}

/**
 * How long to wait before the next try: twice as long each time, from `firstMs` to `mostMs`, then `mostMs` for ever.
 * With `jitter` a wait is shorter by up to that fraction, so that many who were cut off at once do not come back at once.
 */
export interface BackoffOptions {
  firstMs: number;
  mostMs: number;
  /** 0 to 1; with it `fraction` is needed: uniform in [0, 1), from `Env`. */
  jitter?: number;
  fraction?: () => number;
}

export class Backoff {
  private readonly options: BackoffOptions;
  private waitMs: number;

  constructor(options: BackoffOptions) {
    this.options = options;
    this.waitMs = options.firstMs;
  }

  /** Milliseconds to wait now. */
  next(): number {
    const { mostMs, jitter = 0, fraction = () => 0 } = this.options;
    const wait = this.waitMs;
    this.waitMs = Math.min(wait * 2, mostMs);
    return wait * (1 - jitter * fraction());
  }

  /** Something worked, or something else is tried: the next wait is the first again. */
  reset(): void {
    this.waitMs = this.options.firstMs;
  }
}

/**
 * How much may be on its way, and how fast: so that live readings never wait behind a full socket, and a metered link
 * stays within its budget.
 */

/**
 * Bytes in flight, by delay: what queues on the link beyond the shortest round trip seen is kept near a target, as
 * LEDBAT does (RFC 6817). A full socket buffer alone can be seconds.
 */
export class Window {
  readonly max: number;
  private size: number;
  private baseUs = Number.POSITIVE_INFINITY;
  private growing = true;
  private cutAtUs = 0;

  constructor(max: number) {
    this.max = max;
    this.size = Math.min(max, 256 * 1024);
  }

  get bytes(): number {
    return this.size;
  }

  acknowledged(bytes: number, roundTripUs: number, nowUs: number): void {
    this.baseUs = Math.min(this.baseUs, roundTripUs);
    const queuedUs = roundTripUs - this.baseUs;
    if (queuedUs < TARGET_US) {
      this.size = Math.min(this.max, this.size + (this.growing ? bytes : bytes / 4));
      return;
    }
    this.growing = false;
    // Once a round trip: the acknowledgements that are under way still tell of the window before.
    if (nowUs - this.cutAtUs < roundTripUs) return;
    this.cutAtUs = nowUs;
    this.size = Math.max(WINDOW_MIN, this.size * Math.max(0.5, TARGET_US / queuedUs));
  }
}

const TARGET_US = 200_000;
const WINDOW_MIN = 32 * 1024;
/** Of the day's bytes, what only live readings may use. */
const LIVE_SHARE = 0.2;
const DAY_US = 86_400e6;

export interface BudgetState {
  /** Days since 1970 UTC, and bytes sent in it. */
  day: number;
  used: number;
}

/** Bytes a second (with one second of burst) and bytes a day (UTC); 0 is no limit. */
export class Budget {
  private readonly perSecond: number;
  private readonly perDay: number;
  private tokens: number;
  private refilledUs: number | undefined;
  private state: BudgetState;

  constructor(perSecond: number, perDay: number, state: BudgetState = { day: 0, used: 0 }) {
    this.perSecond = perSecond;
    this.perDay = perDay;
    this.tokens = perSecond;
    this.state = state;
  }

  /** For the next start, so that a restart is not a new day. */
  get today(): BudgetState {
    return this.state;
  }

  /** Microseconds until something may be sent: 0 is now. */
  waitUs(isLive: boolean, wallUs: number, monotonicUs: number): number {
    const day = Math.floor(wallUs / DAY_US);
    if (day !== this.state.day) this.state = { day, used: 0 };
    const limit = isLive ? this.perDay : this.perDay * (1 - LIVE_SHARE);
    if (this.perDay > 0 && this.state.used >= limit) return (day + 1) * DAY_US - wallUs;
    if (this.perSecond === 0) return 0;
    const elapsed = monotonicUs - (this.refilledUs ?? monotonicUs);
    this.refilledUs = monotonicUs;
    this.tokens = Math.min(this.perSecond, this.tokens + (elapsed / 1e6) * this.perSecond);
    return this.tokens > 0 ? 0 : Math.ceil((-this.tokens / this.perSecond) * 1e6) + 1000;
  }

  /** A chunk that does not overshoot a second's budget. */
  get chunkBytes(): number {
    return this.perSecond === 0 ? Number.POSITIVE_INFINITY : Math.max(4096, this.perSecond / 4);
  }

  sent(bytes: number): void {
    this.state.used += bytes;
    if (this.perSecond > 0) this.tokens -= bytes;
  }
}

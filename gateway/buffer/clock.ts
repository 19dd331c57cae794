/**
 * What the gateway knows of the time (law 9). Its wall clock counts as synchronised only while it agrees with what a
 * collector said in this boot; until then frames are marked 'unknown', and an anchor (a reading of the monotonic clock
 * at a known time) puts them right later. Asking is one exchange: half its round trip bounds the error (RFC 5905 §8).
 */
import { NOT_BEFORE_US } from '../../shared/env/build.ts';
import type { Env } from '../../shared/env/env.ts';
import { CLOCK_ASSUMED, CLOCK_SYNCHRONISED, CLOCK_UNKNOWN } from '../../shared/frame/frame.ts';
import type { ClockAnchor } from '../../shared/frame/notes.ts';
import type { TimeAnswer } from '../../shared/wire/wire.ts';
import type { ClockReading, Epoch } from './epochs.ts';

export interface Stamp extends ClockReading {
  clockQuality: number;
  /** The wall clock was set since the last stamp. */
  stepped: boolean;
}

export interface BufferClock {
  stamp(): Stamp;
}

/** The clock of a buffer that nobody told anything of the time. */
export function plainClock({ clock }: Env): BufferClock {
  return {
    stamp: () => ({
      wallUs: clock.wallUs(),
      monotonicUs: clock.monotonicUs(),
      clockQuality: CLOCK_UNKNOWN,
      stepped: false,
    }),
  };
}

/** Two clocks in good order drift apart by less: microseconds for each second. */
const DRIFT = 200e-6;
/** The wall clock may differ from an anchor by this much, besides error and drift, and still count. */
const TOLERANCE_US = 1e6;
const STEP_US = 1e6;
/** An anchor at least so much better than the last is worth a frame of its own. */
const BETTER = 4;
const GOOD_ENOUGH_US = 100_000;
/** While the wall clock is wrong a new anchor follows the monotonic clock's drift. */
const REFRESH_US = 3600e6;

export class GatewayClock implements BufferClock {
  private readonly env: Env;
  private readonly trusted: boolean;
  private lastOffsetUs: number | undefined;
  private best: ClockAnchor | undefined;
  private announced: ClockAnchor | undefined;

  /** A warning has been said that the clocks are apart. */
  isApart = false;

  /** `trusted`: the operator answers for the wall clock (a battery, NTP). */
  constructor(env: Env, trusted: boolean) {
    this.env = env;
    this.trusted = trusted;
  }

  stamp(): Stamp {
    const { clock } = this.env;
    const [wallUs, monotonicUs] = [clock.wallUs(), clock.monotonicUs()];
    const offset = wallUs - monotonicUs;
    const stepped =
      this.lastOffsetUs !== undefined && Math.abs(offset - this.lastOffsetUs) > STEP_US;
    this.lastOffsetUs = offset;
    return { wallUs, monotonicUs, clockQuality: this.quality(wallUs, monotonicUs), stepped };
  }

  private quality(wallUs: number, monotonicUs: number): number {
    if (this.trusted) return CLOCK_ASSUMED;
    const { best } = this;
    if (best === undefined) return CLOCK_UNKNOWN;
    const age = monotonicUs - best.monotonicUs;
    const apart = Math.abs(wallUs - (best.wallUs + age));
    return apart <= best.errorUs + TOLERANCE_US + age * DRIFT ? CLOCK_SYNCHRONISED : CLOCK_UNKNOWN;
  }

  get known(): boolean {
    return this.trusted || this.best !== undefined;
  }

  /** What time it is, epoch milliseconds, whatever the wall clock says; undefined while nobody knows. */
  nowMs(): number | undefined {
    const { clock } = this.env;
    if (this.best !== undefined)
      return (this.best.wallUs + clock.monotonicUs() - this.best.monotonicUs) / 1000;
    return this.trusted ? clock.wallUs() / 1000 : undefined;
  }

  /** By how much the wall clock is ahead of what the collector said, microseconds; undefined before it said anything. */
  get apartUs(): number | undefined {
    const { best } = this;
    if (best === undefined) return undefined;
    const { clock } = this.env;
    return clock.wallUs() - (best.wallUs + clock.monotonicUs() - best.monotonicUs);
  }

  get anchor(): ClockAnchor | undefined {
    return this.best;
  }

  /** A collector said what time it is. Returns an anchor that is worth telling. */
  answered({ echoUs, wallUs }: TimeAnswer): ClockAnchor | undefined {
    const now = this.env.clock.monotonicUs();
    const roundTrip = now - echoUs;
    if (roundTrip < 0 || roundTrip > 60e6) return undefined;
    const fresh: ClockAnchor = {
      boot: this.env.bootId.toString('hex'),
      monotonicUs: Math.round(echoUs + roundTrip / 2),
      wallUs,
      errorUs: Math.max(1000, Math.ceil(roundTrip / 2)),
      basis: 'collector',
    };
    const { best } = this;
    // The collector's clock was set, or it is another one: what it says now counts, however well the old was known.
    if (best !== undefined && contradict(best, fresh)) {
      this.best = fresh;
      this.announced = fresh;
      return fresh;
    }
    const agedError =
      best === undefined
        ? Number.POSITIVE_INFINITY
        : best.errorUs + (fresh.monotonicUs - best.monotonicUs) * DRIFT;
    if (fresh.errorUs < agedError) this.best = fresh;
    const { announced } = this;
    const worth =
      announced === undefined ||
      (announced.errorUs > GOOD_ENOUGH_US && fresh.errorUs * BETTER < announced.errorUs) ||
      (fresh.monotonicUs - announced.monotonicUs > REFRESH_US &&
        this.quality(this.env.clock.wallUs(), now) === CLOCK_UNKNOWN);
    if (!worth) return undefined;
    this.announced = fresh;
    return fresh;
  }
}

/** Two anchors of one boot that cannot both be right: the clock that they came from was set in between. */
function contradict(a: ClockAnchor, b: ClockAnchor): boolean {
  const age = b.monotonicUs - a.monotonicUs;
  const apart = Math.abs(b.wallUs - (a.wallUs + age));
  return apart > a.errorUs + b.errorUs + TOLERANCE_US + Math.abs(age) * DRIFT;
}

/**
 * Anchors for earlier boots whose times nobody could put right while they lasted, as well as the order of boots allows:
 * a boot lies between the end of the one before and the beginning of the one after. `anchor` is the present boot's.
 */
export function anchorsOfEarlierBoots(
  epochs: readonly Epoch[],
  anchor: ClockAnchor,
): ClockAnchor[] {
  const boots: { boot: string; epochs: Epoch[] }[] = [];
  for (const epoch of epochs) {
    const last = boots.at(-1);
    if (last?.boot === epoch.boot) last.epochs.push(epoch);
    else boots.push({ boot: epoch.boot, epochs: [epoch] });
  }
  const anchors: ClockAnchor[] = [];
  let upperUs = Number.POSITIVE_INFINITY;
  for (const [index, { boot, epochs: list }] of [...boots.entries()].toReversed()) {
    const [first, last] = [list[0], list.at(-1)];
    if (first === undefined || last === undefined) continue;
    const known = boot === anchor.boot ? anchor.wallUs - anchor.monotonicUs : offsetOf(list);
    if (known !== undefined) {
      upperUs = first.start.monotonicUs + known;
      continue;
    }
    if (upperUs === Number.POSITIVE_INFINITY) continue;
    const lengthUs = last.last.monotonicUs - first.start.monotonicUs;
    const before = boots.slice(0, index).findLast((each) => offsetOf(each.epochs) !== undefined);
    const endUs =
      before === undefined
        ? 0
        : (before.epochs.at(-1)?.last.monotonicUs ?? 0) + (offsetOf(before.epochs) ?? 0);
    const lowerUs = Math.min(upperUs, Math.max(NOT_BEFORE_US, endUs) + lengthUs);
    const ownUs = last.last.wallUs;
    const plausible = ownUs >= lowerUs && ownUs <= upperUs;
    const wallUs = plausible ? ownUs : upperUs;
    anchors.push({
      boot,
      monotonicUs: last.last.monotonicUs,
      wallUs,
      errorUs: Math.max(1000, upperUs - wallUs, wallUs - lowerUs),
      basis: plausible ? 'own clock' : 'order of boots',
    });
    upperUs = wallUs - lengthUs;
  }
  return anchors;
}

const offsetOf = (epochs: readonly Epoch[]): number | undefined =>
  epochs.find(({ offsetUs }) => offsetUs !== undefined)?.offsetUs;

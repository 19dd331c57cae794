/**
 * What InfluxDB will never take, read from how 1.8 and 2 word it, so that all points of one cause go at once instead of
 * being looked for one by one.
 *
 * Both write what they can of a request and say of the rest how many they dropped: points beyond the retention (2 names
 * the bounds, of 1.8 the policy is asked; the oldest are dropped), fields that have another type there (named), lines that
 * cannot be parsed (quoted). What is known is not sent again for a while: a person may mend it.
 */
import { monotonicMs, type Time } from '../../shared/env/env.ts';
import type { FieldValue } from '../../shared/model/reading.ts';
import { identityName } from './changes.ts';
import type { Change, Refused } from './store.ts';

export interface Line {
  text: string;
  change: Change;
}

export interface Cause {
  reason: string;
  lines: readonly Line[];
}

/** After so long it is tried whether it holds still. */
const KNOWN_MS = 600_000;
/** Points so near to the bound are sent: clocks differ. */
export const MARGIN_MS = 5000;
const SINGLES_MAX = 100_000;

const typeOf = (value: FieldValue): string => (typeof value === 'number' ? 'float' : typeof value);
const timeOf = ({ change }: Line): number => change.put?.timeMs ?? 0;

export class Refusals {
  /** Of the bucket; 0: for ever. */
  retentionMs = 0;
  private readonly time: Time;
  /** What the server's clock has more than our monotonic one. */
  private serverAhead: number | undefined;
  /** How a conflict is worded → until when it is known, and as what. */
  private readonly conflicts = new Map<string, { until: number; reason: string }>();
  /** Of a call that was cut: what it had found out by then. */
  private readonly singles = new Map<string, string>();

  constructor(time: Time) {
    this.time = time;
  }

  heard(dateMs: number | undefined): void {
    if (dateMs !== undefined) this.serverAhead = dateMs - monotonicMs(this.time);
  }

  /** Points before it are not kept; undefined while that is not known. */
  bound(): number | undefined {
    if (this.retentionMs === 0 || this.serverAhead === undefined) return undefined;
    return monotonicMs(this.time) + this.serverAhead - this.retentionMs;
  }

  private get tooOld(): string {
    return `InfluxDB keeps nothing so old: the retention is ${this.retentionMs / 1000} s`;
  }

  /** What need not be sent, by cause. */
  known(lines: readonly Line[]): { left: readonly Line[]; causes: Cause[] } {
    const before = (this.bound() ?? Number.NEGATIVE_INFINITY) - MARGIN_MS;
    const isOld = lines.some((line) => timeOf(line) < before);
    if (!isOld && this.conflicts.size === 0 && this.singles.size === 0)
      return { left: lines, causes: [] };
    const found = new Map<string, Line[]>();
    const left = lines.filter((line) => {
      const reason = timeOf(line) < before ? this.tooOld : this.knownOf(line);
      if (reason === undefined) return true;
      const list = found.get(reason);
      if (list === undefined) found.set(reason, [line]);
      else list.push(line);
      return false;
    });
    return { left, causes: [...found].map(([reason, list]) => ({ reason, lines: list })) };
  }

  private knownOf({ change }: Line): string | undefined {
    const single =
      this.singles.size === 0 ? undefined : this.singles.get(identityName(change.identity));
    if (single !== undefined || this.conflicts.size === 0) return single;
    const now = monotonicMs(this.time);
    for (const words of conflictsOf(change)) {
      const known = this.conflicts.get(words);
      if (known !== undefined && known.until > now) return known.reason;
    }
    return undefined;
  }

  /** Which of a request's lines it is about; undefined when the words do not say. */
  read(words: string, lines: readonly Line[]): Cause | undefined {
    const dropped = Number(/dropped[ =](\d+)/.exec(words)?.[1] ?? 0);
    if (/(beyond|outside) retention policy/.test(words)) return this.beyond(words, dropped, lines);
    if (words.includes('field type conflict')) return this.conflict(words, lines);
    if (words.includes('unable to parse')) {
      const quoted = lines.filter(({ text }) => words.includes(text));
      if (quoted.length > 0)
        return { reason: `InfluxDB cannot read the point: ${tail(words)}`, lines: quoted };
    }
    if (dropped > 0 && dropped === lines.length)
      return { reason: `InfluxDB refuses the point: ${words}`, lines };
    return undefined;
  }

  private beyond(words: string, dropped: number, lines: readonly Line[]): Cause | undefined {
    const bounds = (which: string): number[] =>
      [...words.matchAll(new RegExp(`${which} Bound at ([0-9T:.-]+Z)`, 'g'))].map(([, at]) =>
        Date.parse(at ?? ''),
      );
    const [lower = this.bound()] = bounds('Lower');
    const [upper] = bounds('Upper');
    if (upper !== undefined) {
      const late = lines.filter((line) => timeOf(line) > upper);
      if (late.length > 0)
        return { reason: 'InfluxDB takes nothing of so late a time', lines: late };
    }
    const duration = /retention policy of duration (\S+)/.exec(words)?.[1];
    if (duration !== undefined) this.retentionMs = durationMs(duration);
    // What is dropped is older than what is not, whatever the clocks say.
    const oldest = lines.toSorted((a, b) => timeOf(a) - timeOf(b));
    const count =
      dropped > 0 ? dropped : oldest.filter((line) => timeOf(line) < (lower ?? 0)).length;
    return count === 0 ? undefined : { reason: this.tooOld, lines: oldest.slice(0, count) };
  }

  private conflict(words: string, lines: readonly Line[]): Cause | undefined {
    const named = new Set<string>();
    const hit = lines.filter(({ change }) =>
      conflictsOf(change).some((each) => {
        const isNamed = named.has(each) || words.includes(each);
        if (isNamed) named.add(each);
        return isNamed;
      }),
    );
    const [first] = named;
    if (first === undefined) return undefined;
    const exists = /already exists as type (\w+)/.exec(words)?.[1] ?? 'another';
    const reason = `InfluxDB refuses ${first}: there it is of type ${exists}`;
    for (const each of named)
      this.conflicts.set(each, { until: monotonicMs(this.time) + KNOWN_MS, reason });
    return { reason, lines: hit };
  }

  /** A call ends before it is done: the next one goes on from here. */
  keep(refused: readonly Refused[]): void {
    for (const { reason, changes } of refused)
      for (const { identity } of changes)
        if (this.singles.size < SINGLES_MAX) this.singles.set(identityName(identity), reason);
  }

  /** Its refusals have been handed on. */
  done(): void {
    this.singles.clear();
  }

  /** The bucket may be another one. */
  forget(): void {
    this.conflicts.clear();
    this.retentionMs = 0;
  }
}

const tail = (words: string): string => words.slice(words.lastIndexOf("': ") + 3).slice(0, 200);

/** As both versions name a field of another type. */
function conflictsOf({ put }: Change): string[] {
  if (put === undefined) return [];
  return Object.entries(put.fields).map(
    ([field, value]) =>
      `input field "${field}" on measurement "${put.measurement}" is type ${typeOf(value)}`,
  );
}

/** Go's words for a duration: `168h0m0s`. */
export function durationMs(text: string): number {
  const [, hours = 0, minutes = 0, seconds = 0] =
    /^(?:(\d+)h)?(?:(\d+)m)?(?:([\d.]+)s)?$/.exec(text) ?? [];
  return (Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds)) * 1000;
}

/** Figures that people write with a unit of their own, for settings that have theirs. */

const BYTES: Readonly<Record<string, number>> = {
  ...{ b: 1, byte: 1, bytes: 1 },
  ...{ kb: 1e3, mb: 1e6, gb: 1e9, tb: 1e12 },
  ...{ k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 },
  ...{ ki: 2 ** 10, mi: 2 ** 20, gi: 2 ** 30, ti: 2 ** 40 },
  ...{ kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30, tib: 2 ** 40 },
};
/** Milliseconds. */
const TIMES: Readonly<Record<string, number>> = {
  ...{ ms: 1, s: 1000, sec: 1000, second: 1000, seconds: 1000 },
  ...{ m: 60_000, min: 60_000, minute: 60_000, minutes: 60_000 },
  ...{ h: 3_600_000, hour: 3_600_000, hours: 3_600_000 },
  ...{ d: 86_400_000, day: 86_400_000, days: 86_400_000 },
};

/** What to write for `10GB` where bytes are wanted, or for `5 min` where seconds are; undefined for what is no such figure. */
export function inUnit(text: string, unit: string): number | undefined {
  const [, digits = '', suffix = ''] =
    /^(\d[\d_]*(?:\.\d+)?)\s*([a-z]+)?$/i.exec(text.trim()) ?? [];
  if (digits === '') return undefined;
  const name = suffix.toLowerCase();
  const isBytes = unit.startsWith('bytes');
  const own = isBytes ? 1 : TIMES[unit];
  const given = name === '' ? own : isBytes ? BYTES[name] : TIMES[name];
  if (own === undefined || given === undefined) return undefined;
  return Math.round((Number(digits.replaceAll('_', '')) * given) / own);
}

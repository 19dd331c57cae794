/**
 * Times as a device writes them, by a pattern of a mapping: `DD.MM.YYYY HH:mm:ss`, `YYMMDDHHmmss`. Letters: YYYY or YY,
 * MM, DD, HH, mm, ss, SSS (fraction, one to nine digits); MMM is an English month's name; hh with A is an hour of twelve
 * and AM or PM; Z is a zone (`Z`, `+01:00`); `?` takes any one character, and all else itself.
 */
import { checkZone, fromText, isCalendar, type DeviceTime } from '../../../shared/codecs/time.ts';

export interface TimePattern {
  text: string;
  pattern: RegExp;
}

const PARTS: Record<string, string> = {
  YYYY: '(?<Y>\\d{4})',
  YY: '(?<y>\\d{2})',
  MMM: '(?<name>[A-Za-z]{3})\\w*',
  MM: '(?<M>\\d{1,2})',
  DD: '(?<D>\\d{1,2})',
  HH: '(?<h>\\d{1,2})',
  hh: '(?<h>\\d{1,2})',
  A: '(?<half>[AaPp])\\.?[Mm]\\.?',
  mm: '(?<m>\\d{1,2})',
  ss: '(?<s>\\d{1,2})',
  SSS: '(?<f>\\d{1,9})',
  Z: '(?<z>Z|[+-]\\d{2}(?::?\\d{2})?)',
  '?': '.',
};
const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const PATTERN_CHARS_MAX = 200;
const LETTERS = /YYYY|YY|MMM|MM|DD|HH|hh|mm|ss|SSS|Z|A|\?/g;

export function compileTimePattern(text: string): TimePattern | { error: string } {
  if (text.length > PATTERN_CHARS_MAX)
    return { error: `a pattern of a time has at most ${PATTERN_CHARS_MAX} characters` };
  const found: string[] = text.match(LETTERS) ?? [];
  for (const part of found)
    if (part !== '?' && found.indexOf(part) !== found.lastIndexOf(part))
      return { error: `'${text}' has ${part} twice` };
  if (!/YY/.test(text) || !/DD/.test(text) || !/MM/.test(text))
    return { error: `'${text}' needs at least YYYY or YY, MM or MMM, and DD` };
  if (found.includes('hh') !== found.includes('A'))
    return { error: `'${text}' has one of hh and A: an hour of twelve needs AM or PM beside it` };
  if (found.includes('hh') && found.includes('HH')) return { error: `'${text}' has HH and hh` };
  // Digits without anything between them have their full width.
  const isPacked = /(?:YYYY|YY)(?:MM)DD/.test(text);
  let source = '';
  let at = 0;
  for (const match of text.matchAll(LETTERS)) {
    source += escape(text.slice(at, match.index));
    const part = PARTS[match[0]] as string; // LETTERS names no other.
    source += isPacked ? part.replace('{1,2}', '{2}') : part;
    at = match.index + match[0].length;
  }
  return { text, pattern: new RegExp(`^\\s*${source}${escape(text.slice(at))}\\s*$`) };
}

const escape = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\/]/g, '\\$&');
const two = (text: string | undefined): string => (text ?? '0').padStart(2, '0');

/** An hour of twelve as one of twenty-four: 12 AM is midnight. Undefined: there is no such hour. */
function ofTwelve(text: string | undefined, half: string): string | undefined {
  const hour = Number(text);
  if (hour < 1 || hour > 12) return undefined;
  return String((hour % 12) + (/p/i.test(half) ? 12 : 0));
}

/** Undefined: it is not of this pattern, no date, or of nobody knows which zone. */
export function readPattern(
  { pattern }: TimePattern,
  text: string,
  zone: string | undefined,
): DeviceTime | undefined {
  const groups = pattern.exec(text)?.groups;
  if (groups === undefined) return undefined;
  const { Y, y, name, D, m, s, f, z } = groups;
  const h = groups['half'] === undefined ? groups['h'] : ofTwelve(groups['h'], groups['half']);
  if (h === undefined && groups['half'] !== undefined) return undefined;
  const year = Y ?? `20${two(y)}`;
  const month = name === undefined ? groups['M'] : MONTHS.indexOf(name.toLowerCase()) + 1;
  const day = Number(D);
  const number = Number(month);
  if (!isCalendar(Date.UTC(Number(year), number - 1, day), number, day)) return undefined;
  const fraction = f === undefined ? '' : `.${f}`;
  const iso = `${year}-${two(String(number))}-${two(D)}T${two(h)}:${two(m)}:${two(s)}${fraction}`;
  if (z !== undefined) return fromText(`${iso}${z}`);
  return zone === undefined ? undefined : fromText(iso, zone);
}

/** Whether a time zone is known. */
export function isZone(zone: string): boolean {
  try {
    checkZone(zone);
    return true;
  } catch {
    return false;
  }
}

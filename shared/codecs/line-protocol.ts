/**
 * InfluxDB line protocol, all of a payload or nothing of it. Numbers are floats; `i` and `u` are read as numbers too,
 * within 2^53. Timestamps are of the precision that is given with them, or that their magnitude says.
 * Source: InfluxDB v2 line protocol reference.
 */
import type { FieldValue } from '../model/reading.ts';
import { POINTS_MAX, Undecodable, exactNumber, setField, type Decoded } from './codec.ts';
import { fromEpoch, isPlausible, type EpochUnit } from './time.ts';

/** Whether a payload looks like line protocol: `name[,tag=value] field=value [time]`. Decided before anything else is tried. */
export function looksLikeLineProtocol(text: string): boolean {
  return /^[^\s{["#,][^\n=]*?(,[^\n]*?=[^\n]*?)* [^\s=][^\n=]*=(-?\d|\.\d|"|[tTfF])/.test(
    text.slice(0, 4096),
  );
}

/** Cuts at an unescaped, unquoted separator. */
function cut(text: string, separator: string, quotes: boolean): string[] {
  const parts: string[] = [];
  let start = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (char === '\\') i++;
    else if (quotes && char === '"') quoted = !quoted;
    else if (!quoted && char === separator) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  if (quoted) throw new Undecodable('line protocol: a quotation mark is not closed');
  parts.push(text.slice(start));
  return parts;
}

function lines(text: string): string[] {
  return cut(text, '\n', true)
    .map((line) => line.replace(/\r$/, ''))
    .filter((line) => line.trim() !== '' && !line.startsWith('#'));
}

const unescape = (text: string): string => text.replaceAll(/\\([,= \\])/g, '$1');

function pair(text: string, what: string): [string, string] {
  const at = cut(text, '=', false)[0]?.length ?? 0;
  if (at === 0 || at === text.length)
    throw new Undecodable(`line protocol: ${what} '${text.slice(0, 40)}' is not name=value`);
  return [unescape(text.slice(0, at)), text.slice(at + 1)];
}

/** An integer, stored exactly as a double or not at all. */
function integer(digits: string, text: string): number {
  if (!/^[-+]?\d+$/.test(digits))
    throw new Undecodable(`line protocol: '${text.slice(0, 40)}' is no integer`);
  return exactNumber(text.slice(0, 40), BigInt(digits.replace('+', '')));
}

function fieldValue(text: string): FieldValue {
  if (text.startsWith('"')) {
    if (!/^"(?:[^"\\]|\\.)*"$/s.test(text))
      throw new Undecodable(`line protocol: text ${text.slice(0, 40)} is not closed`);
    return text.slice(1, -1).replaceAll(/\\(["\\])/g, '$1');
  }
  if (/^(t|T|true|True|TRUE)$/.test(text)) return true;
  if (/^(f|F|false|False|FALSE)$/.test(text)) return false;
  const match = /^([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)([iu]?)$/.exec(text);
  const value = Number(match?.[1]);
  if (match === null || !Number.isFinite(value))
    throw new Undecodable(`line protocol: '${text.slice(0, 40)}' is no value`);
  const [, digits = '', suffix] = match;
  return suffix === '' ? value : integer(digits, text);
}

function decodeLine(line: string, receivedMs: number, unit: EpochUnit | undefined): Decoded {
  const [head = '', fieldText = '', timeText, ...rest] = cut(line, ' ', true).filter(
    (part) => part !== '',
  );
  if (rest.length > 0 || fieldText === '')
    throw new Undecodable('line protocol: not measurement, fields and time');
  const [name = '', ...tagTexts] = cut(head, ',', false);
  const tags = Object.fromEntries(
    tagTexts.map((text) => {
      const [key, value] = pair(text, 'tag');
      return [key, unescape(value)];
    }),
  );
  const fields = new Map<string, FieldValue>();
  for (const text of cut(fieldText, ',', true)) {
    const [key, value] = pair(text, 'field');
    setField(fields, key, fieldValue(value));
  }
  const decoded: Decoded = { measurement: unescape(name), tags, fields };
  if (timeText !== undefined) {
    if (!/^-?\d{1,19}$/.test(timeText))
      throw new Undecodable(`line protocol: '${timeText.slice(0, 40)}' is no time`);
    const time = fromEpoch(Number(timeText), timeText, unit);
    if (time !== undefined && isPlausible(time.ms, receivedMs)) decoded.time = time;
  }
  return decoded;
}

/** Throws Undecodable. */
export function decodeLineProtocol(text: string, receivedMs: number, unit?: EpochUnit): Decoded[] {
  const all = lines(text);
  if (all.length > POINTS_MAX)
    throw new Undecodable(`line protocol: more than ${POINTS_MAX} lines in one message`);
  const decoded = all.map((line) => decodeLine(line, receivedMs, unit));
  if (decoded.length === 0) throw new Undecodable('line protocol: no line');
  return decoded;
}

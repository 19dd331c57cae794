/**
 * InfluxDB line protocol. Each line stands for itself: what is wrong with one takes no other along. Numbers are floats;
 * `i` and `u` are read as numbers too, beyond 2^53 as text. Timestamps are of the precision that is given with them, or
 * that their magnitude says. What InfluxDB refuses (an empty tag, a tag twice) is refused.
 * Source: InfluxDB v2 line protocol reference; influxdata/influxdb, models/points.go.
 */
import type { FieldValue } from '../model/reading.ts';
import { Fields, POINTS_MAX, Undecodable, type Decoded, type Problem } from './codec.ts';
import { fromEpoch, isHistoric, isPlausible, type EpochUnit } from './time.ts';

const HEAD_CHARS = 4096;

/**
 * Whether a payload looks like line protocol: `name[,tag=value] field=value [time]`, after comments. Decided before anything
 * else is tried. A time or a number is no name: a log line begins so, and each would be another measurement.
 */
export function looksLikeLineProtocol(text: string): boolean {
  if (!text.includes('=')) return false;
  const head = text.slice(0, HEAD_CHARS).replace(/^(?:\s*#[^\n]*\n|\s*\n)+/, '');
  return /^(?![-+]?\d[-+.:/\dTZ]*[ ,])[^\s{["#,][^\n=]*?(,[^\n]*?=[^\n]*?)* [^\s=][^\n=]*=([-+]?\d|[-+]?\.\d|"|[tTfF]|[-+]?nan|[-+]?inf)/i.test(
    head,
  );
}

const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const SPACE = 0x20;
const EQUALS = 0x3d;
const QUOTE = 0x22;
const NEWLINE = 0x0a;
const RETURN = 0x0d;
const HASH = 0x23;

const unescape = (text: string): string =>
  text.includes('\\') ? text.replaceAll(/\\([,= \\])/g, '$1') : text;

function refuse(why: string): never {
  throw new Undecodable(`line protocol: ${why}`);
}
const shown = (text: string): string => text.slice(0, 40);

/** An integer, whole: a double holds it, or it is kept as text. */
function integer(text: string): bigint {
  const digits = text.slice(0, -1);
  if (!/^[-+]?\d+$/.test(digits) || (text.endsWith('u') && digits.startsWith('-')))
    refuse(`'${shown(text)}' is no integer`);
  return BigInt(digits.replace('+', ''));
}

const NUMBER = /^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$/;
const NO_NUMBER = /^[-+]?(?:nan|inf|infinity)$/i;

function fieldValue(text: string): FieldValue | bigint {
  if (NUMBER.test(text)) return Number(text);
  if (/^(t|T|true|True|TRUE)$/.test(text)) return true;
  if (/^(f|F|false|False|FALSE)$/.test(text)) return false;
  if (NO_NUMBER.test(text)) return Number.NaN;
  if (/^[-+]?\d.*[iu]$/.test(text)) return integer(text);
  return refuse(`'${shown(text)}' is no value`);
}

/** Reads lines, one after the other. */
class Reader {
  private readonly text: string;
  private readonly receivedMs: number;
  private readonly unit: EpochUnit | undefined;
  private at = 0;

  constructor(text: string, receivedMs: number, unit: EpochUnit | undefined) {
    this.text = text;
    this.receivedMs = receivedMs;
    this.unit = unit;
  }

  /** Steps to the next line that is neither empty nor a comment. False at the end. */
  next(): boolean {
    const { text } = this;
    for (; this.at < text.length; this.at++) {
      const code = text.charCodeAt(this.at);
      if (code === HASH) this.at = this.lineEnd();
      else if (code !== NEWLINE && code !== SPACE && code !== RETURN && code !== 0x09) return true;
    }
    return false;
  }

  get start(): number {
    return this.at;
  }

  /** Steps over what is left of a line that was refused; returns it. */
  skip(start: number): string {
    this.at = start;
    this.at = this.lineEnd();
    return this.text.slice(start, this.at).replace(/\r$/, '');
  }

  private lineEnd(): number {
    const end = this.text.indexOf('\n', this.at);
    return end < 0 ? this.text.length : end;
  }

  /** Up to one of two separators or the end of the line; a backslash takes what follows it along. */
  private until(one: number, other: number): string {
    const { text } = this;
    const start = this.at;
    for (; this.at < text.length; this.at++) {
      const code = text.charCodeAt(this.at);
      if (code === BACKSLASH) {
        if (text.charCodeAt(this.at + 1) !== NEWLINE) this.at++;
      } else if (code === one || code === other || code === NEWLINE) break;
    }
    this.at = Math.min(this.at, text.length);
    return text.slice(start, this.at);
  }

  private take(code: number): boolean {
    if (this.text.charCodeAt(this.at) !== code) return false;
    this.at++;
    return true;
  }

  private spaces(): void {
    while (this.text.charCodeAt(this.at) === SPACE) this.at++;
  }

  /** One line. Throws Undecodable. */
  line(): Decoded {
    const name = this.until(COMMA, SPACE);
    if (name === '') refuse('there is no measurement');
    const tags = this.tags();
    this.spaces();
    const fields = this.fields();
    const decoded: Decoded = { measurement: unescape(name), tags, fields };
    this.spaces();
    const stamp = this.until(SPACE, SPACE).replace(/\r$/, '');
    this.spaces();
    if (stamp !== '') this.stamp(decoded, stamp);
    if (this.take(RETURN) || this.at >= this.text.length || this.take(NEWLINE)) return decoded;
    return refuse('not measurement, fields and time');
  }

  private tags(): Record<string, string> {
    const tags: Record<string, string> = {};
    while (this.take(COMMA)) {
      const key = this.until(EQUALS, SPACE);
      if (key === '' || !this.take(EQUALS)) refuse(`tag '${shown(key)}' is not name=value`);
      const value = this.until(COMMA, SPACE);
      if (value === '') refuse(`tag '${shown(key)}' is empty`);
      const name = unescape(key);
      if (Object.hasOwn(tags, name)) refuse(`tag '${shown(name)}' is there twice`);
      Object.defineProperty(tags, name, {
        value: unescape(value),
        enumerable: true,
        writable: true,
        configurable: true,
      });
    }
    return tags;
  }

  private fields(): Fields {
    const fields = new Fields();
    do {
      const key = this.until(EQUALS, SPACE);
      if (key === '' || !this.take(EQUALS)) {
        if (fields.isEmpty) refuse('not measurement, fields and time');
        refuse(`field '${shown(key)}' is not name=value`);
      }
      const value =
        this.text.charCodeAt(this.at) === QUOTE
          ? this.quoted()
          : fieldValue(this.until(COMMA, SPACE).replace(/\r$/, ''));
      fields.set(unescape(key), value);
    } while (this.take(COMMA));
    return fields;
  }

  private quoted(): string {
    const { text } = this;
    const start = ++this.at;
    for (; this.at < text.length; this.at++) {
      const code = text.charCodeAt(this.at);
      if (code === BACKSLASH) this.at++;
      else if (code === QUOTE) {
        const inner = text.slice(start, this.at++);
        return inner.includes('\\') ? inner.replaceAll(/\\(["\\])/g, '$1') : inner;
      }
    }
    return refuse('a quotation mark is not closed');
  }

  private stamp(decoded: Decoded, text: string): void {
    if (!/^-?\d{1,19}$/.test(text)) refuse(`'${shown(text)}' is no time`);
    const time = fromEpoch(Number(text), text, this.unit);
    // Who says the precision means the time, however old.
    const isBelieved = this.unit === undefined ? isPlausible : isHistoric;
    if (time !== undefined && isBelieved(time.ms, this.receivedMs)) decoded.time = time;
  }
}

/** The points of all lines that are good, and what is wrong with the others. Throws Undecodable for too many lines. */
export function decodeLines(
  text: string,
  receivedMs: number,
  unit?: EpochUnit,
): { points: Decoded[]; problems: Problem[] } {
  const reader = new Reader(text, receivedMs, unit);
  const points: Decoded[] = [];
  const problems: Problem[] = [];
  for (let index = 0; reader.next(); index++) {
    if (index >= POINTS_MAX)
      throw new Undecodable(`line protocol: more than ${POINTS_MAX} lines in one message`);
    const { start } = reader;
    try {
      points.push(reader.line());
    } catch (error) {
      if (!(error instanceof Undecodable)) throw error;
      const payload = Buffer.from(reader.skip(start));
      problems.push({ reason: error.message, part: { index, payload } });
    }
  }
  return { points, problems };
}

/** All of a payload or nothing of it. Throws Undecodable. */
export function decodeLineProtocol(text: string, receivedMs: number, unit?: EpochUnit): Decoded[] {
  const { points, problems } = decodeLines(text, receivedMs, unit);
  const [first] = problems;
  if (first !== undefined) throw new Undecodable(first.reason);
  if (points.length === 0) throw new Undecodable('line protocol: no line');
  return points;
}

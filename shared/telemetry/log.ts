/** What the processes say of themselves: one line an event, on standard error, never broken by what a device sent. */
import { fstatSync } from 'node:fs';
import type { Level, Notice, Notify } from '../../contracts/notice.ts';

export type { Level, Notice, Notify } from '../../contracts/notice.ts';

const shown = (char: string): string => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;

/**
 * Control characters (C0, C1: ANSI and OSC codes begin with them) and those that turn the direction of writing made
 * visible, so that one event stays one line and says what it says.
 */
export function printable(text: string): string {
  return text.replaceAll(
    /[\p{Cc}\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu,
    shown,
  );
}

/** The same for text of several lines: its line ends and tabs are its own. In JSON the escapes are JSON's. */
export function printableLines(text: string): string {
  return text.replaceAll(
    /(?![\n\t])[\p{Cc}\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu,
    shown,
  );
}

/** Lines for a person, of which none is two, whatever a device or a gateway wrote into it. */
export const linesText = (lines: readonly string[]): string =>
  lines.map((line) => `${printable(line)}\n`).join('');

export const LOG_FORMATS = ['text', 'json'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/** In rising order. */
export const LEVELS: readonly Level[] = ['info', 'warn', 'error'];

/** As sd-daemon(3) has them: 3 error, 4 warning, 6 information. */
const PRIORITY: Record<Level, string> = { info: '<6>', warn: '<4>', error: '<3>' };

/** systemd names the stream that it reads; a process of ours may have been given another one since (`2> file`). */
function isJournal(stream: string | undefined): boolean {
  if (stream === undefined) return false;
  try {
    const { dev, ino } = fstatSync(2);
    return stream === `${dev}:${ino}`;
  } catch {
    return false; // A closed standard error is no journal.
  }
}

export interface LogChoice {
  format: LogFormat;
  /** What is below it is not written. */
  level: Level;
  /** Begin each line with the priority that journald takes away again. */
  journal: boolean;
}

/** One line, with its end, or nothing for what is below the level. */
export function logLine(
  { level, event, text }: Notice,
  part: string,
  nowMs: number,
  choice: LogChoice,
): string {
  if (LEVELS.indexOf(level) < LEVELS.indexOf(choice.level)) return '';
  const time = new Date(nowMs).toISOString();
  // In JSON, what JSON leaves as it is (C1, directions) is escaped after it, as JSON too.
  const line =
    choice.format === 'json'
      ? printable(JSON.stringify({ time, level, part, event, text }))
      : `${time} ${level} ${part} ${event}: ${printable(text)}`;
  return `${choice.journal ? PRIORITY[level] : ''}${line}\n`;
}

export function stderrNotify(
  part: string,
  now: () => number,
  // What the configuration's check let through is one of the choices.
  { format, level }: { format: string; level: string },
): Notify {
  const journal = isJournal(process.env['JOURNAL_STREAM']);
  const choice: LogChoice = { format: format as LogFormat, level: level as Level, journal };
  return (notice) => {
    process.stderr.write(logLine(notice, part, now(), choice));
  };
}

/** What the processes say of themselves: one line an event, on standard error, never broken by what a device sent. */
import type { Notify } from '../../contracts/notice.ts';

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

export function stderrNotify(part: string, now: () => number): Notify {
  return ({ level, event, text }) => {
    const time = new Date(now()).toISOString();
    process.stderr.write(`${time} ${level} ${part} ${event}: ${printable(text)}\n`);
  };
}

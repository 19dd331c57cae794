/** What the processes say of themselves: one line an event, on standard error, never broken by what a device sent. */
import type { Notify } from '../../contracts/notice.ts';

export type { Level, Notice, Notify } from '../../contracts/notice.ts';

/** Control characters and escapes made visible, so that one event stays one line (a payload may hold CR, LF, ANSI codes). */
export function printable(text: string): string {
  return text.replaceAll(
    /[\p{Cc}\u2028\u2029]/gu,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

export function stderrNotify(part: string, now: () => number): Notify {
  return ({ level, event, text }) => {
    const time = new Date(now()).toISOString();
    process.stderr.write(`${time} ${level} ${part} ${event}: ${printable(text)}\n`);
  };
}

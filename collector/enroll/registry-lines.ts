/** Lines of the registry, numbered and sealed, and what is believed of the two files that have them. */
import { crc32c } from '../../shared/frame/crc32c.ts';

interface Place {
  n: number;
  /** The number of the first line of its file, as that was written anew. */
  from: number;
}

const sumOf = (line: object, { n, from }: Place): string =>
  crc32c(Buffer.from(JSON.stringify([line, n, from])))
    .toString(16)
    .padStart(8, '0');

export const textOf = (lines: readonly object[], first: number, from: number): string =>
  lines
    .map((line, at) => {
      const place = { n: first + at, from };
      return `${JSON.stringify({ ...line, ...place, crc: sumOf(line, place) })}\n`;
    })
    .join('');

interface Parsed {
  line: object;
  /** Undefined: of a version that kept none. */
  place: Place | undefined;
}

/** Undefined for what is damaged. */
function parse(text: string): Parsed | undefined {
  try {
    const { n, from, crc, ...line } = JSON.parse(text) as Partial<Place> & { crc?: string };
    if (n === undefined && from === undefined && crc === undefined)
      return { line, place: undefined };
    if (typeof n !== 'number' || typeof from !== 'number') return undefined;
    const place = { n, from };
    return crc === sumOf(line, place) ? { line, place } : undefined;
  } catch {
    return undefined;
  }
}

interface File {
  parsed: Parsed[];
  damaged: number;
}

function read(text: string): File {
  const rows = text.split('\n');
  const cut = rows.pop() ?? '';
  const whole = rows.filter((row) => row !== '').map(parse);
  const parsed = whole.flatMap((each) => each ?? []);
  const last = cut === '' ? undefined : parse(cut);
  if (last !== undefined) parsed.push(last);
  // What a power cut has cut was never answered.
  return { parsed, damaged: whole.length - parsed.length + (last === undefined ? 0 : 1) };
}

export interface Found {
  lines: object[];
  /** Number of the next line. */
  next: number;
  /** Of each file: what is wrong with it, where the other has what it lacks; undefined: nothing. */
  wrong: (string | undefined)[];
  /** So many lines no file has any more, as far as that can be known. */
  lost: number;
}

/** `texts` of the file and of its copy; undefined for one that is not there. */
export function believe(texts: readonly [string | undefined, string | undefined]): Found {
  const files = texts.map((text = '') => read(text));
  const [main] = files;
  if (main !== undefined && main.parsed.some(({ place }) => place === undefined)) {
    // A version before wrote it: a copy, if there is one, is from before that.
    const lines = main.parsed.map(({ line }) => line);
    return { lines, next: 1, wrong: [], lost: main.damaged };
  }
  const all = files.map(({ parsed }) =>
    parsed.flatMap(({ line, place }) => (place === undefined ? [] : [{ line, ...place }])),
  );
  const from = Math.max(0, ...all.flat().map((each) => each.from));
  const lines = new Map<number, object>();
  for (const each of all.flat()) if (each.from === from) lines.set(each.n, each.line);
  const numbers = [...lines.keys()].sort((a, b) => a - b);
  const last = numbers.at(-1) ?? from - 1;
  const wrong = files.map(({ damaged }, at) => {
    if (texts[at] === undefined) return 'is gone';
    const own = all[at]?.filter((each) => each.from === from).length ?? 0;
    if (own === numbers.length && damaged === 0) return undefined;
    return damaged > 0 ? `has ${damaged} damaged lines` : 'is cut off, or an older copy';
  });
  return {
    lines: numbers.map((number) => lines.get(number) as object), // They are its keys.
    next: last + 1,
    wrong,
    lost: Math.max(
      last - from + 1 - numbers.length,
      // Nothing of it can be read, so nobody knows how many there were.
      numbers.length === 0 ? Math.max(...files.map(({ damaged }) => damaged)) : 0,
    ),
  };
}

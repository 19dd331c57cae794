/**
 * Topic templates. Levels: a literal, `{name}` (one level, a tag), `{name...}` (one or more), `+` (any), `#` (the rest,
 * last). A level may mix literals and names: `{component}:{id}`. `{measurement}` and `{field}` give names instead of tags.
 */
import { compileGlob, matchGlob, type Glob } from './glob.ts';

/** `any`: whatever stands there; `own`: a name that is a level of its own, and may be empty as a level may. */
type Level = 'any' | { own: string } | Glob;

export interface Template {
  text: string;
  names: string[];
  /** Before the level of several, and behind it; without such a one all of them are before it. */
  before: Level[];
  wide: Glob | undefined;
  after: Level[];
  /** It ends with `#`. */
  isOpen: boolean;
}

const namesOf = (level: Level): string[] =>
  level === 'any' ? [] : 'own' in level ? [level.own] : level.names;

function levelOf(text: string): Level | { error: string } {
  if (text === '+') return 'any';
  const own = /^\{([A-Za-z_][\w-]*)\}$/.exec(text)?.[1];
  return own === undefined ? compileGlob(text) : { own };
}

export function compileTemplate(text: string): Template | { error: string } {
  const parts = text.split('/');
  const isOpen = parts.at(-1) === '#';
  if (isOpen) parts.pop();
  if (parts.includes('#')) return { error: "'#' must be the last level" };
  const levels: Level[] = [];
  for (const part of parts) {
    const level = levelOf(part);
    if (typeof level === 'object' && 'error' in level) return level;
    levels.push(level);
  }
  const names = levels.flatMap(namesOf);
  if (new Set(names).size !== names.length) return { error: `'${text}' has a name twice` };
  if ((text.match(/\.\.\.\}/g) ?? []).length > 1)
    return { error: `'${text}' has more than one name of several levels` };
  const at = levels.findIndex(
    (level) => typeof level === 'object' && 'wide' in level && level.wide !== undefined,
  );
  if (at < 0) return { text, names, before: levels, wide: undefined, after: [], isOpen };
  const wide = levels[at] as Glob; // As it was looked for.
  return { text, names, before: levels.slice(0, at), wide, after: levels.slice(at + 1), isOpen };
}

/** A longer topic matches no template: what a device sends must not make matching slow. */
const TOPIC_CHARS_MAX = 2000;

/** What the names of levels match that stand at `from`; undefined: they do not. */
function matchLevels(
  levels: readonly Level[],
  topic: readonly string[],
  from: number,
): string[] | undefined {
  const values: string[] = [];
  for (const [index, level] of levels.entries()) {
    const text = topic[from + index];
    if (text === undefined) return undefined;
    if (level === 'any') continue;
    if ('own' in level) values.push(text);
    else {
      const found = matchGlob(level, text);
      if (found === undefined) return undefined;
      values.push(...found);
    }
  }
  return values;
}

/** With as few levels for the wide name as there can be. */
function matchWide(
  { before, wide, after, isOpen }: Template & { wide: Glob },
  topic: readonly string[],
  head: string[],
): string[] | undefined {
  const from = before.length;
  const most = topic.length - after.length;
  for (let end = isOpen ? from + 1 : most; end <= most; end++) {
    const tail = matchLevels(after, topic, end);
    const middle =
      tail === undefined ? undefined : matchGlob(wide, topic.slice(from, end).join('/'));
    if (tail !== undefined && middle !== undefined) return [...head, ...middle, ...tail];
  }
  return undefined;
}

/** Values of a template's names, or undefined when the topic does not match. */
export function matchTemplate(template: Template, topic: string): Map<string, string> | undefined {
  if (topic.length > TOPIC_CHARS_MAX) return undefined;
  const { before, wide, isOpen, names } = template;
  const levels = topic.split('/');
  const head = matchLevels(before, levels, 0);
  if (head === undefined) return undefined;
  if (
    wide === undefined &&
    (isOpen ? levels.length < before.length : levels.length !== before.length)
  )
    return undefined;
  const values = wide === undefined ? head : matchWide({ ...template, wide }, levels, head);
  return values && new Map(names.map((name, index) => [name, values[index] ?? '']));
}

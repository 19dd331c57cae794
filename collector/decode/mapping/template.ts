/**
 * Topic templates. Levels: a literal, `{name}` (one level, a tag), `{name...}` (one or more), `+` (any), `#` (the rest,
 * last). A level may mix literals and names: `{component}:{id}`. `{measurement}` and `{field}` give names instead of tags.
 */
const NAME = /\{([A-Za-z_][\w-]*)(\.\.\.)?\}/g;

export interface Template {
  text: string;
  names: string[];
  pattern: RegExp;
}

/** A run of text with names in it as a pattern of groups. `within` is what a name may match. Returns why it is not valid. */
export function compilePattern(
  text: string,
  within: string,
): { source: string; names: string[] } | { error: string } {
  const names: string[] = [];
  let source = '';
  let at = 0;
  for (const match of text.matchAll(NAME)) {
    source += escape(text.slice(at, match.index));
    source += match[2] === undefined ? `(${within}+?)` : '(.+?)';
    names.push(match[1] as string);
    at = match.index + match[0].length;
  }
  const rest = text.slice(at);
  if (/[{}]/.test(text.replaceAll(NAME, '')))
    return { error: `'${text}' has a name that is not a word` };
  if (new Set(names).size !== names.length) return { error: `'${text}' has a name twice` };
  return { source: source + escape(rest), names };
}

const escape = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\/]/g, '\\$&');

export function compileTemplate(text: string): Template | { error: string } {
  const levels = text.split('/');
  const names: string[] = [];
  const parts: string[] = [];
  let rest = '';
  for (const [index, level] of levels.entries()) {
    if (level === '#') {
      if (index < levels.length - 1) return { error: "'#' must be the last level" };
      rest = index === 0 ? '.*' : '(?:\\/.*)?';
      continue;
    }
    if (level === '+') {
      parts.push('[^/]*');
      continue;
    }
    const compiled = compilePattern(level, '[^/]');
    if ('error' in compiled) return compiled;
    names.push(...compiled.names);
    // A name that is a level of its own may be empty, as a level may.
    parts.push(/^\{[\w-]+\}$/.test(level) ? '([^/]*)' : compiled.source);
  }
  if (new Set(names).size !== names.length) return { error: `'${text}' has a name twice` };
  if ((text.match(/\.\.\.\}/g) ?? []).length > 1)
    return { error: `'${text}' has more than one name of several levels` };
  return { text, names, pattern: new RegExp(`^${parts.join('\\/')}${rest}$`, 's') };
}

/** A longer topic matches no template: what a device sends must not make matching slow. */
const TOPIC_CHARS_MAX = 2000;

/** Values of a template's names, or undefined when the topic does not match. */
export function matchTemplate(
  { pattern, names }: Template,
  topic: string,
): Map<string, string> | undefined {
  if (topic.length > TOPIC_CHARS_MAX) return undefined;
  const match = pattern.exec(topic);
  if (match === null) return undefined;
  return new Map(names.map((name, index) => [name, match[index + 1] ?? '']));
}

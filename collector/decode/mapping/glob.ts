/**
 * Texts with names in them, `{component}:{id}`, matched from left to right without a way back: what a device sends, however
 * long, takes time in proportion to its length. A name takes as little as it can, and at least a character.
 */
const NAME = /\{([A-Za-z_][\w-]*)(\.\.\.)?\}/g;

export interface Glob {
  /** Before, between and behind the names: one more than there are. */
  literals: string[];
  names: string[];
  /** Which name may span several levels, `{name...}`. */
  wide: number | undefined;
}

/** Returns why it is not valid. */
export function compileGlob(text: string): Glob | { error: string } {
  const literals: string[] = [];
  const names: string[] = [];
  let wide: number | undefined;
  let at = 0;
  for (const match of text.matchAll(NAME)) {
    literals.push(text.slice(at, match.index));
    if (match[2] !== undefined) wide = names.length;
    names.push(match[1] as string);
    at = match.index + match[0].length;
  }
  literals.push(text.slice(at));
  if (/[{}]/.test(text.replaceAll(NAME, '')))
    return { error: `'${text}' has a name that is not a word` };
  if (new Set(names).size !== names.length) return { error: `'${text}' has a name twice` };
  return { literals, names, wide };
}

/**
 * What the names match; undefined: it is not such a text. Of the places of a literal the first is taken: a later one leaves
 * less for what follows. Behind a name of several levels all that follows is in the last level, which has no `/` any more.
 */
export function matchGlob({ literals, wide }: Glob, text: string): string[] | undefined {
  const [first = '', ...rest] = literals;
  if (rest.length === 0) return text === first ? [] : undefined;
  if (!text.startsWith(first)) return undefined;
  const values: string[] = [];
  let at = first.length;
  for (const [index, literal] of rest.entries()) {
    const isLast = index === rest.length - 1;
    const from = index === wide ? Math.max(at + 1, text.lastIndexOf('/') + 1) : at + 1;
    const end = isLast ? text.length - literal.length : text.indexOf(literal, from);
    if (end < from || (isLast && !text.endsWith(literal))) return undefined;
    const value = text.slice(at, end);
    if (wide !== undefined && index < wide && value.includes('/')) return undefined;
    values.push(value);
    at = end + literal.length;
  }
  return values;
}

/** The same for the key of an object, which may be empty, as some devices have it. */
export function matchKey(glob: Glob, key: string): string[] | undefined {
  const isWhole = glob.names.length === 1 && glob.literals.join('') === '';
  return key === '' && isWhole ? [''] : matchGlob(glob, key);
}

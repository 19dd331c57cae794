/**
 * A contributor's page, followed to the letter: a block that begins with `// PATH` is that new file; a `diff` block that
 * begins with `--- PATH` changes a file where its lines stand, once and in this order: ` ` stays, `-` goes, `+` comes.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export interface Followed {
  /** Files that the page has made or changed, in its order. */
  files: string[];
  /** The test that it ends with. */
  test: string;
}

/** Throws what a reader would stumble over. */
export function follow(page: string, checkout: string): Followed {
  const files = new Set<string>();
  const blocks = readFileSync(page, 'utf8').matchAll(/^```(\w+)\n([^]*?)^```$/gm);
  for (const [, language, body = ''] of blocks) {
    const [first = '', ...lines] = body.trimEnd().split('\n');
    const path = /^(?:\/\/|---) (\S+)$/.exec(first)?.[1];
    if (path === undefined) continue;
    const file = join(checkout, path);
    if (language === 'diff') writeFileSync(file, changed(readFileSync(file, 'utf8'), lines, path));
    else {
      if (existsSync(file)) throw new Error(`${path} is there already`);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, `${lines.join('\n')}\n`);
    }
    files.add(path);
  }
  const test = [...files].findLast((path) => path.endsWith('.test.ts'));
  if (test === undefined) throw new Error('a page ends with a test');
  return { files: [...files], test };
}

function changed(text: string, lines: readonly string[], path: string): string {
  const side = (without: string): string =>
    lines
      .filter((line) => !line.startsWith(without))
      .map((line) => `${line.slice(1)}\n`)
      .join('');
  const [before, after] = [side('+'), side('-')];
  // Whole lines: a file begins where a line begins.
  const parts = `\n${text}`.split(`\n${before}`);
  if (parts.length !== 2)
    throw new Error(`${path} has these lines ${parts.length - 1} times:\n${before}`);
  return parts.join(`\n${after}`).slice(1);
}

/**
 * `docs/threats.md` held against the tests that it names: a row without one, or with one that is not there, is an error of
 * `npm run check`. A letter alone is that file's test of the row's own number.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const PAGE = 'docs/threats.md';

/** Names of tests, and of the entries of tables that tests are made of. */
function testsIn(text: string): string[] {
  const titles = [
    ...text.matchAll(
      /\b(?:it|describe)\b[^'"`\n]*(?:\n[^'"`\n]*){0,6}?\(\s*(['"`])((?:\\.|(?!\1)[^\\])*)\1/g,
    ),
  ];
  const entries = [...text.matchAll(/^ {2}['"]?([\w ,:.-]+)['"]?: (?:\{$|async|\(|[a-z])/gm)];
  return [...titles.map(([, , title = '']) => title), ...entries.map(([, name = '']) => name)];
}

export function threatProblems(root: string): string[] {
  const page = readFileSync(join(root, PAGE), 'utf8');
  const letters = new Map(
    [...page.matchAll(/\b([A-Z]): `([\w/.-]+\.test\.ts)`/g)].map(([, letter = '', file = '']) => [
      letter,
      file,
    ]),
  );
  const problems: string[] = [];
  const known = new Map<string, string[]>();
  const testsOf = (file: string): string[] => {
    let tests = known.get(file);
    if (tests === undefined)
      known.set(
        file,
        (tests = existsSync(join(root, file))
          ? testsIn(readFileSync(join(root, file), 'utf8'))
          : []),
      );
    return tests;
  };
  for (const line of page.split('\n').filter((each) => /^\| S\d/.test(each))) {
    const cells = line.split(/(?<!\\)\|/).map((cell) => cell.trim());
    const numbers = (cells[1] ?? '').split(/,\s*/);
    const named = (cells[4] ?? '').split(/;\s*/).filter(Boolean);
    if (named.length === 0) problems.push(`${PAGE}: ${numbers.join()} names no test`);
    for (const each of named) {
      const [, file = '', words = ''] = /^(`[^`]+`|[A-Z])(?::? (.*))?$/.exec(each) ?? [];
      const path = letters.get(file) ?? file.replaceAll('`', '');
      const tests = testsOf(path);
      const wanted =
        words === '' ? numbers.map((number) => new RegExp(`\\b${number}\\b`)) : [words];
      for (const want of wanted)
        if (
          !tests.some((name) => (typeof want === 'string' ? name.includes(want) : want.test(name)))
        )
          problems.push(
            `${PAGE}: ${numbers.join()} names a test that is not in ${path === '' ? `'${each}'` : path}: ${words === '' ? numbers.join() : words}`,
          );
    }
  }
  return problems;
}

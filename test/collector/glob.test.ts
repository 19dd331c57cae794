/** Templates of mappings against texts that a device chooses: what they match is what a lazy regular expression did, without its way back. */
import { expect, it } from 'vitest';
import { compileTemplate, matchTemplate } from '../../collector/decode/mapping/template.ts';
import { compilePath, select } from '../../collector/decode/mapping/path.ts';
import { wildcard } from '../../shared/model/wildcard.ts';
import { seeded } from '../support/seed.ts';

const escape = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\/]/g, '\\$&');

/** As it was: correct, and polynomial in the topic's length. */
function reference(template: string, topic: string): string[] | undefined {
  let rest = '';
  const parts = template.split('/').flatMap((level, index) => {
    if (level === '#') rest = index === 0 ? '.*' : '(?:\\/.*)?';
    if (level === '#') return [];
    if (level === '+') return ['[^/]*'];
    if (/^\{\w+\}$/.test(level)) return ['([^/]*)'];
    return [
      level
        .split(/(\{\w+(?:\.\.\.)?\})/)
        .map((part) =>
          /^\{.*\.\.\.\}$/.test(part) ? '(.+?)' : part.startsWith('{') ? '([^/]+?)' : escape(part),
        )
        .join(''),
    ];
  });
  const match = new RegExp(`^${parts.join('\\/')}${rest}$`, 's').exec(topic);
  return match === null ? undefined : [...match].slice(1);
}

it('a template matches what it says, and its names take as little as they can', () => {
  const { seed, next } = seeded();
  const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)] as T;
  let matched = 0;
  for (let round = 0; round < 3000; round++) {
    let names = 0;
    let isWide = false;
    const level = (): string =>
      Array.from({ length: 1 + Math.floor(next() * 3) }, () => {
        const kind = next();
        if (kind < 0.45) return pick(['a', '-', 'b:', ':']);
        if (kind < 0.9 || isWide) return `{n${names++}}`;
        isWide = true;
        return `{n${names++}...}`;
      }).join('');
    const levels = Array.from({ length: 1 + Math.floor(next() * 4) }, () =>
      next() < 0.15 ? '+' : level(),
    );
    if (next() < 0.2) levels.push('#');
    const template = levels.join('/');
    const topic = Array.from({ length: Math.floor(next() * 10) }, () =>
      pick(['a', '-', ':', 'b', '/', '/']),
    ).join('');
    const compiled = compileTemplate(template);
    if ('error' in compiled) throw new Error(`${template}: ${compiled.error}`);
    const found = matchTemplate(compiled, topic);
    const label = `HEADWATER_SEED=${seed} '${template}' '${topic}'`;
    expect(found && [...found.values()], label).toEqual(reference(template, topic));
    if (found !== undefined) matched++;
  }
  expect(matched).toBeGreaterThan(60);
});

it('a topic, or a key of a document, costs in proportion to its length', () => {
  const before = process.cpuUsage();
  const template = compileTemplate('x/{a}-{b}-{c}-{d}-{e}/y/{rest...}:{f}');
  if ('error' in template) throw new Error(template.error);
  for (let round = 0; round < 200; round++)
    expect(matchTemplate(template, `x/${'-'.repeat(1900 + (round % 50))}/z`)).toBeUndefined();
  const path = compilePath('{a}_{b}_{c}_{d}!');
  if ('error' in path) throw new Error(path.error);
  const key = '_'.repeat(500_000);
  expect(select({ [key]: 1 }, path)).toEqual([]);
  // By the regular expression the first topic alone would not have come to an end.
  expect(process.cpuUsage(before).user / 1000).toBeLessThan(5000);
});

it('a pattern with stars matches what it says, and costs in proportion to a text, however many stars it has', () => {
  const { seed, next } = seeded();
  const pick = (): string => ['a', 'b', '*', '.', '\n', 'ab'][Math.floor(next() * 6)] ?? '';
  let matched = 0;
  for (let round = 0; round < 5000; round++) {
    const pattern = Array.from({ length: Math.floor(next() * 6) }, pick).join('');
    const text = Array.from({ length: Math.floor(next() * 8) }, pick).join('');
    const is = new RegExp(`^${pattern.split('*').map(escape).join('.*')}$`, 's').test(text);
    expect(wildcard(pattern)(text), `seed ${seed}: ${pattern} ${text}`).toBe(is);
    if (is) matched++;
  }
  expect(matched).toBeGreaterThan(100);
  const before = process.cpuUsage();
  const text = 'a'.repeat(16_000);
  for (let round = 0; round < 100; round++) expect(wildcard('*a*a*a*a*b')(`${text}c`)).toBe(false);
  // By a regular expression the first alone would not have come to an end.
  expect(process.cpuUsage(before).user / 1000).toBeLessThan(5000);
});

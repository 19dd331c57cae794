/** Developers' commands: `--help` is the truth, and what one cannot take is one sentence and exit code 2. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { flagsOf, headOf, helpOf } from '../scripts/flags.mjs';
import { ROOT, start, temporaryFolder } from './support/process.ts';

interface Asked {
  file: string;
  args: string[];
}
interface Answer {
  code: number | string;
  out: string;
  err: string;
}

/** Each in turn in one process, so that what they share is loaded once; each ends where it would end the process. */
const ASK = `
const asked = JSON.parse(process.argv[2]);
const answers = [];
const real = { out: process.stdout.write.bind(process.stdout), exit: process.exit };
for (const [at, { file, args }] of asked.entries()) {
  const answer = { code: 'went on', out: '', err: '' };
  process.argv.splice(1, Infinity, file, ...args);
  process.stdout.write = (text) => ((answer.out += text), true);
  process.stderr.write = (text) => ((answer.err += text), true);
  process.exit = (code) => { throw { code }; };
  await import(file + '?' + at).catch((error) => { answer.code = error.code ?? String(error); });
  answers.push(answer);
}
real.out(JSON.stringify(answers));
real.exit(0);
`;

async function ask(asked: Asked[]): Promise<Answer[]> {
  const script = join(temporaryFolder(), 'ask.mjs');
  writeFileSync(script, ASK);
  const urls = asked.map(({ file, args }) => ({
    file: pathToFileURL(join(ROOT, file)).href,
    args,
  }));
  const child = start(process.execPath, ['--import', 'tsx', script, JSON.stringify(urls)]);
  expect(await child.exited, child.output()).toBe(0);
  return JSON.parse(child.stdout()) as Answer[];
}

const SCRIPTS = Object.entries(
  (
    JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
      scripts: Record<string, string>;
    }
  ).scripts,
);
/** What takes no flags of ours: the build, which an old Node has to be able to load, and what hands its words on. */
const PASSED_OVER = ['scripts/build.mjs', 'cli/bin.mjs', 'scripts/test.mjs'];
const FILES = [
  ...new Set(
    SCRIPTS.flatMap(([, line]) => [...line.matchAll(/node (?:--import tsx )?(\S+\.m?[jt]s)/g)])
      .map(([, file]) => file ?? '')
      .filter((file) => !PASSED_OVER.includes(file)),
  ),
  'scripts/house.mjs',
  'test/chaos/lake.ts',
  'test/chaos/sessions.ts',
  'test/bench/beside.ts',
];
const urlOf = (file: string): string => pathToFileURL(join(ROOT, file)).href;
/** Flags of a file that take numbers, as its source has them. */
const numbersOf = (file: string): string[] =>
  [
    ...readFileSync(join(ROOT, file), 'utf8').matchAll(
      /([\w-]+)'?: {\s+type: '(?:integer|number)'/g,
    ),
  ].map(([, name]) => name ?? '');

describe("developers' commands", () => {
  const asked = FILES.flatMap((file) => [
    { file, args: ['--help'] },
    { file, args: ['--no-such-flag'] },
    ...numbersOf(file).map((name) => ({ file, args: [`--${name}`, 'x7'] })),
  ]);
  const answers = new Map<string, Answer>();
  const answerOf = (file: string, ...args: string[]): Answer | undefined =>
    answers.get([file, ...args].join(' '));
  beforeAll(async () => {
    // One that does not look at its words would begin its work here.
    for (const file of FILES)
      expect(readFileSync(join(ROOT, file), 'utf8'), file).toMatch(/flagsOf\(|helpOf\(/);
    const all = await ask(asked);
    for (const [at, { file, args }] of asked.entries()) {
      const answer = all[at];
      if (answer !== undefined) answers.set([file, ...args].join(' '), answer);
    }
  });

  it.each(FILES)('%s says what it takes, and refuses what it does not', (file) => {
    const [help, unknown] = [answerOf(file, '--help'), answerOf(file, '--no-such-flag')];
    expect(help).toMatchObject({ code: 0, err: '' });
    expect(help?.out.startsWith(headOf(urlOf(file)))).toBe(true);
    const usage = [...headOf(urlOf(file)).matchAll(/\[[^\]]*/g)].join(' ');
    for (const [name] of usage.matchAll(/--\w[\w-]+/g))
      expect(help?.out).toMatch(new RegExp(`^ .*${name}`, 'm'));
    expect(unknown).toMatchObject({ code: 2, out: '' });
    expect(unknown?.err).toMatch(
      /^[\w:-]+: Unknown option '--no-such-flag'; --help says what there is\n$/,
    );
  });

  it('a number that is none is refused by every flag that takes one', () => {
    const numbers = FILES.flatMap((file) => numbersOf(file).map((name) => [file, name] as const));
    expect(numbers.length).toBeGreaterThan(30);
    for (const [file, name] of numbers) {
      const answer = answerOf(file, `--${name}`, 'x7');
      expect(answer, file).toMatchObject({ code: 2, out: '' });
      expect(answer?.err).toMatch(
        /^[\w:-]+: --[\w-]+ is a (whole )?number from .*, not 'x7'; --help says what there is\n$/,
      );
    }
  });

  it('the head of a command names a script that is there', () => {
    const names = SCRIPTS.map(([name]) => name);
    for (const file of FILES)
      for (const [, name] of headOf(urlOf(file)).matchAll(/npm run ([\w:]*\w)/g))
        expect(names, file).toContain(name);
  });
});

it('npm test --help says what it is, and begins nothing', () => {
  const url = urlOf('scripts/test.mjs');
  expect(helpOf(url, { quick: { type: 'boolean' } })).toMatch(/^npm test: check, then every test/);
});

it('values are what their flags say', () => {
  const options = {
    seed: { type: 'integer' },
    portion: { type: 'number', default: 0.5 },
    stages: { type: 'string', list: true, choices: ['one', 'two'], default: ['one'] },
    keep: { type: 'boolean', short: 'k' },
  } as const;
  const of = (...args: string[]): unknown => flagsOf(import.meta.url, { options, args }).values;
  expect(of()).toEqual({ seed: undefined, portion: 0.5, stages: ['one'], keep: false });
  expect(of('--seed', '7', '--portion=0.25', '--stages', 'two,one', '-k')).toEqual({
    seed: 7,
    portion: 0.25,
    stages: ['two', 'one'],
    keep: true,
  });
});

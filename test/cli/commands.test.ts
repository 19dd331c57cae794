/** What holds of every command, whichever it is, and what shells complete of them. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { COMMANDS, overview, type CommandModule } from '../../cli/commands.ts';
import { completion, offeredBy } from '../../cli/completion.ts';
import { inWords } from '../../shared/config/process.ts';
import { ROOT, temporaryFolder } from '../support/process.ts';
import { said } from '../support/said.ts';

const names = Object.keys(COMMANDS);
const load = (name: string): Promise<CommandModule> =>
  COMMANDS[name]?.load() ?? Promise.reject(new Error(name));

/** The words of the lines of a help that are examples. */
const examplesOf = (help: string): string[] => {
  const [, part = ''] = /\nExamples?:([^]*)$/.exec(help) ?? [];
  return part
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line.startsWith('headwater '));
};

describe.each(names)('headwater %s', (name) => {
  it('--help says how it is used, with an example whose flags exist', async () => {
    const { help, run } = await load(name);
    expect(await said(() => run(['--help']))).toEqual({ stdout: help, code: 0 });
    expect(help).toMatch(new RegExp(`^Usage: headwater ${name}\\b`));
    const examples = examplesOf(help);
    expect(examples.length, help).toBeGreaterThan(0);
    const { flags } = offeredBy(name, '', help);
    for (const example of examples) {
      expect(example.split(' ')[1], example).toBe(name);
      for (const [, flag] of example.matchAll(/ --([\w-]+)/g))
        expect(
          flags.map((each) => each.name),
          example,
        ).toContain(flag);
    }
  });

  it('a flag that it does not know, and a word too many, are its user’s mistake', async () => {
    const { run } = await load(name);
    const wrong = async (args: string[]): Promise<unknown> => {
      try {
        await run(args);
      } catch (error) {
        return error;
      }
      return undefined;
    };
    expect(await wrong(['--nosuchflag'])).toMatchObject({
      code: 'USAGE',
      message: expect.stringMatching(new RegExp(`see headwater ${name} --help$`)) as string,
    });
    if (name !== 'enroll')
      // Takes any number of names.
      expect(await wrong(['a', 'b', 'c', 'd', 'e'])).toMatchObject({ code: 'USAGE' });
  });
});

it('exit codes: what the overview says of them', () => {
  const exits = (...args: string[]): number | null =>
    spawnSync(process.execPath, ['cli/bin.mjs', ...args], { cwd: ROOT }).status;
  expect(overview()).toMatch(
    /Exit codes: 0 done, 1 failed or refused, 2 the command line is wrong/,
  );
  expect(exits('token', 'x')).toBe(0);
  expect(exits('try', 'a', '{')).toBe(1);
  expect(exits('tail', '--nosuch')).toBe(2);
  expect(exits('up', '--mqtt', '127.0.0.1:99999')).toBe(2);
});

it('what other tools call a command leads to it', () => {
  const args = ['cli/bin.mjs', 'start'];
  const { stderr, status } = spawnSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8' });
  expect([status, stderr]).toEqual([
    2,
    "headwater: 'start' is no command (did you mean 'up'?): headwater --help lists them\n",
  ]);
});

it.each([
  'cli/bin.mjs',
  'gateway/bin.mjs',
  'scripts/build.mjs',
])('%s: a Node that is too old is one sentence', (file) => {
  const text = readFileSync(join(ROOT, file), 'utf8');
  // What an older one cannot read: it would end with its own words.
  if (file !== 'scripts/build.mjs') expect(text).not.toMatch(/^(?!\/\/).*(\bawait\b|'node:|\?\?)/m);
  for (const version of ['12.22.0', '18.20.8', '20.10.0']) {
    const older = text.replace('process.versions.node', `'${version}'`);
    const args = ['--input-type=module', '-e', older];
    const { stderr, status } = spawnSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8' });
    expect(stderr).toMatch(
      new RegExp(`^(headwater|build): this is Node ${version}, and 20.11 or later is needed\n$`),
    );
    expect(status).toBe(1);
  }
});

it('the red of an error is for terminals, and not where NO_COLOR is set', () => {
  const file = join(temporaryFolder(), 'out');
  const command = `${process.execPath} cli/bin.mjs nosuch`;
  const onTerminal = (environment: Record<string, string>): string => {
    spawnSync('script', ['-qec', command, file], {
      cwd: ROOT,
      env: { ...process.env, TERM: 'xterm', ...environment },
      stdio: 'ignore',
    });
    return readFileSync(file, 'utf8');
  };
  expect(onTerminal({ NO_COLOR: '' })).toContain('\u001b[31mheadwater:\u001b[0m');
  expect(onTerminal({ NO_COLOR: '1' })).not.toContain('\u001b[31m');
  const piped = spawnSync(process.execPath, ['cli/bin.mjs', 'nosuch'], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  expect(piped.stderr).toMatch(/^headwater: 'nosuch' is no command/);
});

describe('completion', () => {
  const scripts = async (shell: string): Promise<string> => {
    const file = join(temporaryFolder(), 'completion');
    writeFileSync(file, (await said(() => completion([shell], COMMANDS))).stdout);
    return file;
  };
  const has = (shell: string): boolean => spawnSync(shell, ['--version']).error === undefined;

  it('bash: commands, the words and flags of one, files for a value', async () => {
    const file = await scripts('bash');
    const offered = (...words: string[]): string[] =>
      execFileSync(
        'bash',
        [
          '-c',
          `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _headwater; printf '%s\\n' "\${COMPREPLY[@]}"`,
          ...['-', file, ...words],
        ],
        { encoding: 'utf8' },
      )
        .trim()
        .split('\n');
    expect(offered('headwater', '')).toEqual([...names, 'help', '--help', '--version']);
    expect(offered('headwater', 'qu')).toEqual(['query', 'quarantine']);
    expect(offered('headwater', 'help', 'le')).toEqual(['ledger']);
    expect(offered('headwater', 'quarantine', 're')).toEqual(['replay']);
    expect(offered('headwater', 'completion', '')).toContain('fish');
    expect(offered('headwater', 'publish', '--m')).toEqual(['--mqtt']);
    expect(offered('headwater', 'publish', '--ca', '')).toEqual(['']);
    expect(offered('headwater', 'nosuch', '')).toEqual(['']);
  });

  it.skipIf(!has('fish'))('fish, where it is installed: the same', async () => {
    const file = await scripts('fish');
    const offered = (line: string): string[] =>
      execFileSync('fish', ['--no-config', '-c', `source ${file}; complete -C '${line}'`], {
        encoding: 'utf8',
      })
        .trim()
        .split('\n')
        .map((each) => each.split('\t')[0] ?? '');
    expect(offered('headwater qu').sort()).toEqual(['quarantine', 'query']);
    expect(offered('headwater publish --mq')).toEqual(['--mqtt']);
    expect(offered('headwater quarantine re')).toContain('replay');
  });

  it.skipIf(!has('zsh'))('zsh, where it is installed: takes the script', async () => {
    const file = await scripts('zsh');
    const code = `autoload -Uz compinit; compinit -u -D; source ${file}; print $_comps[headwater]`;
    expect(execFileSync('zsh', ['-f', '-c', code], { encoding: 'utf8' }).trim()).toBe('_headwater');
  });

  it('no shell, or one that is not known, is refused', async () => {
    await expect(completion([], COMMANDS)).rejects.toMatchObject({ code: 'USAGE' });
    await expect(completion(['tcsh'], COMMANDS)).rejects.toMatchObject({ code: 'USAGE' });
  });
});

it('what the system says of a file is said in words, with its path once', () => {
  const words: [said: string, told: string][] = [
    [
      "/a b.csv: ENOENT: no such file or directory, open '/a b.csv'",
      '/a b.csv: there is no such file or folder (ENOENT)',
    ],
    [
      "ENOENT: no such file or directory, mkdir '/proc/x'",
      '/proc/x: there is no such file or folder (ENOENT)',
    ],
    [
      '/tmp: EISDIR: illegal operation on a directory, read',
      '/tmp: it is a folder, not a file (EISDIR)',
    ],
    [
      "EACCES: permission denied, rename '/a' -> '/b'",
      '/a: this user may not read or write there (EACCES)',
    ],
    ['/tmp: /tmp is a folder, not a file', '/tmp is a folder, not a file'],
    ['EWHAT: something, open', 'EWHAT: something, open'],
    ['no gateway answers', 'no gateway answers'],
  ];
  for (const [said, told] of words) expect(inWords(said)).toBe(told);
});

it('an address that is none is a mistake of the command line, before anything is asked', async () => {
  const { run } = await load('query');
  for (const address of [
    '',
    'not an address',
    '127.0.0.1',
    '127.0.0.1:99999',
    'mqtt://127.0.0.1:1',
  ])
    await expect(run(['--http', address]), address).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining(`--http '${address}' is no address: HOST:PORT`) as string,
    });
  await expect(run(['--http', '127.0.0.1:1'])).rejects.toMatchObject({ code: 'UNREACHABLE' });
});

it('enroll writes no file that it was not asked for, whoever answers', async () => {
  const folder = temporaryFolder();
  const server = createServer((_request, response) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ tokens: [{ gateway: '../evil', token: 'x' }] }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const { run } = await load('enroll');
  const asked = ['roof-1', '--out', join(folder, 'out'), '--http', `127.0.0.1:${port}`];
  await expect(run(asked)).rejects.toThrow(/a token for '\.\.\/evil', which was not asked for/);
  expect(readdirSync(folder)).toEqual([]);
  server.close();
});

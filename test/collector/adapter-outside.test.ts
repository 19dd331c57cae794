/**
 * An adapter of somebody else: compiled and run outside the workspace, with nothing of ours but the contracts, as
 * docs/adapters.md shows it.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { ROOT, start, temporaryFolder, until } from '../support/process.ts';

const folder = temporaryFolder();
const adapter = join(folder, 'node_modules', 'headwater-lines');

beforeAll(() => {
  const modules = join(folder, 'node_modules');
  mkdirSync(join(modules, '@headwater', 'contracts'), { recursive: true });
  mkdirSync(join(modules, '@types'));
  // As `npm install` of the packed package leaves it.
  for (const part of ['package.json', 'dist'])
    cpSync(join(ROOT, 'contracts', part), join(modules, '@headwater', 'contracts', part), {
      recursive: true,
    });
  for (const types of ['@types/node', 'undici-types'])
    symlinkSync(join(ROOT, 'node_modules', types), join(modules, types));
  cpSync(join(ROOT, 'docs', 'examples', 'adapter'), adapter, { recursive: true });
  execFileSync(join(ROOT, 'node_modules', '.bin', 'tsc'), ['-p', '.'], {
    cwd: adapter,
    stdio: 'pipe',
    encoding: 'utf8',
  });
});

const headwater = (...args: string[]): ReturnType<typeof start> =>
  start(process.execPath, [join(ROOT, 'cli', 'bin.mjs'), ...args], {}, folder);

describe('an adapter outside the workspace', () => {
  // The whole suite in a process of its own: half a minute on a machine that does other work.
  it(
    'passes the suite by its name, and the report has its figures',
    { timeout: 120_000 },
    async () => {
      const run = headwater('contract-test', 'lines', '--option', 'file=other.jsonl');
      const code = await run.exited;
      expect(run.output()).toMatch(/log lines: \d\d passed, 0 failed, \d+ skipped/);
      expect(run.output()).toMatch(/append, 50 at once: \d+ records\/s/);
      expect(code).toBe(0);
    },
  );

  it('fails the suite where it is broken, which names the law and ends with 1', async () => {
    writeFileSync(
      join(folder, 'broken.mjs'),
      `import lines from 'headwater-lines';
import { defineLog } from '@headwater/contracts';
export default defineLog({
  ...lines,
  name: 'broken',
  create(context) {
    const log = lines.create(context);
    log.watch = () => Promise.reject(new Error('no watch today'));
    return log;
  },
});
`,
    );
    const run = headwater('contract-test', './broken.mjs', '--only', 'watch of nothing');
    expect(await run.exited).toBe(1);
    expect(run.output()).toMatch(
      /FAILED {2}a watch of nothing resolves, and sees what comes .*\n.*no watch today/,
    );
  });

  it('a codec passes the suite, and where it is broken fails the law that says so', async () => {
    const codec = (refused: string): string => `
import { AdapterError, defineCodec } from '@headwater/contracts';
const payload = Buffer.from('21.5');
export default defineCodec({
  name: 'degrees',
  about: 'A bare number of degrees.',
  options: {},
  supports: { gives: 'points' },
  create: () => ({
    examples: [{ payload, gives: { points: [{ fields: { temperature: 21.5 } }] } }],
    parse(payload) {
      const value = Number(Buffer.from(payload).toString());
      if (payload.length === 0 || !Number.isFinite(value)) throw ${refused};
      return { points: [{ fields: { temperature: value } }] };
    },
  }),
});
`;
    const good = "new AdapterError('RECORD_REFUSED', 'no number')";
    writeFileSync(join(folder, 'codec.mjs'), codec(good));
    const run = headwater('contract-test', './codec.mjs');
    expect(await run.exited, run.output()).toBe(0);
    expect(run.output()).toMatch(/skipped a document holds values.*: it gives points/);
    expect(run.output()).toMatch(/codec degrees: 9 passed, 0 failed, 1 skipped/);
    writeFileSync(join(folder, 'wrong.mjs'), codec("new TypeError('no number')"));
    const wrong = headwater('contract-test', './wrong.mjs', '--only', 'noise');
    expect(await wrong.exited).toBe(1);
    expect(wrong.output()).toMatch(
      /FAILED {2}noise is decoded or refused.*\n.*TypeError: no number/,
    );
  });

  it('a codec and a batch engine are a collector’s by its settings; what the codec throws is that message’s affair', async () => {
    writeFileSync(
      join(folder, 'used.mjs'),
      `
import { AdapterError, defineBatchEngine, defineCodec } from '@headwater/contracts';
export const codec = defineCodec({
  name: 'halves',
  about: 'Half degrees, a byte.',
  options: { offset: { type: 'integer', default: 0, min: -100, max: 100, unit: 'K', about: 'Added.' } },
  supports: { gives: 'document' },
  create: ({ options }) => ({
    examples: [{ payload: Buffer.from([43]), gives: { document: { temperature: 21.5 } } }],
    parse(payload) {
      if (payload.length > 2) throw new AdapterError('RECORD_REFUSED', 'more than two bytes');
      if (payload.length === 2) throw new TypeError('a bug of the codec');
      return { document: { temperature: payload[0] / 2 + options.offset } };
    },
  }),
});
export const engine = defineBatchEngine({
  name: 'counter',
  about: 'Counts files.',
  options: {},
  supports: { sealed: false, timeout: false },
  create: () => ({
    run({ files }) {
      const rows = [['a', files.readings.length, new Date('2026-01-05T01:00:00Z')]];
      return Promise.resolve({ columns: ['site', 'files', 'time'], rows });
    },
    close: () => Promise.resolve(),
  }),
});
`,
    );
    const config = join(folder, 'used.yaml');
    writeFileSync(
      config,
      `decode: { codecs: ['./used.mjs'] }
used: { offset: 1 }
mappings: used-mappings.yaml
lake: { flushSeconds: 1 }
batch: { engine: './used.mjs' }
`,
    );
    writeFileSync(
      join(folder, 'used-mappings.yaml'),
      'mappings: [{ topic: "half/{room}", codec: halves, measurement: climate }]\n',
    );
    const collector = headwater(
      ...['collector', '--data', join(folder, 'used-data'), '--config', config],
      ...['--uplink', '127.0.0.1:0', '--http', '127.0.0.1:0'],
    );
    const http = await until('the collector', () => /http=(\S+)/.exec(collector.stdout())?.[1]);
    const post = async (bytes: number[]): Promise<void> => {
      const answer = await fetch(`http://${http}/api/v1/ingest?topic=half/kitchen`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/octet-stream' },
        body: Buffer.from(bytes),
      });
      expect(answer.ok, await answer.text()).toBe(true);
    };
    for (const bytes of [[41], [1, 2], [1, 2, 3]]) await post(bytes);
    const text = async (path: string): Promise<string> =>
      await (await fetch(`http://${http}${path}`)).text();
    await until('the reading', async () => /21\.5/.test(await text('/api/v1/latest')) || undefined);
    await until('both reasons', async () => {
      const reasons = await text('/api/v1/quarantine');
      return (
        (reasons.includes("codec 'halves' has failed: a bug of the codec") &&
          reasons.includes('halves: more than two bytes')) ||
        undefined
      );
    });
    const date = new Date().toISOString().slice(0, 10);
    await until('the lake', async () => /"rows":1\b/.test(await text('/api/v1/lake')) || undefined);
    const job = headwater('batch', 'run', 'daily_summary', '--from', date, '--http', http);
    expect(await job.exited, job.output()).toBe(0);
    await until(
      'the engine’s result',
      async () => /"files"/.test(await text('/api/v1/latest')) || undefined,
    );
    expect(await collector.kill()).toBe(0);
  });

  it('a batch engine is given files, and where it reads them wrongly fails the law that says so', async () => {
    writeFileSync(
      join(folder, 'engine.mjs'),
      `
import { existsSync } from 'node:fs';
import { defineBatchEngine } from '@headwater/contracts';
export default defineBatchEngine({
  name: 'nothing',
  about: 'Finds nothing in any file.',
  options: {},
  supports: { sealed: false, timeout: false },
  create: () => ({
    run({ sql, files }) {
      const isThere = [...files.readings, ...files.results].every((file) => existsSync(file));
      if (!isThere) throw new Error('it was given no files');
      return Promise.resolve({ columns: [], rows: [[0, 0]] });
    },
    close: () => Promise.resolve(),
  }),
});
`,
    );
    const empty = headwater('contract-test', './engine.mjs', '--only', 'a zone without files');
    expect(await empty.exited, empty.output()).toBe(0);
    const run = headwater('contract-test', './engine.mjs', '--only', 'a');
    expect(await run.exited).toBe(1);
    expect(run.output()).toMatch(/FAILED {2}a count and its like are of all that the files hold/);
    expect(run.output()).toMatch(/skipped a statement that does not end .*: it ends no statement/);
  });

  it('is a collector’s log by `--log NAME://`, with its options from file, environment and address', async () => {
    const config = join(folder, 'collector.yaml');
    writeFileSync(config, 'lines:\n  file: from-file.jsonl\n');
    const flags = ['--data', join(folder, 'data'), '--lake', 'none', '--uplink', '127.0.0.1:0'];
    const run = (...more: string[]): ReturnType<typeof start> =>
      headwater('collector', ...flags, '--http', '127.0.0.1:0', ...more);
    const collector = run('--log', 'lines://', '--config', config);
    const address = await until('the collector', () => /http=(\S+)/.exec(collector.stdout())?.[1]);
    const posted = await fetch(`http://${address}/api/v2/write?bucket=b`, {
      method: 'POST',
      body: 'climate,room=a temperature=21.5',
    });
    expect(posted.ok, collector.output()).toBe(true);
    await until('the reading', async () => {
      const answer = await fetch(`http://${address}/api/v1/latest`);
      return (await answer.text()).includes('21.5') || undefined;
    });
    expect(await collector.kill()).toBe(0);
    expect(execFileSync('ls', [join(folder, 'data', 'log-lines')], { encoding: 'utf8' })).toBe(
      'from-file.jsonl\n',
    );
    const wrong = run('--log', 'lines://?flie=x');
    expect(await wrong.exited).toBe(1);
    expect(wrong.output()).toContain("'flie' is no option of the adapter lines; it has file");
  });
});

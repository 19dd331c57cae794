/** README and docs are true: links lead somewhere, commands and flags exist, examples do what they say. */
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { COMMANDS } from '../../cli/commands.ts';
import { loadJobs, parseJob } from '../../collector/batch/job.ts';
import { parseMappings } from '../../collector/decode/mapping/mapping.ts';
import { COLLECTOR_SIDE } from '../../collector/api/http.ts';
import { COLLECTOR_PARTS } from '../../collector/collector.ts';
import { loadEngine } from '../../collector/sandbox/sandbox.ts';
import { parseDelivery } from '../../collector/stream/delivery/targets.ts';
import { parseRules } from '../../collector/stream/rules.ts';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { GATEWAY_CONFIG } from '../../gateway/config.ts';
import { AccessRules } from '../../gateway/ingress/access.ts';
import { loadConfig } from '../../shared/config/spec.ts';
import { descriptionOf } from '../../shared/parts/http.ts';
import { decodeReadings } from '../../shared/model/readings-record.ts';
import { ROOT } from '../support/process.ts';

const pages = [
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'data/README.md',
  ...readdirSync(join(ROOT, 'docs'), { recursive: true }).map((name) => join('docs', String(name))),
].filter((name) => name.endsWith('.md'));
const read = (page: string): string => readFileSync(join(ROOT, page), 'utf8');
const blocks = (text: string, language: string): string[] =>
  [...text.matchAll(new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``, 'g'))].map(
    ([, body]) => body as string,
  );

/** What these refuse with is what people meet on their first day. */
const MET_FIRST = [
  ...['cli/client.ts', 'cli/api.ts', 'cli/publish.ts', 'cli/main.ts', 'shared/net/listen.ts'],
  ...['exposure', 'spec', 'data-folder', 'secrets', 'folder-kinds', 'flags'].map(
    (name) => `shared/config/${name}.ts`,
  ),
  ...['tls', 'tokens', 'doors', 'join-token'].map((name) => `shared/access/${name}.ts`),
];
/** With … for what is put in; of four words of its own, and not about a flag that it names with its range. */
const sentencesOf = (source: string): string[] =>
  [
    ...source.matchAll(
      /(?:HeadwaterError\(\s*'(?!QUERY)[A-Z_]+',\s*|return )(?:`((?:[^`\\]|\\.)*)`|'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")/g,
    ),
  ]
    .map(([, template, one, two]) => (template ?? one ?? two ?? '').replaceAll(/\$\{[^}]*\}/g, '…'))
    .filter(
      (sentence) =>
        (sentence.match(/[a-z]{2,} /gi)?.length ?? 0) >= 4 && !sentence.startsWith('--'),
    );

describe('docs', () => {
  it.each(pages)('%s: every link leads to a file', (page) => {
    for (const [, target] of read(page).matchAll(/\]\(([^)#]+?)(?:#[^)]*)?\)/g)) {
      if (!/^https?:/.test(target as string))
        expect(existsSync(join(ROOT, dirname(page), target as string)), target).toBe(true);
    }
  });

  it.each(pages)('%s: every command and flag exists', async (page) => {
    const flags = new Map<string, Set<string>>();
    const help = readFileSync(join(ROOT, 'docs/commands.md'), 'utf8');
    for (const part of help.split('Usage: headwater ').slice(2)) {
      flags.set(
        part.split(/\s/)[0] ?? '',
        new Set([...part.matchAll(/^ {2}--([\w-]+)/gm)].map(([, name]) => name as string)),
      );
    }
    const scripts = (JSON.parse(read('package.json')) as { scripts: Record<string, string> })
      .scripts;
    for (const line of blocks(read(page), 'sh').flatMap((block) => block.split('\n'))) {
      for (const command of line.split(/&&|;/)) {
        const words = command
          .replace(/#.*/, '')
          .trim()
          .split(/\s+/)
          .filter((word) => !/^[A-Z_]+=/.test(word));
        if (words[0] === 'npm' && words[1] === 'run')
          expect(Object.keys(scripts), command).toContain(words[2]);
        const at = words.indexOf('headwater');
        if (at < 0 || !['headwater', 'npx'].includes(words[0] ?? '')) continue;
        const name = words[at + 1] ?? '';
        expect(Object.keys(COMMANDS), command).toContain(name);
        for (const word of words.slice(at + 2)) {
          const flag = /^--([\w-]+)/.exec(word)?.[1];
          if (flag !== undefined)
            expect([...(flags.get(name) ?? [])], `${name} ${word}`).toContain(flag);
        }
      }
    }
  });

  it('the README names the two commands', () => {
    expect(read('README.md')).toMatch(/npm ci && npm start/);
    expect(read('README.md')).toMatch(/npm test/);
  });

  it('the samples are accepted, with every line switched on', () => {
    for (const [name, spec] of [
      ['gateway', GATEWAY_CONFIG],
      ['collector', COLLECTOR_CONFIG],
    ] as const) {
      const file = join(ROOT, `docs/samples/${name}.yaml`);
      const on = readFileSync(file, 'utf8').replaceAll(/^# ([\w.]+: .*)$/gm, '$1');
      expect([...on.matchAll(/^[\w.]+: /gm)]).toHaveLength(Object.keys(spec).length);
      expect(loadConfig(spec, { file, environment: {} })).toEqual(
        loadConfig(spec, { environment: {} }),
      );
    }
  });

  it('the readings record, the mappings and the access rules in the docs are real ones', () => {
    const [record = ''] = blocks(read('docs/readings.md'), 'json');
    expect(decodeReadings(Buffer.from(record)).readings[0]).toMatchObject({
      measurement: 'climate',
      fields: { temperature: 21.5 },
      ns: 107,
    });
    const script = (): string => 'function decodeUplink() { return { data: {} }; }';
    const mappings = blocks(read('docs/mappings.md'), 'yaml');
    expect(mappings).toHaveLength(2);
    for (const yaml of mappings) expect(parseMappings(yaml, 'docs', script)).toHaveLength(1);
    const rules = blocks(read('docs/security.md'), 'yaml');
    expect(rules).toHaveLength(1);
    const folder = mkdtempSync(join(tmpdir(), 'headwater-docs-'));
    writeFileSync(join(folder, 'access.yaml'), rules[0] as string);
    const access = new AccessRules(join(folder, 'access.yaml'));
    rmSync(folder, { recursive: true });
    const who = { user: 'sensor-7', client: 'x' };
    expect(access.mayPublish(who, 'devices/sensor-7/climate')).toBe(true);
    expect(access.mayPublish(who, 'devices/sensor-8/climate')).toBe(false);
    expect(access.maySubscribe({ user: 'dashboard', client: 'y' }, 'devices/#')).toBe(true);
  });

  it('the stream rules, the batch job and the functions in the docs are real ones, and the shipped jobs load', async () => {
    await loadEngine();
    const [yaml = '', ...others] = blocks(read('docs/streams.md'), 'yaml');
    expect(others).toEqual([]);
    const example = (name: string): string => read(`docs/examples/${name}`);
    const rules = parseRules(yaml, 'docs/streams.md', example);
    expect(rules).toHaveLength(8);
    for (const rule of rules) if (rule.kind === 'function') rule.run.check();
    expect(parseDelivery(yaml, 'docs/streams.md').targets).toHaveLength(3);
    const [sql = ''] = blocks(read('docs/batch.md'), 'sql');
    expect(parseJob('stuffy.sql', sql)).toMatchObject({
      name: 'stuffy',
      measurement: 'stuffy_minutes',
      lookbackDays: 7,
      inputDays: 1,
    });
    expect(loadJobs('', true).map(({ name }) => name)).toEqual([
      'correlation',
      'daily_summary',
      'data_quality',
      'hour_of_week',
    ]);
    expect(parseMappings(blocks(read('docs/recipes.md'), 'yaml')[0] ?? '', 'docs')).toHaveLength(1);
  });

  it('each message that the FAQ explains is one that Headwater says', () => {
    const sources = ['cli', 'gateway', 'collector', 'shared'].flatMap((folder) =>
      readdirSync(join(ROOT, folder), { recursive: true })
        .map((name) => join(folder, String(name)))
        .filter((name) => /\.m?[tj]s$/.test(name) && !name.includes('node_modules')),
    );
    const said = sources.map(read).join('\n');
    const symptoms = [...read('docs/faq.md').matchAll(/^\| `([^`]+)` \|/gm)];
    expect(symptoms.length).toBeGreaterThan(8);
    for (const [, symptom = ''] of symptoms) {
      // What a message names is put in when it is said.
      const parts = symptom
        .split(/ 30 s|127\.0\.0\.1:1883| 'x'|…|: 3 \(/)
        .map((part) => part.trim());
      expect(
        parts.filter((part) => !said.includes(part)),
        symptom,
      ).toEqual([]);
    }
  });

  it('each sentence that a newcomer is refused with is found in the FAQ', () => {
    const symptoms = [...read('docs/faq.md').matchAll(/^\| `([^`]+)` \|/gm)].map(
      ([, symptom = '']) =>
        new RegExp(
          symptom
            .split(/…| 30 s| '…'/)
            .map((part) => part.trim().replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'))
            .join('.*'),
        ),
    );
    const lacking = MET_FIRST.flatMap((file) => sentencesOf(read(file))).filter(
      (sentence) => !symptoms.some((symptom) => symptom.test(sentence)),
    );
    expect(lacking).toEqual([]);
  });

  it('the API page and OpenAPI name the same paths', () => {
    const { paths } = descriptionOf(COLLECTOR_SIDE, COLLECTOR_PARTS);
    for (const [, path] of read('docs/api.md').matchAll(
      /http:\/\/127\.0\.0\.1:8080(\/api\/v1\/\w+)/g,
    ))
      expect(Object.keys(paths)).toContain(path);
  });
});

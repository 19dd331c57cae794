/**
 * Which test holds which statement of MQTT: the tests name them in their titles, `[MQTT-3.1.2-4]`, a range as
 * `[MQTT-4.7.1-2] to [MQTT-4.7.1-3]`. docs/conformance.md is made from it; a statement that has neither a test nor a
 * reason, both, or that does not exist, fails.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DIFFERENCES } from './differences.ts';
import { pitfalls } from './pitfalls.ts';
import { RESTARTS, SITUATIONS } from './situations.ts';
import { STATEMENTS_311 } from './statements311.ts';
import { STATEMENTS_5 } from './statements5.ts';

/** Where the tests are, which run a gateway and speak to it over a socket. */
export const FILES_5 = [
  'test/gateway/mqtt5.test.ts',
  'test/gateway/flow5.test.ts',
  'test/gateway/statements5.test.ts',
  'test/gateway/statements5-flow.test.ts',
];
export const FILES_311 = [
  'test/e2e/conformance.test.ts',
  'test/gateway/lasting.test.ts',
  'test/gateway/statements311.test.ts',
];

export interface Statement {
  id: string;
  says: string;
  /** Why no test holds it. */
  reason: string | undefined;
  tests: { file: string; title: string }[];
}

const ID = /\[MQTT-([\d.]+-\d+)\](?: to \[MQTT-([\d.]+)-(\d+)\])?/g;

/** Statements in the titles of a test file: text literals, not comments. */
function titled(source: string): [id: string, title: string][] {
  const found: [string, string][] = [];
  for (const [, , literal] of source
    .replaceAll(/^\s*(?:\/\/|\/?\*).*$/gm, '')
    .matchAll(/(['"`])((?:(?!\1)[^\\\n]|\\.)*\[MQTT-(?:(?!\1)[^\\\n]|\\.)*)\1/g)) {
    const title = (literal as string)
      .replaceAll(ID, '')
      .replaceAll(/(\s*,)?\s+/g, (_all, comma: string | undefined) =>
        comma === undefined ? ' ' : ', ',
      )
      .replaceAll('\\', '')
      .replace(/^[\s,]+/, '')
      .trim();
    for (const [, first, section, last] of (literal as string).matchAll(ID)) {
      if (first === undefined) continue;
      const [place, number] = first.split('-') as [string, string]; // As the expression has it.
      const end = section === place ? Number(last) : Number(number);
      for (let each = Number(number); each <= end; each++) found.push([`${place}-${each}`, title]);
    }
  }
  return found;
}

function statements(table: string, files: string[], root: string): Statement[] {
  const byId = new Map<string, Statement>();
  for (const line of table.trim().split('\n')) {
    const [, id = '', says = '', reason] = /^(\S+) (.*?)(?: \| (.*))?$/.exec(line) ?? [];
    byId.set(id, { id, says, reason, tests: [] });
  }
  for (const file of files)
    for (const [id, title] of titled(readFileSync(join(root, file), 'utf8'))) {
      const statement = byId.get(id);
      if (statement === undefined) throw new Error(`${file}: there is no statement [MQTT-${id}]`);
      statement.tests.push({ file, title });
    }
  return [...byId.values()];
}

export const statements5 = (root: string): Statement[] => statements(STATEMENTS_5, FILES_5, root);
export const statements311 = (root: string): Statement[] =>
  statements(STATEMENTS_311, FILES_311, root);

/** What is neither held by a test nor has its reason. */
export const unheld = (all: Statement[]): string[] =>
  all.filter(({ reason, tests }) => tests.length === 0 && reason === undefined).map(({ id }) => id);

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('<', '&lt;');

function page(all: Statement[]): string {
  const held = all.filter(({ tests }) => tests.length > 0);
  const rows = held.map(({ id, says, tests }) => {
    const [first] = tests as [Statement['tests'][number]]; // `held` has those with one.
    const more = tests.length === 1 ? '' : ` (and ${tests.length - 1} more)`;
    const file = first.file.slice('test/'.length, -'.test.ts'.length);
    return `| ${id} | ${cell(says)} | ${file}: ${cell(first.title)}${more} |`;
  });
  const others = all.filter(({ tests }) => tests.length === 0);
  const clients = others.filter(({ reason }) => reason === 'client').map(({ id }) => id);
  const reasons = others
    .filter(({ reason }) => reason !== 'client')
    .map(({ id, says, reason }) => `| ${id} | ${cell(says)} | ${cell(reason ?? '')} |`);
  return `${held.length} of ${all.length} are held by tests.\n\n| [MQTT-…] | says | held by |\n|---|---|---|\n${rows.join('\n')}\n\nNot tried, and why:\n\n| [MQTT-…] | says | why |\n|---|---|---|\n${reasons.join('\n')}\n\nBind clients alone: ${clients.join(', ')}.\n`;
}

/** What broke elsewhere, and how it is held here. */
function inPractice(root: string): string {
  const all = pitfalls(root);
  const rows = all.map(({ about, what, test, why }) => {
    const held = test === undefined ? `no test: ${why}` : `${test.file}: ${test.title}`;
    return `| ${about} | ${cell(what)} | ${cell(held)} |`;
  });
  const held = all.filter(({ test }) => test !== undefined).length;
  return `What broke brokers of MQTT 5 and their clients, as their users report it, and the test that holds it here: ${held} of ${all.length}.\n\n| about | what broke | held by |\n|---|---|---|\n${rows.join('\n')}\n`;
}

/** Where Mosquitto does otherwise. */
function besideMosquitto(): string {
  const rows = Object.entries(DIFFERENCES).map(([name, why]) => `| ${cell(name)} | ${cell(why)} |`);
  return `\`npm run mqtt:beside\` holds ${Object.keys(SITUATIONS).length + Object.keys(RESTARTS).length} situations that strangers try (test/conformance/situations.ts) against Mosquitto 2.1.2 and this gateway, and fails where they differ without a reason, or have one and do not differ. These differ:\n\n| situation | why |\n|---|---|\n${rows.join('\n')}\n`;
}

/** docs/conformance.md. */
export function conformancePage(root: string, note: string): string {
  const [five, three] = [statements5(root), statements311(root)];
  const missing = [
    ...unheld(five).map((id) => `5: ${id}`),
    ...unheld(three).map((id) => `3.1.1: ${id}`),
  ];
  if (missing.length > 0)
    throw new Error(`no test and no reason for ${missing.join(', ')} (test/conformance/)`);
  return `# Conformance to MQTT\n${note}\nEvery numbered statement of OASIS MQTT 5.0 and 3.1.1 in a few words of ours (the specification's own words count), and the test that holds it: packets over a socket to a running gateway. The tests name their statements; \`npm run check\` refuses a statement that has neither a test nor a reason, and \`npm test\` runs them all.\n\n## MQTT 5.0\n\n${page(five)}\n## MQTT 3.1.1\n\n${page(three)}\n## MQTT 5 in practice\n\n${inPractice(root)}\n## Beside Mosquitto\n\n${besideMosquitto()}`;
}

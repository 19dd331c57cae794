// The house, measured: no import runs in a circle, none runs up (docs/architecture.md has the order of the rooms); the median
// file has at most 120 lines, none over 400 but with a reason in its header ("Long because …"), no function over 70 but a table
// (the line before it says "a table").
//
// `scripts/house.json` lists those that do not hold yet: it may only get shorter. `node scripts/house.mjs --shrink` takes out
// what holds by now.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { flagsOf } from './flags.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const LIST = 'scripts/house.json';
const PARTS = ['contracts', 'shared', 'gateway', 'collector', 'dashboards', 'cli'];
const MEDIAN_LINES_MAX = 120;
const FILE_LINES_MAX = 400;

const read = (file) => readFileSync(join(root, file), 'utf8');
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts'))
  .filter((file) => PARTS.includes(file.split('/')[0]) && existsSync(join(root, file)));

/** File → files of ours that it imports, types as well. */
const imports = new Map(
  files.map((file) => {
    const names = [...read(file).matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)];
    return [file, names.map(([, name]) => normalize(join(dirname(file), name)))];
  }),
);

/** Tarjan's strongly connected components of more than one file. */
function circles() {
  const index = new Map();
  const low = new Map();
  const stack = [];
  const found = [];
  const visit = (file) => {
    index.set(file, index.size);
    low.set(file, index.get(file));
    stack.push(file);
    for (const next of imports.get(file) ?? []) {
      if (!index.has(next)) visit(next);
      if (stack.includes(next)) low.set(file, Math.min(low.get(file), low.get(next)));
    }
    if (low.get(file) !== index.get(file)) return;
    const circle = stack.splice(stack.indexOf(file));
    if (circle.length > 1) found.push(circle.sort().join(' ↔ '));
  };
  for (const file of files) if (!index.has(file)) visit(file);
  return found;
}

/** Rooms from the ground up: folders, files of a part's root, and a part's root itself. */
const order = (/```rooms\n([^`]*)```/.exec(read('docs/architecture.md'))?.[1] ?? '')
  .split(/\s+/)
  .filter((room) => room !== '');

function roomOf(file) {
  const [part, folder] = file.split('/');
  for (const room of [file, `${part}/${folder}`, part]) if (order.includes(room)) return room;
  return undefined;
}

function arrowsUp() {
  const found = [];
  for (const [file, targets] of imports) {
    const from = roomOf(file);
    if (from === undefined) {
      found.push(`${file} is in no room: docs/architecture.md has their order`);
      continue;
    }
    for (const target of targets) {
      const to = roomOf(target);
      if (to !== undefined && order.indexOf(to) > order.indexOf(from))
        found.push(`${file} → ${target}`);
    }
  }
  return found;
}

const linesOf = (file) => read(file).split('\n').length - 1;
const headerOf = (file) => /^\/\*\*[\s\S]*?\*\//.exec(read(file))?.[0] ?? '';

const longFiles = () =>
  files.filter((file) => linesOf(file) > FILE_LINES_MAX && !/Long because/.test(headerOf(file)));

function longFunctions() {
  const { stdout } = spawnSync(
    'node_modules/.bin/oxlint',
    ['-c', 'scripts/house.oxlintrc.json', '--format', 'json', ...PARTS],
    { cwd: root, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 },
  );
  return JSON.parse(stdout).diagnostics.flatMap(({ filename, message, labels }) => {
    const { line } = labels[0].span;
    const before = read(filename).split('\n')[line - 2] ?? '';
    const name = /`(.+?)`/.exec(message)?.[1] ?? `line ${line}`;
    return /\ba table\b/i.test(before) ? [] : [`${filename}: ${name}`];
  });
}

function median() {
  const lines = files.map(linesOf).sort((a, b) => a - b);
  return lines[lines.length >> 1];
}

const { values } = flagsOf(import.meta.url, { options: { shrink: { type: 'boolean' } } });
const listed = JSON.parse(read(LIST));
const measured = {
  circles: circles(),
  arrows: arrowsUp(),
  files: longFiles(),
  functions: longFunctions(),
};
if (values.shrink) {
  for (const [rule, found] of Object.entries(measured))
    listed[rule] = listed[rule].filter((each) => found.includes(each));
  writeFileSync(join(root, LIST), `${JSON.stringify(listed, null, 2)}\n`);
}
const wrong = Object.entries(measured).flatMap(([rule, found]) =>
  found.filter((each) => !listed[rule].includes(each)).map((each) => `${rule}: ${each}`),
);
if (median() > MEDIAN_LINES_MAX)
  wrong.push(`files: the median has ${median()} lines, more than ${MEDIAN_LINES_MAX}`);
if (wrong.length > 0) {
  process.stderr.write(`${wrong.join('\n')}\n`);
  process.exit(1);
}
const left = Object.values(measured).reduce((sum, { length }) => sum + length, 0);
process.stdout.write(`${files.length} files, median ${median()} lines, ${left} exceptions\n`);

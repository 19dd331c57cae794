/**
 * `npm run picture:flash`: the pictures of docs/flash.md: cards that are made by a table, the sheet of their labels, the gateways that
 * have come, and the chart. All of it is run: collector, tokens, `headwater flash` on a made-up image into files, gateways that
 * enrol with the same tokens, readings by `headwater publish`.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Page } from 'playwright-core';
import { openBrowser, openTab } from '../support/browser.ts';
import { ROOT, ready, start, temporaryFolder, until, type Headwater } from '../support/process.ts';
import { stockImage } from '../support/stock-image.ts';
import { packed } from './webp.ts';
import { flagsOf } from '../../scripts/flags.mjs';

flagsOf(import.meta.url);
const FOLDER = join(ROOT, 'docs/flash');
const WIDTH = 936;
const BYTES_MAX = 40_000;
const NAMES = ['roof-1', 'roof-2', 'quay-1'];
const HARBOUR = 'harbour/quay/climate';

const work = temporaryFolder();
const at = (name: string): string => join(work, name);
const running: Headwater[] = [];

/** What is typed and what it prints, as a terminal has them. */
const lines: string[] = [];
function run(line: string, ...args: string[]): void {
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    [join(ROOT, 'cli/bin.mjs'), ...args],
    { cwd: work, encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`${line}: ${stderr}`);
  lines.push(`$ headwater ${line}`, ...stdout.trim().split('\n'), '');
}

const headwater = async (name: string, ...args: string[]): Promise<Headwater> => {
  const server = await ready(start(process.execPath, ['cli/bin.mjs', name, ...args]), name);
  running.push(server);
  return server;
};

async function begin(): Promise<Headwater> {
  const zero = '127.0.0.1:0';
  const ports = ['uplink', 'http', 'uplinks', 'enroll'].flatMap((name) => [`--${name}`, zero]);
  return await headwater('collector', '--data', at('collector'), '--lake', 'none', ...ports);
}

/** Cards as files, by a table; the terminal's lines are their picture. */
function flash(http: string): void {
  run(
    'enroll roof-1 roof-2 quay-1 --site harbour --out tokens',
    'enroll',
    ...NAMES,
    ...['--site', 'harbour', '--out', 'tokens', '--http', http],
  );
  stockImage(work, 183, { 'etc/cloud/cloud.cfg': 'users: []\n' });
  writeFileSync(at('headwater-gateway_0.1.0_arm64.deb'), Buffer.alloc(300_000, 'deb'));
  const wifi = (name: string): string => `${name},Barn,correct horse,DE\n`;
  writeFileSync(
    at('cards.csv'),
    `name,wifi_ssid,wifi_password,wifi_country\n${NAMES.map(wifi).join('')}`,
  );
  lines.push('$ cat cards.csv', ...readFileSync(at('cards.csv'), 'utf8').trim().split('\n'), '');
  const args = [
    'stock.img',
    '--package',
    'headwater-gateway_0.1.0_arm64.deb',
    '--table',
    'cards.csv',
    '--tokens',
    'tokens',
    '--to',
    'cards',
    '--labels',
    'labels.html',
  ];
  mkdirSync(at('cards'));
  run(args.join(' ').replace(/^/, 'flash '), 'flash', ...args);
}

/** A gateway as a card makes it, here: by its token alone. */
async function gateway(name: string): Promise<Headwater> {
  const file = at(`${name}.yaml`);
  writeFileSync(file, `data: ${at(name)}\nenroll.tokenFile: ${at(`tokens/${name}.token`)}\n`);
  return await headwater(
    'gateway',
    '--config',
    file,
    '--mqtt',
    '127.0.0.1:0',
    '--http',
    '127.0.0.1:0',
  );
}

const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
const TERMINAL = (): string =>
  `<!doctype html><meta charset="utf-8"><body style="margin:0;background:#10161c"><pre style="margin:18px;font:15px/1.5 monospace;color:#cdd6df;white-space:pre-wrap">${lines
    .map((line) =>
      line.startsWith('$') ? `<span style="color:#8fd0ee">${escaped(line)}</span>` : escaped(line),
    )
    .join('\n')
    .trimEnd()}</pre>`;

async function picture(composer: Page, page: Page, name: string, isWhole = false): Promise<void> {
  const png = await page.screenshot({ type: 'png', fullPage: isWhole });
  const bytes = await packed(composer, png, WIDTH, BYTES_MAX);
  writeFileSync(join(FOLDER, `${name}.webp`), bytes);
  process.stdout.write(`${name}: ${bytes.length} bytes\n`);
  if (bytes.length > BYTES_MAX) throw new Error(`${name}: at most ${BYTES_MAX} bytes`);
}

const collector = await begin();
const http = collector.address['http'] ?? '';
const browser = await openBrowser();
try {
  mkdirSync(FOLDER, { recursive: true });
  const { page: composer } = await openTab(browser, `http://${http}/healthz`);
  const open = async (url: string, height: number): Promise<Page> =>
    (await openTab(browser, url, { viewport: { width: 1100, height }, colorScheme: 'light' })).page;
  flash(http);
  writeFileSync(at('terminal.html'), TERMINAL());
  await picture(composer, await open(pathToFileURL(at('terminal.html')).href, 100), 'cards', true);
  await picture(composer, await open(pathToFileURL(at('labels.html')).href, 180), 'labels');
  const gateways = [await gateway('roof-1'), await gateway('quay-1')];
  const mqtt = gateways[1]?.address['mqtt'] ?? '';
  for (let n = 0; n < 24; n++) {
    const payload = JSON.stringify({ temperature: Number((21 + Math.sin(n / 3)).toFixed(2)) });
    run(`publish ${HARBOUR}`, 'publish', HARBOUR, payload, '--mqtt', mqtt);
  }
  const page = await open(`http://${http}/#gateways`, 420);
  await page.getByText('quay-1').first().waitFor();
  await until('both to be there', async () => {
    const text = await page.textContent('body');
    return (text?.includes('roof-1') && text.includes('quay-1')) || undefined;
  });
  await picture(composer, page, 'gateways');
  const chart = await open(`http://${http}/`, 640);
  await chart.waitForSelector('#chart canvas');
  await picture(composer, chart, 'chart');
} finally {
  await browser.close();
  for (const each of running.toReversed()) await each.kill('SIGINT');
}
process.exit(0);

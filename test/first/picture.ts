/**
 * `npm run picture`: the first minute as a moving picture, docs/first-minute.webp: `headwater up` on an empty folder, its page
 * in Chromium, and the lines that are typed beside it. Every frame is a screenshot of what really was there, for as long as
 * it was there (still moments are cut to a second and a half).
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Page } from 'playwright-core';
import { openBrowser, openTab } from '../support/browser.ts';
import { freePort } from '../support/free-port.ts';
import { ROOT, ready, start, temporaryFolder, until, type Headwater } from '../support/process.ts';
import { animated, type Frame } from './webp.ts';
import { flagsOf } from '../../scripts/flags.mjs';

flagsOf(import.meta.url);
const FILE = join(ROOT, 'docs/first-minute.webp');
const BYTES_MAX = 1_500_000;
/** The page is wider than its picture. */
const VIEW = { width: 1280, height: 770 };
const [WIDTH, HEIGHT, STRIP] = [960, 578, 76];
const EVERY_MS = 200;
const STILL_MS_MAX = 1500;
const LAST_MS = 3000;
const QUALITY = 0.72;

/** In the page that composes: the part of a screenshot, with the terminal's lines below it, that differs from the one before. */
const COMPOSE = `
const canvas = new OffscreenCanvas(${WIDTH}, ${HEIGHT + STRIP});
const context = canvas.getContext('2d', { willReadFrequently: true });
let before;
async function base64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = '';
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}
globalThis.compose = async (png, lines) => {
  const bytes = Uint8Array.from(atob(png), (each) => each.charCodeAt(0));
  context.imageSmoothingQuality = 'high';
  context.drawImage(await createImageBitmap(new Blob([bytes], { type: 'image/png' })), 0, 0, ${WIDTH}, ${HEIGHT});
  context.fillStyle = '#10161c';
  context.fillRect(0, ${HEIGHT}, ${WIDTH}, ${STRIP});
  context.font = '15px monospace';
  lines.forEach((line, at) => {
    context.fillStyle = line.startsWith('$') ? '#8fd0ee' : '#cdd6df';
    context.fillText(line, 14, ${HEIGHT} + 22 + at * 21);
  });
  const now = new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  let [left, top, right, bottom] = [canvas.width, canvas.height, -1, -1];
  for (let at = 0; at < now.length; at++) {
    if (before !== undefined && now[at] === before[at]) continue;
    const [x, y] = [at % canvas.width, Math.floor(at / canvas.width)];
    left = Math.min(left, x); right = Math.max(right, x);
    top = Math.min(top, y); bottom = Math.max(bottom, y);
  }
  before = now;
  if (right < 0) return null;
  left -= left % 2; top -= top % 2;
  const [width, height] = [right - left + 1, bottom - top + 1];
  const patch = new OffscreenCanvas(width, height);
  patch.getContext('2d').drawImage(canvas, left, top, width, height, 0, 0, width, height);
  const still = await base64(await patch.convertToBlob({ type: 'image/webp', quality: ${QUALITY} }));
  return { still, x: left, y: top, width, height };
};`;

type Patch = Omit<Frame, 'still' | 'ms'> & { still: string };

class Film {
  lines: string[] = [];
  readonly frames: Frame[] = [];
  private readonly shown: Page;
  private readonly composer: Page;
  private since = performance.now();

  constructor(shown: Page, composer: Page) {
    this.shown = shown;
    this.composer = composer;
  }

  private hold(): void {
    const last = this.frames.at(-1);
    const now = performance.now();
    if (last !== undefined) last.ms = Math.min(STILL_MS_MAX, last.ms + now - this.since);
    this.since = now;
  }

  async take(): Promise<void> {
    const png = (await this.shown.screenshot({ type: 'png' })).toString('base64');
    const patch = (await this.composer.evaluate(
      `compose(${JSON.stringify(png)}, ${JSON.stringify(this.lines.slice(-3))})`,
    )) as Patch | null;
    this.hold();
    if (patch !== null)
      this.frames.push({ ...patch, still: Buffer.from(patch.still, 'base64'), ms: 0 });
  }

  async roll(ms: number): Promise<void> {
    const end = performance.now() + ms;
    while (performance.now() < end) {
      const next = performance.now() + EVERY_MS;
      await this.take();
      await delay(Math.max(0, next - performance.now()));
    }
  }

  /** A line is typed, run as it stands, and what it prints stands below it. */
  async run(line: string, headwater: string[]): Promise<void> {
    this.lines.push(`$ ${line}`);
    await this.roll(700);
    const { stdout, stderr, status } = spawnSync(process.execPath, ['cli/bin.mjs', ...headwater], {
      cwd: ROOT,
      encoding: 'utf8',
    });
    if (status !== 0) throw new Error(`${line}: ${stderr}`);
    this.lines.push(...stdout.trim().split('\n'));
  }
}

async function isFree(port: number): Promise<boolean> {
  try {
    await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(500) });
    return false;
  } catch (error) {
    return (error as { cause?: { code?: string } }).cause?.code === 'ECONNREFUSED';
  }
}

async function begin(): Promise<Headwater> {
  const usual = (await isFree(8080)) && (await isFree(1883));
  const mqtt = usual ? 1883 : await freePort();
  const http = usual ? 8080 : await freePort();
  return await ready(
    start(process.execPath, [
      ...['cli/bin.mjs', 'up', '--data', temporaryFolder(), '--mqtt', `127.0.0.1:${mqtt}`],
      ...[
        '--http',
        `127.0.0.1:${http}`,
        '--gateway-http',
        '127.0.0.1:0',
        '--uplink',
        '127.0.0.1:0',
      ],
    ]),
    'up',
  );
}

const server = await begin();
const browser = await openBrowser();
try {
  const { page } = await openTab(browser, 'about:blank', { viewport: VIEW, colorScheme: 'light' });
  // A page of this machine: browsers read pictures frame by frame in secure places alone.
  const { page: composer } = await openTab(browser, `http://${server.address['http']}/healthz`);
  await composer.evaluate(COMPOSE);
  const film = new Film(page, composer);
  const said = await until('the page', () => /Page {3}\S+/.exec(server.output())?.[0]);
  film.lines.push('$ npm ci && npm start', said);
  await page.goto(`http://${server.address['http']}/`);
  await page.waitForSelector('#chart canvas');
  await film.roll(7000);
  const port = server.port('mqtt');
  const flags = port === 1883 ? [] : ['--mqtt', `127.0.0.1:${port}`];
  const publish = async (topic: string, payload: string): Promise<void> =>
    film.run(['npx --no-install headwater publish', topic, `'${payload}'`, ...flags].join(' '), [
      'publish',
      topic,
      payload,
      ...flags,
    ]);
  for (const value of [21.5, 21.7, 22.4]) {
    await publish('home/kitchen/climate', `{"temperature":${value}}`);
    await film.roll(1400);
  }
  await publish('home/hall/lamp', '{"state":');
  await page.locator('#quarantine', { hasText: '1' }).waitFor();
  await film.roll(1500);
  await page.click('#quarantine');
  await page.locator('#reasons li').first().waitFor();
  await film.roll(1500);
  const { frames } = film;
  const last = frames.at(-1);
  if (last !== undefined) last.ms = LAST_MS;
  const bytes = animated(WIDTH, HEIGHT + STRIP, frames);
  // A browser's own reader counts them.
  const read = await composer.evaluate(
    `(async () => {
      const data = Uint8Array.from(atob(${JSON.stringify(bytes.toString('base64'))}), (each) => each.charCodeAt(0));
      const decoder = new ImageDecoder({ data, type: 'image/webp' });
      await decoder.tracks.ready;
      const { frameCount } = decoder.tracks.selectedTrack;
      for (let at = 0; at < frameCount; at++) (await decoder.decode({ frameIndex: at })).image.close();
      return frameCount;
    })()`,
  );
  const seconds = frames.reduce((sum, { ms }) => sum + ms, 0) / 1000;
  process.stdout.write(
    `${frames.length} frames (read back: ${String(read)}), ${seconds.toFixed(1)} s, ${bytes.length} bytes\n`,
  );
  if (read !== frames.length || bytes.length > BYTES_MAX)
    throw new Error(`not as it has to be: at most ${BYTES_MAX} bytes, every frame readable`);
  writeFileSync(FILE, bytes);
} finally {
  await browser.close();
  await server.kill('SIGINT');
}
process.exit(0);

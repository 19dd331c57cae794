/** The collector's page in a real browser: what arrives is seen, what is gone is said, and it comes back by itself. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectAsync, type MqttClient } from 'mqtt';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hashOf } from '../../shared/access/tokens.ts';
import { openBrowser, openTab, seriousOf } from '../support/browser.ts';
import {
  startCollector,
  startGateway,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';

let browser: Browser;
let collector: Headwater;
let gateway: Headwater;
let device: MqttClient;
const folder = temporaryFolder();

const again = (): Promise<Headwater> =>
  startCollector([
    '--data',
    folder,
    '--http',
    collector.address['http'] as string,
    '--uplink',
    collector.address['uplink'] as string,
  ]);
const publish = (topic: string, value: unknown): Promise<unknown> =>
  device.publishAsync(topic, JSON.stringify(value), { qos: 1 });
const url = (hash = ''): string => `http://${collector.address['http']}/${hash}`;

beforeAll(async () => {
  browser = await openBrowser();
  collector = await startCollector(['--data', folder]);
  gateway = await startGateway(collector.address['uplink'], ['--id', 'gw']);
  device = await connectAsync(`mqtt://127.0.0.1:${gateway.port('mqtt')}`, { clientId: 'device' });
});
afterAll(async () => {
  await device.endAsync();
  await gateway.kill();
  await collector.kill();
  await browser.close();
});

describe('the page', () => {
  it('shows a first reading at the front and on the chart, beside a sample of another year', async () => {
    const past = Date.now() - 7 * 365 * 86_400_000;
    for (let index = 0; index < 50; index++)
      await publish('old/sensor', { temperature: index, time: past + index * 60_000 });
    const { page, errors } = await openTab(browser, url());
    await page.waitForSelector('#chart canvas');
    await publish('home/kitchen', { temperature: 21.5, door: 'open', lamp: true });
    const began = performance.now();
    await page.locator('.row', { hasText: 'home/kitchen' }).first().waitFor();
    expect(performance.now() - began).toBeLessThan(5000);
    const rows = await page.locator('.row').allTextContents();
    expect(rows.slice(0, 3).every((text) => text.includes('home/kitchen'))).toBe(true);
    expect(rows.join()).toContain('21.5');
    expect(rows.join()).toContain('open');
    expect(rows.join()).toContain('on');
    // What is new of the past comes behind it, however late it appears.
    await publish('old/another', { temperature: 1, time: past });
    await page.locator('.row', { hasText: 'old/another' }).first().waitFor();
    expect((await page.locator('.row').allTextContents())[0]).toContain('home/kitchen');
    // The chart is that of the front row with numbers, and its time is that of its data.
    await until('its chart', async () =>
      (await page.textContent('#one-head'))?.includes('home/kitchen'),
    );
    await until('its value', async () => (await page.textContent('#now')) === '21.5');
    await page.screenshot({ path: 'test-results/page-first.png' });
    // What explains it is asked for when it is opened, and is away without a word where there is none.
    const explain = page.locator('#explain');
    const route = await fetch(url('api/v1/explain'));
    await page.click('#explain summary');
    if (route.status === 404) await explain.waitFor({ state: 'detached' });
    else await page.waitForSelector('#explain dl');
    errors.splice(0, errors.length, ...errors.filter((text) => !text.includes('404')));
    expect(errors).toEqual([]);
    await page.close();
  });

  it('ends a line where nothing came, and says from when to when', async () => {
    const now = Date.now();
    const minutes = [...Array(20).keys()].flatMap((at) => [at - 200, at - 20]);
    await Promise.all(
      [...minutes, -100].map((at) =>
        publish('hall/silence', { temperature: 20 + (at % 7), time: now + at * 60_000 }),
      ),
    );
    const { page, errors } = await openTab(browser, url('#/sensors?q=hall/silence'));
    await page.locator('.row', { hasText: 'hall/silence' }).click();
    await until('both gaps', async () =>
      (await page.textContent('#note'))?.includes('41 points, as measured'),
    );
    expect(await page.textContent('#note')).toMatch(
      /2 gaps: nothing for more than 4 min, where usually one comes every 1 min/,
    );
    const line = (await page.evaluate(`(() => {
      const canvas = document.querySelector('#chart canvas');
      const { width, height, data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      const drawn = new Set();
      for (let at = 0; at < data.length; at += 4)
        if (data[at] < 60 && data[at + 2] > 110 && data[at + 3] > 200) drawn.add((at / 4) % width);
      const { left, width: wide } = canvas.parentElement.querySelector('.u-over').getBoundingClientRect();
      const from = (left - canvas.getBoundingClientRect().left) * devicePixelRatio;
      return [...drawn].map((x) => (x - from) / (wide * devicePixelRatio));
    })()`)) as number[];
    // Twenty minutes at each end, and one lone reading in the middle.
    expect(line.filter((at) => at > 0.13 && at < 0.47)).toEqual([]);
    expect(line.filter((at) => at > 0.54 && at < 0.88)).toEqual([]);
    for (const [from, to] of [
      [0, 0.1],
      [0.48, 0.53],
      [0.9, 1],
    ] as const)
      expect(line.some((at) => at > from && at < to)).toBe(true);
    await page.locator('#chart .u-over').hover({ position: { x: 200, y: 50 } });
    await until('what it says', async () =>
      /no reading from/.test((await page.textContent('#at')) ?? ''),
    );
    await page.goto(`${page.url()}&from=1&to=2`);
    await until('an empty range', async () =>
      (await page.textContent('#note'))?.startsWith('no readings'),
    );
    // No axis with times that nobody asked for.
    expect(await page.locator('#chart canvas').isVisible()).toBe(false);
    expect(errors).toEqual([]);
    await page.close();
  });

  it('says since when the collector is gone, and shows by itself what came meanwhile', async () => {
    const { page } = await openTab(browser, url(), { bypassCSP: true });
    await page.waitForSelector('#gateways-up');
    await until('the gateway', async () =>
      (await page.textContent('#gateways-up'))?.includes('1 of 1'),
    );
    await collector.kill('SIGKILL');
    await page.locator('#gone').waitFor();
    expect(await page.textContent('#gone')).toMatch(/does not answer since/);
    expect(await seriousOf(page)).toEqual([]);
    await publish('home/kitchen', { temperature: 30.25 });
    collector = { ...(await again()), address: collector.address };
    await page.locator('#gone').waitFor({ state: 'detached' });
    await until('what came meanwhile', async () =>
      (await page.locator('.row').allTextContents()).some((text) => text.includes('30.25')),
    );
    expect(await page.textContent('body')).not.toMatch(/cannot/);
    await page.close();
  });

  it('asks a handful of questions, and then only the overview', async () => {
    const asked: string[] = [];
    await publish('home/kitchen', { temperature: 1 });
    const { page } = await openTab(browser, 'about:blank');
    page.on('request', (request) => asked.push(new URL(request.url()).pathname));
    await page.goto(url());
    await page.waitForSelector('#chart canvas');
    for (let index = 0; index < 20; index++)
      await publish('home/kitchen', { temperature: 20 + index });
    await until('the last', async () => (await page.textContent('#now')) === '39');
    const api = asked.filter((path) => path.startsWith('/api/') && !path.endsWith('/overview'));
    expect(api.length).toBeLessThanOrEqual(4);
    await page.close();
  });

  it('asks for a token, says nothing without it, and shows what it may see', async () => {
    const file = join(temporaryFolder(), 'tokens');
    const line = `own:read:attic:${hashOf('right').toString('hex')}`;
    writeFileSync(file, `${line}\n`, { mode: 0o600 });
    const guarded = await startCollector(['--tokens-file', file]);
    const base = `http://${guarded.address['http']}`;
    expect((await fetch(`${base}/api/v1/overview`)).status).toBe(401);
    const authorization = 'Bearer right';
    const answer = await fetch(`${base}/api/v1/overview`, { headers: { authorization } });
    // Of the whole collector it hears nothing.
    expect(Object.keys((await answer.json()) as object).sort()).toEqual(
      ['connected', 'gateways', 'missing', 'quarantined', 'unconnected'].sort(),
    );
    const { page } = await openTab(browser, base, { bypassCSP: true });
    const asked: string[] = [];
    for (const token of ['wrong', 'right']) {
      await page.waitForSelector('.ask');
      page.on('request', (request) => asked.push(request.url()));
      await page.fill('.ask input', token);
      await page.click('.ask button');
      if (token === 'right') continue;
      await page.waitForSelector('text=is not accepted');
      expect(await seriousOf(page)).toEqual([]);
    }
    await page.waitForSelector('#gateways-up');
    expect(await page.locator('#disk').count()).toBe(0);
    expect(asked.length).toBeLessThan(30);
    await page.close();
    await guarded.kill();
  });

  it("the gateway's own page says that it is gone, and is itself again", async () => {
    const own = temporaryFolder();
    const first = await startGateway(undefined, ['--data', own, '--id', 'board']);
    const http = first.address['http'] as string;
    const { page, errors } = await openTab(browser, `http://${http}/`, { colorScheme: 'dark' });
    await until('its name', async () => (await page.textContent('#name')) === 'board');
    expect(errors).toEqual([]);
    await page.screenshot({ path: 'test-results/page-gateway.png' });
    await first.kill('SIGKILL');
    await page.locator('#gone').waitFor();
    const second = await startGateway(undefined, ['--data', own, '--id', 'board', '--http', http]);
    await page.locator('#gone').waitFor({ state: 'hidden' });
    expect(await page.textContent('#error')).not.toMatch(/fail/i);
    await page.close();
    await second.kill();
  });
});

describe('files', () => {
  it('are answered with 304 while they are the same, under a policy without inline script or style', async () => {
    for (const file of ['', 'page.js', 'page.css']) {
      const first = await fetch(url(file));
      expect(first.headers.get('content-security-policy')).not.toMatch(/unsafe/);
      const etag = first.headers.get('etag') ?? '';
      const again = await fetch(url(file), { headers: { 'if-none-match': etag } });
      expect(again.status).toBe(304);
      const other = await fetch(url(file), { headers: { 'if-none-match': '"other"' } });
      expect(other.status).toBe(200);
    }
  });
});

describe('files, packed', () => {
  const asked = (file: string, accept: string): Promise<Response> =>
    fetch(url(file), { headers: { 'accept-encoding': accept } });

  it('are what they are unpacked, smaller, and each packing has a tag of its own', async () => {
    for (const file of ['', 'page.js', 'page.css']) {
      const plain = await asked(file, 'identity');
      const text = await plain.text();
      const tags = [plain.headers.get('etag')];
      expect(plain.headers.get('content-encoding')).toBeNull();
      for (const [accept, packing] of [
        ['gzip, deflate, br, zstd', 'br'],
        ['gzip', 'gzip'],
        ['br;q=0, GZIP ; q=0.5', 'gzip'],
      ] as const) {
        const packed = await asked(file, accept);
        expect(packed.headers.get('content-encoding')).toBe(packing);
        expect(packed.headers.get('vary')).toMatch(/accept-encoding/);
        expect(Number(packed.headers.get('content-length'))).toBeLessThan(text.length * 0.7);
        expect(await packed.text()).toBe(text);
        const etag = packed.headers.get('etag') ?? '';
        const headers = { 'accept-encoding': accept, 'if-none-match': etag };
        expect((await fetch(url(file), { headers })).status).toBe(304);
        tags.push(etag);
      }
      expect(new Set(tags).size).toBe(3);
      expect(
        (await asked(file, 'gzip;q=0, br;q=0.000')).headers.get('content-encoding'),
      ).toBeNull();
    }
  });
});

/** Every view of the page: pictures in `test-results/page`, axe, hostile names, 10,000 series, and a proxy's path. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { connectAsync } from 'mqtt';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SPECS } from '../../dashboards/all.ts';
import { openBrowser, openTab, seriousOf } from '../support/browser.ts';
import {
  ROOT,
  crowding,
  startCollector,
  startGateway,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';

const VIEWS = [
  'sensors',
  'dashboards',
  'gateways',
  'ledger',
  'quarantine',
  'topics',
  'alerts',
  'lake',
  'status',
  'connect',
];
const EVIL = '<img src=x onerror="window.pwned=1">';
/** Turns what follows around, if it is let. */
const TURNED = '\u202egnp.exe';
/** Shows nothing, and piles up over the lines above. */
const UNSEEN = 'a\u{e0041}\u3164\u061c\u00ad\u034fb';
const PILED = `z${'\u0301\u0336'.repeat(40)}`;
/** Written from the right, and longer than any column. */
const NAMES = ['مطبخ/حرارة', `attic/${'a-name-without-end-'.repeat(30)}`];
const RULES = `rules:
  - name: too_warm
    from: { measurement: kitchen, field: temperature }
    alert: { above: 10 }
  - name: hourly
    from: { measurement: kitchen }
    window: 1h
`;
const SERIES = 10_000;
const AXE = new Set(['desktop-light', 'phone-dark']);

const mappings = join(temporaryFolder(), 'mappings.yaml');
let browser: Browser;
let collector: Headwater;
let gateway: Headwater;
const url = (hash = ''): string => `http://${collector.address['http']}/${hash}`;

beforeAll(async () => {
  browser = await openBrowser();
  const rules = join(temporaryFolder(), 'rules.yaml');
  writeFileSync(rules, RULES);
  writeFileSync(mappings, 'mappings: []\n');
  collector = await startCollector(['--rules', rules, '--mappings', mappings]);
  gateway = await startGateway(collector.address['uplink'], ['--id', 'attic']);
  const device = await connectAsync(`mqtt://127.0.0.1:${gateway.port('mqtt')}`, { clientId: 'd' });
  const publish = (topic: string, payload: string): Promise<unknown> =>
    device.publishAsync(topic, payload, { qos: 1 });
  for (let index = 0; index < 120; index++)
    await publish(
      'home/kitchen',
      JSON.stringify({
        temperature: 20 + Math.sin(index / 9) * 3,
        door: index % 30 < 20 ? 'closed' : 'open',
        lamp: index % 40 < 10,
        time: Date.now() - (120 - index) * 60_000,
      }),
    );
  for (const name of NAMES) await publish(`home/${name}`, '{"temperature":-3.25}');
  await publish(`home/${EVIL}`, JSON.stringify({ [EVIL]: 5, says: `${TURNED}${EVIL}` }));
  await publish(`home/${TURNED}`, '{"v":1}');
  await publish(`home/${UNSEEN}${PILED}`, JSON.stringify({ [UNSEEN]: 1, [PILED]: PILED }));
  await publish(`bad/${EVIL}`, `{"bad ${EVIL}`);
  await publish('home/tank', '{"level":"239 mm","seen":4}');
  await publish('bad/plain', '{"temperature":');
  await device.endAsync();
  await until('the last of it', async () =>
    ((await (await fetch(url('api/v1/overview'))).json()) as { quarantined: number })
      .quarantined === 2
      ? true
      : undefined,
  );
});
afterAll(async () => {
  await gateway.kill();
  await collector.kill();
  await browser.close();
});

/** What a view shows once its answers are there. */
async function shown(page: Page, view: string): Promise<void> {
  await page.waitForSelector('#gateways-up');
  await until(`${view} to be whole`, async () =>
    /loading …/.test((await page.textContent('#main')) ?? 'loading …') ? undefined : true,
  );
}

describe('views', () => {
  for (const [name, options] of Object.entries({
    'desktop-light': { colorScheme: 'light' as const },
    'desktop-dark': { colorScheme: 'dark' as const },
    'phone-light': { colorScheme: 'light' as const, viewport: { width: 390, height: 844 } },
    'phone-dark': { colorScheme: 'dark' as const, viewport: { width: 390, height: 844 } },
  }))
    it(`${name}: nothing serious for axe, no script of a device, nothing wider than the screen`, async () => {
      // axe is run in the page, which its policy would not let.
      const { page, errors } = await openTab(browser, url(), { ...options, bypassCSP: true });
      mkdirSync(join(ROOT, 'test-results/page'), { recursive: true });
      for (const view of VIEWS) {
        await page.goto(url(`#/${view}`));
        await shown(page, view);
        if (view === 'sensors') await page.waitForSelector('#chart canvas');
        // Both schemes and both sizes, each once.
        if (AXE.has(name)) expect(await seriousOf(page), view).toEqual([]);
        expect(await page.evaluate('window.pwned'), view).toBeUndefined();
        expect(await page.locator('main img').count(), view).toBe(0);
        expect(await page.textContent('#main'), view).not.toMatch(
          /[\u202e\u3164\u061c\u00ad\u{e0000}-\u{e007f}]|\u034f|\p{M}{6}/u,
        );
        const wide = await page.evaluate(
          'document.documentElement.scrollWidth - document.documentElement.clientWidth',
        );
        expect(wide, view).toBeLessThanOrEqual(0);
        await page.screenshot({ path: `test-results/page/${view}-${name}.png` });
      }
      expect(errors).toEqual([]);
      await page.close();
    });

  it('what devices have said stands before what was made of it, and only that is new', async () => {
    const { page } = await openTab(browser, url('#/sensors?q=kitchen'));
    await until('results', async () => (await page.locator('#made').count()) > 0 || undefined);
    const measurements = await page.locator('.row .what small').allTextContents();
    const isResult = measurements.map((text) => /^(new )?(hourly|alerts) · /.test(text));
    expect(isResult).toContain(true);
    expect(isResult.indexOf(true)).toBe(isResult.lastIndexOf(false) + 1);
    expect(measurements.filter((text) => /^new (hourly|alerts)/.test(text))).toEqual([]);
    const made = isResult.filter(Boolean).length;
    expect(await page.textContent('#made')).toBe(`${made} of them results · `);
    await page.close();
  });

  it('texts and booleans are states over time', async () => {
    const { page, errors } = await openTab(browser, url('#/sensors?q=lamp'));
    await page.locator('.row a').first().click();
    await page.waitForSelector('.timeline .bar');
    expect(await page.locator('.stay').count()).toBeGreaterThanOrEqual(6);
    expect(await page.textContent('.timeline table')).toContain('on');
    await page.screenshot({ path: 'test-results/page/timeline.png' });
    expect(errors).toEqual([]);
    await page.close();
  });

  it('range, comparison and what is searched stand in the address; what one sees is a file', async () => {
    const { page } = await openTab(browser, url('#/sensors?q=kitchen+temperature'));
    await page.locator('.row a').first().click();
    await page.click('text=1 hour');
    await until('points of an hour', async () =>
      /^6[0-2] points/.test((await page.textContent('#note')) ?? ''),
    );
    const second = await openTab(browser, page.url());
    await until('the same', async () =>
      /^6[0-2] points/.test((await second.page.textContent('#note')) ?? ''),
    );
    expect(await second.page.inputValue('input[type=search]')).toBe('kitchen temperature');
    const href = (await second.page.getAttribute('#export', 'href')) ?? '';
    const csv = await (await fetch(new URL(href, url()))).text();
    expect(csv.trim().split('\n').length).toBeGreaterThanOrEqual(61);
    await page.close();
    await second.page.close();
  });

  it('a point that is clicked is told of: its bytes, topic and mapping; earlier and later by keyboard', async () => {
    const { page, errors } = await openTab(browser, url('#/sensors?q=kitchen+temperature'));
    await page.locator('.row a').first().click();
    await until('points', async () =>
      /^1\d\d points/.test((await page.textContent('#note')) ?? ''),
    );
    const box = await page.locator('#chart .u-over').boundingBox();
    await page.mouse.click((box?.x ?? 0) + (box?.width ?? 0) / 2, (box?.y ?? 0) + 40);
    await page.waitForSelector('#explain dl');
    const told = (await page.textContent('#explain')) ?? '';
    expect(told).toMatch(/Where the reading of .* comes from: \d/);
    expect(told).toContain('home/kitchen');
    expect(told).toContain('"door"');
    // Many shipped mappings match any topic and leave it to the next.
    expect(told).toContain('none: told from the payload');
    const before = await page.textContent('#explain dl code');
    await page.locator('#explain button', { hasText: 'Earlier' }).press('Enter');
    await until(
      'another reading',
      async () => (await page.textContent('#explain dl code')) !== before || undefined,
    );
    await page.screenshot({ path: 'test-results/page/explain.png', fullPage: true });
    await page.locator('#explain dl a').first().click();
    await page.waitForSelector('text=What it became');
    expect(errors).toEqual([]);
    await page.close();
  });

  it('a topic shows its last message as it came, and a mapping that is right for it', async () => {
    const { page, errors } = await openTab(browser, url('#/topics?t=home/tank'));
    await page.waitForSelector('text=The last message, of');
    expect(await page.textContent('#main')).toContain('{"level":"239 mm","seen":4}');
    expect(await page.textContent('#main')).toMatch(/level.*239 mm/);
    // Live: what comes now is there, and the trial is over both.
    const device = await connectAsync(`mqtt://127.0.0.1:${gateway.port('mqtt')}`);
    await device.publishAsync('home/tank', '{"level":"240 mm","seen":5}', { qos: 1 });
    await page.waitForSelector('text=Its last 2 messages');
    await device.publishAsync('bad/plain', '{"later":', { qos: 1 });
    await page.waitForSelector('td:has-text("{\\"later\\":")');
    await device.endAsync();
    await page.click('button:has-text("Try")');
    await page.waitForSelector('text=With this mapping');
    // Proposed from what it holds: a text with a unit is a number.
    expect(await page.locator('td.good', { hasText: /level=2(39|40)/ }).count()).toBe(2);
    expect(await page.textContent('#try-result')).toMatch(/^2 of its last 2 .* today 2$/);
    await page.screenshot({ path: 'test-results/page/topic.png', fullPage: true });
    await page.click('text=Decode all of this topic again');
    await until('the result', async () =>
      (await page.textContent('#again-result'))?.includes('of 2 messages'),
    );
    expect(errors).toEqual([]);
    await page.close();
  });

  it('words of the address that objects have by themselves, and a mapping for a name that shows nothing', async () => {
    const { page, errors } = await openTab(browser, url());
    await shown(page, 'sensors');
    for (const word of ['constructor', '__proto__', 'toString'])
      for (const hash of [
        `dashboards?board=${word}&span=${word}&v.measurement=${word}`,
        `sensors?q=${word}&s=${word}&range=${word}&by=${word}&group=${word}&with=${word}`,
        `topics?t=${word}&q=${word}`,
        word,
      ]) {
        await page.goto(url(`#/${hash}`));
        await shown(page, hash);
      }
    await page.goto(url(`#/topics?t=${encodeURIComponent(`home/${UNSEEN}${PILED}`)}`));
    await page.waitForSelector('text=The last message, of');
    const text = await page.inputValue('#mapping');
    expect(text).toContain('a\\udb40\\udc41\\u3164\\u061c\\u00ad\\u034fb');
    await page.click('button:has-text("Try")');
    await page.waitForSelector('text=With this mapping');
    expect(errors).toEqual([]);
    await page.close();
  });

  it('rules in force, and what they have said', async () => {
    const { page } = await openTab(browser, url('#/alerts'));
    await page.waitForSelector('text=rules.yaml');
    const rows = page.locator('[aria-label="Rules in force"] tbody tr');
    // The list of rules may be there before what they have said.
    await rows.filter({ hasText: /too_warm.*kitchen.*above 10.*firing, 1/ }).waitFor();
    const rules = await rows.allTextContents();
    expect(rules).toHaveLength(2);
    expect(rules[1]).toMatch(/hourly.*window 1h.*works/);
    await until('the tab', async () => (await page.title()).startsWith('⚠ alerts: 1') || undefined);
    await page.close();
  });

  it('dashboards draw what Grafana draws, of the same definitions', async () => {
    const { page, errors } = await openTab(browser, url('#/dashboards?v.measurement=kitchen'));
    for (const [board, panels] of Object.entries(SPECS)) {
      await page.selectOption('#board', board);
      await until(`${board} to be drawn`, async () => {
        const titles = await page.locator('.board h2').count();
        const text = (await page.textContent('#main')) ?? '';
        return (titles === panels.panels.length && !text.includes('loading …')) || undefined;
      });
      expect(await page.textContent('#main'), board).not.toContain('cannot be read');
      // A number in two lines is read as two.
      const cut = await page.evaluate(
        `const linesOf = (each) => { const range = document.createRange(); range.selectNodeContents(each); return new Set([...range.getClientRects()].map(({ top }) => Math.round(top))).size; };
        [...document.querySelectorAll('.figures dd')].filter((each) => /^[-\\d.,]+$/.test(each.textContent) && (linesOf(each) > 1 || each.parentElement.scrollWidth > each.parentElement.clientWidth)).map((each) => each.textContent)`,
      );
      expect(cut, board).toEqual([]);
      await page.screenshot({ path: `test-results/page/board-${board}.png`, fullPage: true });
    }
    expect(await page.locator('.board .u-over').count()).toBeGreaterThan(0);
    expect(errors).toEqual([]);
    await page.close();
  });

  it('the list, and any table, is a file', async () => {
    const { page } = await openTab(browser, url('#/sensors?q=kitchen'));
    await page.locator('.row').first().waitFor();
    const [file] = await Promise.all([
      page.waitForEvent('download'),
      page.click('text=CSV of this list'),
    ]);
    const lines = readFileSync(await file.path(), 'utf8')
      .trim()
      .split('\n');
    expect(lines[0]).toBe('sensor,measurement,field,value,unit,time,tags');
    expect(lines.length).toBeGreaterThanOrEqual(4);
    await page.close();
  });

  it('a mapping is tried over what is in quarantine, and decoding again is said', async () => {
    const { page } = await openTab(browser, url('#/quarantine?topic=bad/plain'));
    await page.waitForSelector('#mapping');
    await page.fill('#mapping', 'mappings:\n  - { topic: bad/plain, codec: none }\n');
    await page.click('button:has-text("Try")');
    await page.waitForSelector('text=With this mapping');
    await page.click('text=Decode again');
    await until('the result', async () =>
      (await page.textContent('#again-result'))?.includes('of 2 messages'),
    );
    await page.close();
  });

  it('from an unknown payload to its numbers: the time is proposed, and what had other names is gone from the list', async () => {
    const device = await connectAsync(`mqtt://127.0.0.1:${gateway.port('mqtt')}`);
    const payload = '{"depth":"31 cm","read":"25.11.2024 20:00:00"}';
    await device.publishAsync('farm/well', payload, { qos: 1 });
    await device.endAsync();
    const { page, errors } = await openTab(browser, url('#/sensors'));
    await page.waitForSelector('text=well · read');
    await page.click('nav >> text=Topics');
    await page.waitForSelector('text=The last message of each topic');
    await page.click('text=farm/well');
    const proposed = await until('its mapping', async () => {
      const text = await page.inputValue('#mapping').catch(() => '');
      return text.includes('"read"') ? text : undefined; // Once the message is known.
    });
    const time = 'time: { from: "read", format: "DD.MM.YYYY HH:mm:ss", zone: "UTC" }';
    expect(proposed).toContain(time);
    await page.click('button:has-text("Try")');
    await page.waitForSelector('td.good:has-text("depth=31")');
    await page.waitForSelector(`text=This mapping, for ${mappings}`);
    writeFileSync(mappings, proposed.replace('measurement: "well"', 'measurement: wells'));
    await page.waitForTimeout(2500); // It is taken within two seconds.
    await page.click('text=Decode all of this topic again');
    await page.click('nav >> text=Sensors');
    await page.waitForSelector('text=wells · depth');
    await until('the old names to be gone', async () =>
      /well · read/.test((await page.textContent('#main')) ?? '') ? undefined : true,
    );
    expect(errors).toEqual([]);
    await page.close();
  });
});

describe('below the path of a proxy', () => {
  let proxy: Server;
  beforeAll(async () => {
    proxy = createServer((asked, answer) => {
      if (!asked.url?.startsWith('/hw/')) {
        answer.writeHead(404).end();
        return;
      }
      const [host, port] = (collector.address['http'] ?? '').split(':');
      const { method, headers } = asked;
      const passed = request({ host, port, method, headers, path: asked.url.slice(3) }, (reply) => {
        answer.writeHead(reply.statusCode ?? 502, reply.headers);
        reply.pipe(answer);
      });
      passed.on('error', () => answer.destroy());
      answer.on('close', () => passed.destroy());
      asked.pipe(passed);
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  });
  afterAll(() => {
    proxy.closeAllConnections();
    proxy.close();
  });

  it('the page asks for nothing outside of it', async () => {
    const { port } = proxy.address() as AddressInfo;
    const { page, errors } = await openTab(browser, `http://127.0.0.1:${port}/hw/`);
    await page.waitForSelector('#chart canvas');
    await shown(page, 'sensors');
    expect(errors).toEqual([]);
    await page.close();
  });
});

describe('10,000 series', () => {
  it('are painted within a second, and searched within a tenth', async () => {
    const lines = Array.from(
      { length: SERIES },
      (_, at) => `hall,rack=r${at % 97},slot=s${at} v=${at}`,
    );
    for (let from = 0; from < SERIES; from += 2000) {
      const body = lines.slice(from, from + 2000).join('\n');
      const { status } = await fetch(`http://${gateway.address['http']}/write?db=x`, {
        method: 'POST',
        body,
      });
      expect(status).toBe(204);
    }
    await until(
      'all of them',
      async () => {
        const { series } = (await (await fetch(url('api/v1/series'))).json()) as {
          series: unknown[];
        };
        return series.length >= SERIES ? true : undefined;
      },
      60_000,
    );
    const { page, errors } = await openTab(browser, url());
    await page.locator('.row').first().waitFor();
    const paint = (await page.evaluate(
      `performance.getEntriesByName('first-contentful-paint')[0].startTime`,
    )) as number;
    const rows = await page.evaluate('performance.now()');
    const search = (await page.evaluate(`(async () => {
      const field = document.querySelector('input[type=search]');
      const began = performance.now();
      field.value = 's9999';
      field.dispatchEvent(new Event('input', { bubbles: true }));
      while (document.getElementById('count').textContent !== '1') await new Promise((done) => requestAnimationFrame(done));
      return performance.now() - began;
    })()`)) as number;
    process.stdout.write(
      `10,000 series: first paint ${Math.round(paint)} ms, rows ${Math.round(rows as number)} ms, search ${Math.round(search)} ms\n`,
    );
    // Laws for a machine that is free.
    expect(paint).toBeLessThan(1000 * crowding());
    expect(search).toBeLessThan(100 * crowding());
    // Only what is in sight is drawn.
    expect(await page.locator('.row').count()).toBeLessThan(60);
    expect(errors).toEqual([]);
    await page.close();
  });
});

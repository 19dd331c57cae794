/**
 * `npm run page:try`: what an operator sees when something is wrong. Each fault is made for real, the page is opened (or is
 * open), and what the top line says is read, with the seconds until it said so, and kept as pictures in test-results/states,
 * desktop and phone, light and dark. Fails where the top line does not say it.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectAsync } from 'mqtt';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { startKafka } from '../services/servers.ts';
import { openBrowser, openTab } from '../support/browser.ts';
import {
  ROOT,
  crowding,
  startCollector,
  startGateway,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';
import { flagsOf } from '../../scripts/flags.mjs';

flagsOf(import.meta.url);
const FOLDER = join(ROOT, 'test-results/states');
const SEEN_SECONDS = 2;
const LOOKS: Record<string, BrowserContextOptions> = {
  'desktop-light': { colorScheme: 'light' },
  'desktop-dark': { colorScheme: 'dark' },
  'phone-light': { colorScheme: 'light', viewport: { width: 390, height: 844 } },
  'phone-dark': { colorScheme: 'dark', viewport: { width: 390, height: 844 } },
};
const RULES = `rules:
  - name: too_warm
    from: { measurement: cellar, field: temperature }
    alert: { above: 30 }
`;

interface Site {
  collector: Headwater;
  gateway: Headwater;
  publish: (topic: string, payload: string) => Promise<void>;
  close: () => Promise<void>;
}

async function open(more: string[] = [], environment: Record<string, string> = {}): Promise<Site> {
  const collector = await startCollector(more, environment);
  const gateway = await startGateway(collector.address['uplink'], ['--id', 'barn-1']);
  const device = await connectAsync(`mqtt://127.0.0.1:${gateway.port('mqtt')}`);
  return {
    collector,
    gateway,
    publish: async (topic, payload) => {
      await device.publishAsync(topic, payload, { qos: 1 });
    },
    close: async () => {
      device.end(true);
      await gateway.kill('SIGKILL');
      await collector.kill('SIGKILL');
    },
  };
}

let isWell = true;
function told(name: string, isRight: boolean, text: string): void {
  isWell &&= isRight;
  process.stdout.write(`${isRight ? 'said' : 'NOT SAID'}  ${name}: ${text}\n`);
}

const lineOf = async (page: Page): Promise<string> =>
  (await page.locator('.top, .banners').allTextContents()).join(' ').replaceAll(/\s+/g, ' ');

/** In a page that is opened on the fault: seconds until it is said, and a picture in each look. */
async function seen(browser: Browser, site: Site, name: string, wanted: RegExp): Promise<void> {
  for (const [look, options] of Object.entries(LOOKS)) {
    const { page } = await openTab(browser, 'about:blank', options);
    const began = performance.now();
    await page.goto(`http://${site.collector.address['http']}/`, { waitUntil: 'commit' });
    try {
      await until(name, async () => wanted.test(await lineOf(page)) || undefined, 10_000);
      const seconds = (performance.now() - began) / 1000;
      if (look === 'desktop-light')
        told(
          name,
          seconds <= SEEN_SECONDS * crowding(),
          `${seconds.toFixed(1)} s after the page is opened`,
        );
    } catch {
      told(name, false, await lineOf(page));
    }
    await page.screenshot({ path: join(FOLDER, `${name.replaceAll(' ', '-')}-${look}.png`) });
    await page.close();
  }
}

/** In a page that is open all the while. */
async function watched(page: Page, name: string, wanted: RegExp, since: number): Promise<void> {
  try {
    await until(name, async () => wanted.test(await lineOf(page)) || undefined, 30_000);
    told(name, true, `${((performance.now() - since) / 1000).toFixed(1)} s after it began`);
  } catch {
    told(name, false, await lineOf(page));
  }
  await page.screenshot({ path: join(FOLDER, `${name.replaceAll(' ', '-')}.png`) });
}

async function small(browser: Browser): Promise<void> {
  const rules = join(temporaryFolder(), 'rules.yaml');
  writeFileSync(rules, RULES);
  const data = temporaryFolder();
  const site = await open(['--data', data, '--rules', rules]);
  const { page } = await openTab(browser, `http://${site.collector.address['http']}/`);
  for (let each = 0; each < 20; each++)
    await site.publish('barn/cellar', JSON.stringify({ temperature: 20 + each / 10 }));
  await watched(
    page,
    'well',
    /gateways up 1 of 1.*missing nothing.*alerts none/,
    performance.now(),
  );
  let since = performance.now();
  await site.publish('barn/cellar', '{"temperature":35}');
  await watched(page, 'an alert', /alerts 1/, since);
  since = performance.now();
  for (let each = 0; each < 7; each++) await site.publish('barn/broken', '{"temperature":');
  await watched(page, 'quarantine grows', /quarantine 7, 7 more in 5 min/, since);
  since = performance.now();
  await site.gateway.kill('SIGKILL');
  await watched(page, 'a gateway is silent', /gateways up 0 of 1.*silent barn-1/, since);
  await seen(browser, site, 'all of these', /alerts 1/);
  since = performance.now();
  const { http = '', uplink = '' } = site.collector.address;
  await site.collector.kill('SIGKILL');
  await watched(page, 'the collector is gone', /does not answer since/, since);
  for (const [look, options] of Object.entries(LOOKS)) {
    await page.setViewportSize(options.viewport ?? { width: 1280, height: 800 });
    await page.emulateMedia({ colorScheme: options.colorScheme ?? 'light' });
    await page.screenshot({ path: join(FOLDER, `gone-${look}.png`) });
  }
  since = performance.now();
  const again = await startCollector(['--data', data, '--http', http, '--uplink', uplink]);
  await watched(page, 'and is back', /gateways up 0 of 1/, since);
  await page.locator('#gone').waitFor({ state: 'detached' });
  told(
    'the banner is gone',
    true,
    `${((performance.now() - since) / 1000).toFixed(1)} s after the start`,
  );
  await page.close();
  await again.kill('SIGKILL');
  await site.close();
}

/** A file system of its own, with 48 MiB. */
async function fullDisk(browser: Browser): Promise<void> {
  const folder = temporaryFolder();
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=48m', 'tmpfs', folder]);
  if (mounted.status !== 0) {
    process.stdout.write('not tried: a full disk: this user may not mount a tmpfs\n');
    return;
  }
  try {
    const site = await open(['--data', folder], { HEADWATER_DISK_FREE_BYTES_MIN: '8388608' });
    await seen(browser, site, 'little disk', /disk free \d+(\.\d)? MiB/);
    const { bavail, bsize } = statfsSync(folder);
    writeFileSync(join(folder, 'others'), Buffer.alloc(bavail * bsize - 4 * 1024 * 1024));
    await until('it to be noticed', async () => {
      const answer = await fetch(`http://${site.collector.address['http']}/api/v1/overview`);
      return (await answer.text()).includes('"name":"disk"') || undefined;
    });
    await seen(browser, site, 'a full disk', /waiting disk/);
    await site.close();
  } finally {
    spawnSync('umount', ['-l', folder]);
  }
}

async function kafkaDead(browser: Browser): Promise<void> {
  const kafka = await startKafka();
  const site = await open(['--log', `kafka://${kafka.address}`]);
  const { page } = await openTab(browser, `http://${site.collector.address['http']}/`);
  await site.publish('barn/cellar', '{"temperature":21}');
  await watched(page, 'Kafka is well', /waiting none/, performance.now());
  const since = performance.now();
  await kafka.stop();
  await site.publish('barn/cellar', '{"temperature":22}');
  await watched(page, 'Kafka is dead', /waiting (?!none)\S+/, since);
  await seen(browser, site, 'Kafka is dead, opened', /waiting (?!none)\S+/);
  await page.close();
  await site.close();
}

mkdirSync(FOLDER, { recursive: true });
const browser = await openBrowser();
await small(browser);
await fullDisk(browser);
await kafkaDead(browser);
await browser.close();
process.exit(isWell ? 0 : 1);

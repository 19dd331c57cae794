import { gunzipSync } from 'node:zlib';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { describe, expect, it } from 'vitest';
import { SAMPLE_LAST_MS } from '../../cli/sample.ts';
import {
  headwater,
  ROOT,
  run,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';
import { getJson } from '../support/reconcile.ts';

interface Answer {
  series: {
    measurement: string;
    field: string;
    tags: Record<string, string>;
    points: [number, number][];
    time: number;
    value: number;
  }[];
}

const rows = gunzipSync(readFileSync(join(ROOT, 'data/aberdeen-fleet-2019-03-10_16.csv.gz')))
  .toString()
  .trim()
  .split('\n')
  .map((line) => line.split(','));
const header = rows.shift() ?? [];
const column = (name: string): number => header.indexOf(name);

const up = (folder: string): Promise<Headwater> =>
  headwater([
    'up',
    '--data',
    folder,
    '--mqtt',
    '127.0.0.1:0',
    '--http',
    '127.0.0.1:0',
    '--gateway-http',
    '127.0.0.1:0',
    '--uplink',
    '127.0.0.1:0',
    '--id',
    'gw-up',
  ]);
const shown = (server: Headwater): Promise<true> =>
  until(
    `the sample to be shown: ${server.output()}`,
    () => server.stdout().includes('Ctrl-C stops it') || undefined,
    180_000,
  );

/** What the folder adds to every time of the sample. */
const shiftOf = (folder: string): number =>
  (JSON.parse(readFileSync(join(folder, 'sample.json'), 'utf8')) as { shiftMs: number }).shiftMs;

/** Of the sample's week: its stations go on after it. */
async function count(server: Headwater, field: string, folder: string): Promise<number> {
  const { series } = await getJson<Answer>(
    `http://${server.address['http']}/api/v1/query?field=${field}&fn=count&to=${SAMPLE_LAST_MS + shiftOf(folder) + 1}`,
  );
  return series.reduce((sum, { points }) => sum + (points[0]?.[1] ?? 0), 0);
}

async function expectWholeSample(server: Headwater, folder: string): Promise<void> {
  expect([
    await count(server, 'P1', folder),
    await count(server, 'temperature', folder),
    await count(server, 'lat', folder),
  ]).toEqual([71_343, 69_161, 140_504]);
}

describe('headwater up', () => {
  it('shows the Aberdeen week, exactly, through kill -9 in the middle, a stop and another start', async () => {
    const folder = temporaryFolder();
    const startedMs = Date.now();
    const first = await up(folder);
    await until('the page', () => first.stdout().includes('  Page   http://') || undefined);
    expect(first.stdout()).not.toMatch(/rows acknowledged/);
    // Killed while the sample is on its way: the next start must neither lose nor double a row.
    await until(
      'some of the sample',
      async () => (await count(first, 'lat', folder)) > 5000 || undefined,
    );
    await first.kill('SIGKILL');
    // As if the week had ended at the first start, and no start after it moves it again.
    const shiftMs = shiftOf(folder);
    expect(SAMPLE_LAST_MS + shiftMs - startedMs).toBeGreaterThan(-1000);
    expect(SAMPLE_LAST_MS + shiftMs - startedMs).toBeLessThan(60_000);
    const second = await up(folder);
    await shown(second);
    expect(second.output()).not.toContain('nothing is served yet');
    expect(second.stdout()).toMatch(/shown as if it had ended at \S+, from row \d{4,}/);
    expect(shiftOf(folder)).toBe(shiftMs);
    await expectWholeSample(second, folder);

    const { series } = await getJson<Answer>(
      `http://${second.address['http']}/api/v1/query?measurement=SDS011&field=P1&tag.sensor_id=8554&to=${SAMPLE_LAST_MS + shiftMs + 1}`,
    );
    const expected = rows
      .filter(
        (row) =>
          row[column('sensor_id')] === '8554' &&
          row[column('sensor_type')] === 'SDS011' &&
          row[column('P1')] !== '',
      )
      .map(
        (row) =>
          [Date.parse(`${row[column('timestamp')]}Z`) + shiftMs, Number(row[column('P1')])] as [
            number,
            number,
          ],
      );
    const byTime = (a: [number, number], b: [number, number]): number => a[0] - b[0] || a[1] - b[1];
    expect([...(series[0]?.points ?? [])].sort(byTime)).toEqual(expected.sort(byTime));

    expect(await second.kill('SIGINT')).toBe(0);
    const third = await up(folder);
    await shown(third);
    expect(third.stdout()).toContain('140504 rows are here already');
    // Its stations go on as it happens: about one reading in four seconds.
    await until(
      'a reading after the week',
      async () =>
        (
          await getJson<Answer>(
            `http://${third.address['http']}/api/v1/query?field=lat&fn=count&from=${SAMPLE_LAST_MS + shiftMs + 1}`,
          )
        ).series.length > 0 || undefined,
      60_000,
    );
    await expectWholeSample(third, folder);
    await page(third);
    expect(await third.kill('SIGINT')).toBe(0);
  });

  /** The page as a person sees it: the data's own range, 37 sensors, and a reading that arrives. */
  async function page(server: Headwater): Promise<void> {
    const browser = await chromium.launch({
      executablePath: '/usr/bin/chromium',
      args: [
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    });
    try {
      const tab = await browser.newPage({
        viewport: { width: 1280, height: 760 },
        timezoneId: 'UTC',
        locale: 'en-GB',
      });
      const errors: string[] = [];
      tab.on('pageerror', (error) => errors.push(error.message));
      tab.on('console', (message) => {
        if (message.type() === 'error') errors.push(message.text());
      });
      await tab.goto(`http://${server.address['http']}/`);
      await tab.waitForSelector('#chart canvas');
      mkdirSync(join(ROOT, 'test-results'), { recursive: true });
      const published = await run([
        'publish',
        'home/<b>hall</b>/climate',
        '{"temperature":21.5}',
        '--mqtt',
        server.address['mqtt'] ?? '',
      ]);
      expect(published).toMatchObject({ code: 0, stdout: 'acknowledged\n' });
      // At the front, beside a week of others, and on the chart.
      const front = tab.locator('.row').first();
      await until('the reading', async () =>
        (await front.textContent())?.includes('home/<b>hall</b>/climate'),
      );
      expect(await front.textContent()).toContain('21.5');
      expect(await tab.locator('main b', { hasText: 'hall' }).count()).toBe(0);
      await until('its chart', async () => (await tab.textContent('#now')) === '21.5');
      expect(await tab.textContent('#quarantine')).toContain('empty');
      await run(['publish', 'home/bad', '{"temperature":', '--mqtt', server.address['mqtt'] ?? '']);
      await until('the quarantine to be seen', async () =>
        /quarantine 1\b/.test((await tab.textContent('#quarantine')) ?? ''),
      );
      await tab.fill('input[type=search]', 'sds011 p1');
      await until('19 series', async () => (await tab.textContent('#count')) === '19');
      await tab.locator('.row a').first().click();
      await until('its week', async () =>
        /^[\d,]+ points/.test((await tab.textContent('#note')) ?? ''),
      );
      await tab.click('text=7 days');
      await until('means', async () => (await tab.textContent('#note'))?.includes('mean of each'));
      await tab.waitForTimeout(300);
      await tab.screenshot({ path: join(ROOT, 'test-results/page.png') });
      expect(errors).toEqual([]);
    } finally {
      await browser.close();
    }
  }
});

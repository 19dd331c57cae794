/**
 * `npm run dashboards:try [-- NAME …]`: draws every dashboard with Grafana's own libraries (`@grafana/data` and `@grafana/ui`,
 * installed into a cache of their own) in Chromium, from what an embedded store and a Prometheus answer to the queries of the
 * committed JSON, and keeps the pictures that docs/grafana.md shows. The data are made up and the same each time. Fails where a
 * panel has no data but may not be empty, where the libraries log an error, or a picture is too large.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { build, type Plugin } from 'esbuild';
import type { Page } from 'playwright-core';
import type { Dashboard } from '@grafana/schema';
import { METRIC_SPECS, SPECS } from '../../dashboards/all.ts';
import { DuckDbStore } from '../../collector/store/duckdb.ts';
import { bring } from '../services/servers.ts';
import { openBrowser } from '../support/browser.ts';
import { askEmbedded } from '../support/influxql.ts';
import { ROOT, temporaryFolder } from '../support/process.ts';
import { influxFrames, prometheusFrames, type Frame, type Series, type Target } from './frames.ts';
import { METRICS_FROM_MS, STEP_S, startPrometheus } from './metrics.ts';
import { FROM_MS, TO_MS, changes } from './site.ts';
import { packed } from '../first/webp.ts';
import { flagsOf } from '../../scripts/flags.mjs';

const CACHE = process.env['HEADWATER_CACHE'] ?? join(homedir(), '.cache', 'headwater');
const LIBRARIES = join(CACHE, 'grafana-13.2.3');
const HERE = join(ROOT, 'test/grafana');
const PICTURES = join(ROOT, 'docs/grafana');
const BYTES_MAX = 60_000;
const WIDTH = 1248;
const HEIGHT_MAX = 3200;
const PICTURE_WIDTH = 936;
const ENDLESS = '~endless';

const FILL: Record<string, string> = {
  measurement: 'climate',
  field: 'temperature',
  result: 'climate_hourly',
  result_field: 'temperature_mean',
  gateway: '.*',
  timeFilter: `time >= ${FROM_MS}ms AND time <= ${TO_MS}ms`,
  __interval: '10m',
  instance: '.*',
  gateway_instance: '.*',
  __rate_interval: '5m',
};
const filled = (text: string): string =>
  text.replaceAll(/\$(\w+)/g, (whole, name: string) => FILL[name] ?? whole);

/** Once a machine, beside the checkout: 450 MB that `npm ci` does not know. */
function install(): void {
  bring('promtool', 'chromium');
  if (existsSync(join(LIBRARIES, 'ok'))) return;
  process.stderr.write(`dashboards: fetching Grafana's libraries once, into ${LIBRARIES}\n`);
  mkdirSync(LIBRARIES, { recursive: true });
  copyFileSync(join(HERE, 'package.json'), join(LIBRARIES, 'package.json'));
  const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  execFileSync('npm', ['install', ...flags], { cwd: LIBRARIES, stdio: 'inherit' });
  writeFileSync(join(LIBRARIES, 'ok'), '');
}

/** CommonJS whose default is its `default`: esbuild, like Node, gives a file of `.mjs` the whole of it. */
const DEFAULTS =
  /^import (\w+)((?:, \{[^}]*\})?) from '(react-custom-scrollbars-2|calculate-size|react-loading-skeleton|react-highlight-words|react-inlinesvg|slate-plain-serializer|tinycolor2)';/gm;
const interop: Plugin = {
  name: 'default of a default',
  setup: ({ onLoad }) => {
    onLoad({ filter: /@grafana\/(?:ui|data)\/dist\/esm\/.*\.mjs$/ }, ({ path }) => ({
      contents: readFileSync(path, 'utf8').replaceAll(
        DEFAULTS,
        (_, name: string, rest: string, from: string) =>
          `import ${name}_${rest} from '${from}';\nconst ${name} = ${name}_.default ?? ${name}_;`,
      ),
      loader: 'js',
    }));
  },
};

async function bundled(folder: string): Promise<void> {
  await build({
    entryPoints: { draw: join(HERE, 'draw.jsx') },
    outdir: folder,
    nodePaths: [join(LIBRARIES, 'node_modules')],
    ...{ bundle: true, minify: true, format: 'esm', platform: 'browser', target: 'chrome110' },
    jsx: 'automatic',
    loader: {
      '.svg': 'dataurl',
      '.png': 'dataurl',
      '.woff': 'dataurl',
      '.woff2': 'dataurl',
      '.ttf': 'empty',
    },
    define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
    plugins: [interop],
    logLevel: 'error',
  });
}

type Ask = (target: Target) => Promise<Frame[]>;

function askStore(store: DuckDbStore): Ask {
  return async (target) => {
    const answer = await askEmbedded(store, filled(target.query ?? ''), { epoch: 'ms' });
    const { results } = answer as { results: { series?: Series[]; error?: string }[] };
    const [{ series = [], error } = {}] = results;
    if (error !== undefined) throw new Error(`${target.query}: ${error}`);
    return influxFrames(
      target,
      series.map((each) => ({ ...each, tags: each.tags ?? {} })),
    );
  };
}

function askPrometheus(url: string): Ask {
  return async (target) => {
    const asked = new URLSearchParams({ query: filled(target.expr ?? '') });
    const isRange = target.instant !== true;
    if (isRange) {
      asked.set('start', String(METRICS_FROM_MS / 1000));
      asked.set('end', String(TO_MS / 1000));
      asked.set('step', String(STEP_S));
    } else asked.set('time', String(TO_MS / 1000));
    const response = await fetch(`${url}/api/v1/query${isRange ? '_range' : ''}?${asked}`);
    const { data, error } = (await response.json()) as {
      data: { result: Parameters<typeof prometheusFrames>[1] };
      error?: string;
    };
    if (error !== undefined) throw new Error(`${target.expr}: ${error}`);
    return prometheusFrames(target, data.result, isRange ? STEP_S * 1000 : undefined);
  };
}

interface Mark {
  time: number;
  timeEnd?: number;
  color: string;
}

/** Of Prometheus what is marked a step after the other is one mark. */
function regionsOf(times: readonly number[]): { time: number; timeEnd: number }[] {
  const regions: { time: number; timeEnd: number }[] = [];
  for (const time of times) {
    const last = regions.at(-1);
    if (last !== undefined && time - last.timeEnd <= STEP_S * 1000) last.timeEnd = time;
    else regions.push({ time, timeEnd: time });
  }
  return regions;
}

async function marksOf(model: Dashboard, ask: Ask): Promise<Mark[]> {
  const marks: Mark[] = [];
  for (const each of model.annotations?.list ?? []) {
    const { expr = '' } = each as { expr?: string };
    const target = { ...(each.target as Partial<Target> | undefined), refId: 'Anno', expr };
    const frames = await ask({ ...target, resultFormat: 'table' });
    for (const { fields } of frames) {
      const times = (fields[0]?.values ?? []).map(Number);
      const marked = times.filter((_, at) => expr === '' || fields[1]?.values[at] === 1);
      marks.push(
        ...(expr === '' ? marked.map((time) => ({ time })) : regionsOf(marked)).map((mark) => ({
          ...mark,
          color: each.iconColor,
        })),
      );
    }
  }
  return marks;
}

/** Panels that have no data and are to have some. */
function emptyOf(name: string, model: Dashboard, data: Record<number, Frame[]>): string[] {
  const spec = { ...SPECS, ...METRIC_SPECS }[name];
  return (model.panels ?? []).flatMap((panel, at) => {
    const { id = 0, title = '' } = panel as { id?: number; title?: string };
    const isQuiet = spec?.panels[at]?.queries.every(({ quiet }) => quiet === true) === true;
    const isNothing = (value: unknown): boolean => value === null || value === undefined;
    const isEmpty = data[id]?.every(({ fields: [, ...own] }) =>
      own.every(({ values }) => values.every(isNothing)),
    );
    return isEmpty !== false && !isQuiet ? [`${name}: '${title}' has no data`] : [];
  });
}

async function drawn(page: Page, name: string, ask: Ask, fromMs: number): Promise<string[]> {
  const file = join(ROOT, `dashboards/grafana/dashboards/${name}.json`);
  const text = readFileSync(file, 'utf8').replaceAll(
    /\$(result_field|measurement|result|field)\b/g,
    filled,
  );
  const model = JSON.parse(text) as Dashboard;
  const asked = JSON.parse(readFileSync(file, 'utf8')) as Dashboard;
  const data: Record<number, Frame[]> = {};
  for (const panel of asked.panels ?? []) {
    const { id = 0, targets = [] } = panel as { id?: number; targets?: unknown[] };
    data[id] = (await Promise.all((targets as Target[]).map(ask))).flat();
  }
  const events = await marksOf(asked, ask);
  // Tables draw what is within the window.
  await page.setViewportSize({ width: WIDTH, height: HEIGHT_MAX });
  await page.goto('http://pictures.invalid/');
  await page.waitForFunction('globalThis.draw !== undefined');
  const given = JSON.stringify({ model, data, fromMs, toMs: TO_MS, events }, (_, value: unknown) =>
    value === Infinity ? ENDLESS : value,
  );
  // JSON has no Infinity.
  await page.evaluate(
    `globalThis.draw(JSON.parse(${JSON.stringify(given)}, (_, value) => (value === '${ENDLESS}' ? Infinity : value)))`,
  );
  await page.waitForFunction(
    `document.querySelectorAll('section').length >= ${model.panels?.length ?? 0}`,
  );
  await page.waitForLoadState('networkidle');
  await page.evaluate(
    'new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))',
  );
  const png = await page.locator('#root').screenshot();
  mkdirSync(join(ROOT, 'test-results/grafana'), { recursive: true });
  writeFileSync(join(ROOT, `test-results/grafana/${name}.png`), png);
  const bytes = await packed(page, png, PICTURE_WIDTH, BYTES_MAX);
  mkdirSync(PICTURES, { recursive: true });
  writeFileSync(join(PICTURES, `${name}.webp`), bytes);
  process.stdout.write(`${name}: ${model.panels?.length} panels, ${bytes.length} bytes\n`);
  const size = bytes.length > BYTES_MAX ? [`${name}: the picture has ${bytes.length} bytes`] : [];
  return [...emptyOf(name, asked, data), ...size];
}

const PAGE =
  '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="/draw.css"><body style="margin:0"><div id="root" style="width:' +
  `${WIDTH}px"></div><script type="module" src="/draw.js"></script>`;

async function main(names: readonly string[]): Promise<void> {
  install();
  const folder = temporaryFolder();
  await bundled(folder);
  const store = new DuckDbStore(
    { folder: temporaryFolder(), memoryBytes: 256 * 1024 * 1024, now: () => TO_MS },
    () => undefined,
  );
  await store.open();
  await store.apply(changes(), new Map());
  const isMetric = (name: string): boolean => Object.hasOwn(METRIC_SPECS, name);
  const prometheus = names.some(isMetric) ? await startPrometheus() : undefined;
  const browser = await openBrowser();
  const page = await browser.newPage({
    viewport: { width: WIDTH, height: 900 },
    timezoneId: 'UTC',
  });
  const wrong: string[] = [];
  page.on('pageerror', (error) => wrong.push(error.message));
  await page.route('**/*', async (route) => {
    const { pathname } = new URL(route.request().url());
    const file = join(folder, pathname);
    if (pathname === '/') await route.fulfill({ contentType: 'text/html', body: PAGE });
    else if (/^\/draw\.(?:js|css)$/.test(pathname)) await route.fulfill({ path: file });
    // Fonts and pictures that its server would have.
    else await route.fulfill({ status: 404, body: '' });
  });
  try {
    for (const name of names) {
      const ask = isMetric(name) ? askPrometheus(prometheus?.url ?? '') : askStore(store);
      wrong.push(...(await drawn(page, name, ask, isMetric(name) ? METRICS_FROM_MS : FROM_MS)));
    }
  } finally {
    await browser.close();
    await store.close();
    await prometheus?.server.kill();
  }
  for (const text of wrong) process.stderr.write(`dashboards: ${text}\n`);
  process.exitCode = wrong.length === 0 ? 0 : 1;
}

const ALL = Object.keys({ ...SPECS, ...METRIC_SPECS });
const { words } = flagsOf(import.meta.url, { words: { choices: ALL } });
await main(words.length === 0 ? ALL : words);

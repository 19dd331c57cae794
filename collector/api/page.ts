/** The built-in page: static files from `dashboards/page`, and uPlot for its charts. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileOfPackage } from '../../shared/config/root.ts';
import type { CollectorPart } from '../part.ts';

const TYPES = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
};

/** Nothing on the page comes from elsewhere, and nothing that a device sends is ever read as markup or script. */
const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
  'referrer-policy': 'no-referrer',
};

/** Paths and the files that answer them. Files of packages are looked for when they are asked for first. */
const FILES: Record<string, [about: string, path: () => string, type: keyof typeof TYPES]> = {
  '/': ['The page.', () => ownFile('index.html'), 'html'],
  '/page.js': ['Its script.', () => ownFile('page.js'), 'js'],
  '/page.css': ['Its style.', () => ownFile('page.css'), 'css'],
  '/uplot.css': ["The charts' style.", () => chartFile('uPlot.min.css'), 'css'],
  '/uplot.js': ['The charts.', () => chartFile('uPlot.esm.js'), 'js'],
};
const ownFile = (name: string): string => join(fileOfPackage('dashboards/page'), name);
const chartFile = (name: string): string =>
  createRequire(import.meta.url)
    .resolve('uplot/dist/uPlot.min.css')
    .replace('uPlot.min.css', name);

/** Paths and contents: read once, at the start. */
export const pagePart: CollectorPart<ReadonlyMap<string, Buffer>> = {
  name: 'page',
  roles: ['query'],
  open: () =>
    new Map(Object.entries(FILES).map(([path, [, file]]) => [path, readFileSync(file())])),
  routes: Object.entries(FILES).map(([path, [about, , type]]) => ({
    method: 'GET',
    path,
    about,
    right: 'open',
    query: 'any',
    replies: { 200: { about: 'The file.', type: TYPES[type] } },
    handle: (contents) => ({
      type: TYPES[type],
      body: contents.get(path) ?? Buffer.alloc(0),
      headers: HEADERS,
    }),
  })),
};

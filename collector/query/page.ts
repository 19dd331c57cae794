/** The built-in page: static files from `dashboards/page`, and uPlot for its charts. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileOfPackage } from '../../shared/config/root.ts';
import type { HttpServer } from '../../shared/http/server.ts';

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

export function servePage(server: HttpServer): void {
  const folder = fileOfPackage('dashboards/page');
  const uplot = createRequire(import.meta.url).resolve('uplot/dist/uPlot.min.css');
  const files: Record<string, [path: string, type: keyof typeof TYPES]> = {
    '/': [join(folder, 'index.html'), 'html'],
    '/page.js': [join(folder, 'page.js'), 'js'],
    '/page.css': [join(folder, 'page.css'), 'css'],
    '/uplot.css': [uplot, 'css'],
    '/uplot.js': [uplot.replace('uPlot.min.css', 'uPlot.esm.js'), 'js'],
  };
  for (const [path, [file, type]] of Object.entries(files)) {
    const body = readFileSync(file);
    server.onOpen(path, () => ({ type: TYPES[type], body, headers: HEADERS }));
  }
}

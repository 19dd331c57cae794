/** The built-in page: its source is `dashboards/page`, `scripts/build.mjs` makes of it the three files that are served here, packed too. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileOfPackage } from '../../shared/config/root.ts';
import { takes, varyOf } from '../../shared/http/send.ts';
import type { CollectorPart } from '../part.ts';

const TYPES = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
};

/** Nothing on the page comes from elsewhere, and nothing that a device sends is ever read as markup, script or style. */
const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; require-trusted-types-for 'script'",
  'referrer-policy': 'no-referrer',
  // Asked for again each time, and answered with 304 while it is the same.
  'cache-control': 'no-cache',
};

/** Paths, what they are, and the file of the build that answers them. */
const FILES: Record<string, [about: string, file: string, type: keyof typeof TYPES]> = {
  '/': ['The page.', 'index.html', 'html'],
  '/page.js': ['Its script.', 'page.js', 'js'],
  '/page.css': ['Its style.', 'page.css', 'css'],
};

interface Kept {
  body: Buffer;
  etag: string;
}

/** What a browser likes best comes first; each packing is another answer, with a tag of its own. */
const PACKINGS = ['br', 'gzip'] as const;
type Packing = (typeof PACKINGS)[number] | 'identity';

function keep(file: string): Kept {
  const body = readFileSync(join(fileOfPackage('dist/page'), file));
  const digest = createHash('sha256').update(body).digest('base64url');
  return { body, etag: `"${digest.slice(0, 22)}"` };
}

const keepAll = (file: string): Record<Packing, Kept> => ({
  identity: keep(file),
  br: keep(`${file}.br`),
  gzip: keep(`${file}.gz`),
});

/** A list of tags, weak ones too, or all. */
function isKnown(header: string | undefined, etag: string): boolean {
  const tags = (header ?? '').split(',').map((tag) => tag.trim().replace(/^W\//, ''));
  return tags.includes(etag) || tags.includes('*');
}

/** Paths and contents: read once, at the start. */
export const pagePart: CollectorPart<ReadonlyMap<string, Record<Packing, Kept>>> = {
  name: 'page',
  roles: ['query'],
  open: () => new Map(Object.entries(FILES).map(([path, [, file]]) => [path, keepAll(file)])),
  routes: Object.entries(FILES).map(([path, [about, , type]]) => ({
    method: 'GET',
    path,
    about,
    right: 'open',
    query: 'any',
    replies: {
      200: { about: 'The file.', type: TYPES[type] },
      304: { about: 'The asker has it.' },
    },
    handle: (contents, request, response) => {
      const packing = PACKINGS.find((each) => takes(request.headers, each)) ?? 'identity';
      const kept = contents.get(path) as Record<Packing, Kept>; // Opened from the same table.
      const { body, etag } = kept[packing];
      const headers = {
        ...HEADERS,
        ...(packing === 'identity' ? {} : { 'content-encoding': packing }),
        etag,
        vary: varyOf(response),
      };
      return isKnown(request.headers['if-none-match'], etag)
        ? { status: 304, type: TYPES[type], body: '', headers }
        : { type: TYPES[type], body, headers };
    },
  })),
};

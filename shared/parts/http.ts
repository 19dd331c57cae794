/**
 * The HTTP side of a process as a part: it serves the routes of all parts, and of its own health, readiness, metrics and
 * the description of them all. Both servers are made of it.
 */
import { readFileSync } from 'node:fs';
import { fileOfPackage } from '../config/root.ts';
import { endpointsOf, type Part, type Site } from './site.ts';
import type { Share } from '../access/shares.ts';
import { counter, gauge, type MetricTable, type Sample } from '../telemetry/metrics.ts';
import { blockedBy } from '../telemetry/health.ts';
import { PROCESS_METRICS } from '../telemetry/process.ts';
import type { Address } from '../net/listen.ts';
import { openApi, type OpenApi } from '../http/openapi.ts';
import type { Right, Route } from '../http/route.ts';
import { HttpServer, type HttpOptions } from '../http/server.ts';

export interface HttpSide {
  /** What the page of its API says. */
  title: string;
  about: string;
  /** Who may see what is about the whole process. */
  whole: Right['subject'];
  flag: string;
}

export interface RunningHttp<Context> {
  site: Site<Context>;
  /** Undefined: this process serves no HTTP. */
  address: Address | undefined;
  options: HttpOptions;
  /** What its API is, as it is sent. */
  description: Buffer | undefined;
  server: HttpServer | undefined;
  /** Once it listens. */
  listening: Address | undefined;
}

export const descriptionOf = (
  { title, about }: HttpSide,
  parts: readonly Part<never, unknown>[],
): OpenApi =>
  openApi(
    title,
    about,
    endpointsOf(parts).map(({ route }) => route),
  );

const limits =
  (read: (share: Share) => number) =>
  ({ server }: RunningHttp<never>): Sample[] =>
    server === undefined
      ? []
      : Object.entries(server.shares).map(([limit, share]) => ({
          labels: { limit },
          value: read(share),
        }));

/** Read once, when it is asked for first. */
let version: string | undefined;
export function ownVersion(): string {
  try {
    version ??= String(
      (JSON.parse(readFileSync(fileOfPackage('package.json'), 'utf8')) as { version?: unknown })
        .version,
    );
  } catch {
    version = 'not known';
  }
  return version;
}

const BUILD_METRICS: MetricTable<unknown> = {
  headwater_build_info: gauge('1, with what runs here.', () => [
    { labels: { version: ownVersion(), node: process.versions.node }, value: 1 },
  ]),
};

const LIMIT_METRICS: MetricTable<RunningHttp<never>> = {
  headwater_http_limit_refused_total: counter(
    'Times that a token or address got nothing more of what is there for all, by limit (docs/limits.md).',
    limits(({ refused }) => refused),
  ),
  headwater_http_limit_used: gauge(
    'What is taken of a limit that holds for all.',
    limits(({ used }) => used),
  ),
  headwater_http_limit_max: gauge(
    'The most of it, for all together.',
    limits(({ whole }) => whole),
  ),
};

/** A table: of the process as a whole. */
const routesOf = <Context>(whole: Right['subject']): readonly Route<RunningHttp<Context>>[] => [
  {
    method: 'GET',
    path: '/healthz',
    about: 'The process lives.',
    right: 'open',
    query: 'any',
    replies: { 200: { about: 'ok' } },
    handle: () => ({ body: 'ok\n' }),
  },
  {
    method: 'GET',
    path: '/readyz',
    about: 'The process takes and answers.',
    right: 'open',
    query: 'any',
    replies: { 200: { about: 'ready' }, 503: { about: 'Why not.' } },
    handle: ({ site }) => {
      const why = blockedBy(site.health());
      return why === undefined ? { body: 'ready\n' } : { status: 503, body: `${why}\n` };
    },
  },
  {
    method: 'GET',
    path: '/metrics',
    about: 'Prometheus metrics.',
    right: { scope: 'read', subject: whole },
    replies: { 200: { about: 'Text exposition 0.0.4.', type: 'text/plain' } },
    handle: ({ site }) => ({
      type: 'text/plain; version=0.0.4; charset=utf-8',
      body: site.metrics(),
    }),
  },
  {
    method: 'GET',
    path: '/openapi.json',
    about: 'This description.',
    right: { scope: 'read', subject: 'each' },
    replies: { 200: { about: 'OpenAPI 3.1.', schema: { type: 'object' } } },
    handle: ({ description = Buffer.alloc(0) }) => ({
      type: 'application/json; charset=utf-8',
      body: description,
    }),
  },
];

/** `settings` tells where and how to serve. */
export function httpPart<Context>(
  side: HttpSide,
  settings: (site: Site<Context>) => { address: Address | undefined; options: HttpOptions },
): Part<Context, RunningHttp<Context>> {
  const { title, about, whole, flag } = side;
  return {
    name: 'http',
    open: (site) => ({
      site,
      ...settings(site),
      description: undefined,
      server: undefined,
      listening: undefined,
    }),
    start: async (running, site) => {
      if (running.address === undefined) return;
      const endpoints = site.endpoints();
      const description = openApi(
        title,
        about,
        endpoints.map(({ route }) => route),
      );
      running.description = Buffer.from(JSON.stringify(description));
      running.server = new HttpServer(endpoints, running.options);
      running.listening = await running.server.listen(running.address, flag);
    },
    metrics: { ...PROCESS_METRICS, ...BUILD_METRICS, ...LIMIT_METRICS },
    routes: routesOf<Context>(whole),
    close: async ({ server }) => {
      await server?.close();
    },
  };
}

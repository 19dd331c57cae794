/** Who answers in the place of S3 or HDFS (a hotel's login page, a load balancer): nothing counts as written, listed or removed. */
import { writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HdfsObjects } from '../../collector/lake/hdfs.ts';
import type { ObjectStore } from '../../collector/lake/object-store.ts';
import { S3Objects } from '../../collector/lake/s3.ts';
import { httpFront, type HttpFront } from '../support/http-front.ts';
import { temporaryFolder } from '../support/process.ts';

const PAGE = '<html><body>Please sign in</body></html>';
let front: HttpFront;
let file: string;
const before = { ...process.env };

beforeAll(async () => {
  Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b' });
  front = await httpFront({ host: '127.0.0.1', port: 1 });
  file = join(temporaryFolder(), 'x');
  writeFileSync(file, 'x'.repeat(100));
});
afterAll(async () => {
  for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'])
    if (before[name] === undefined) delete process.env[name];
    else process.env[name] = before[name];
  await front.close();
});

const STORES: [name: string, open: () => ObjectStore][] = [
  [
    'S3',
    () => {
      const endpoint = `http://127.0.0.1:${front.port}`;
      return new S3Objects({ bucket: 'b', prefix: 'p/', endpoint, region: 'us-east-1' });
    },
  ],
  [
    'WebHDFS',
    () => new HdfsObjects({ base: `http://127.0.0.1:${front.port}`, folder: '/x', user: 'u' }),
  ],
];

const ANSWERS: [what: string, answer: (response: ServerResponse) => void][] = [
  [
    'a page, 200',
    (response) => response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(PAGE),
  ],
  [
    'a page with an ETag of its own',
    (response) =>
      response.writeHead(200, { 'content-type': 'text/html', etag: 'W/"1f"' }).end(PAGE),
  ],
  ['a page without a type', (response) => response.writeHead(200).end(PAGE)],
  ['nothing, 200', (response) => response.writeHead(200).end()],
  [
    'JSON, 200',
    (response) =>
      response
        .writeHead(200, { 'content-type': 'application/json', etag: 'W/"2"' })
        .end('{"login":"/here"}'),
  ],
  ['a page, 502', (response) => response.writeHead(502, { 'content-type': 'text/html' }).end(PAGE)],
  [
    'elsewhere',
    (response) =>
      response.writeHead(307, { location: `http://127.0.0.1:${front.port}/login` }).end(),
  ],
];

describe.each(STORES)('%s', (name, open) => {
  it.each(ANSWERS)('%s', async (what, answer) => {
    front.instead = ({ url = '' }, response) => {
      if (url === '/login') response.writeHead(200).end(PAGE);
      else answer(response);
      return true;
    };
    const store = open();
    const asked = {
      put: () => store.put('a/x', file),
      get: () => store.get('a/x'),
      list: () => store.list('a/'),
      remove: () => store.remove('a/x'),
    };
    for (const [operation, ask] of Object.entries(asked)) {
      const error: unknown = await ask().then(
        () => `${operation} took it for an answer`,
        (caught: unknown) => caught,
      );
      expect(error, operation).toMatchObject({ code: 'LAKE_UNAVAILABLE' });
      expect((error as Error).message, operation).toMatch(/^the lake at \S+: [a-z]+ a/);
      if (!what.includes('elsewhere'))
        expect((error as Error).message, operation).toContain(`that is no answer of ${name}`);
    }
    await store.close();
  });
});

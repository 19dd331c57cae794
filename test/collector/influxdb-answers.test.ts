/** What stands in InfluxDB's place and answers anything: no memory without bounds, and one sentence. */
import { createServer, type Server, type ServerResponse } from 'node:http';
import { createServer as createTcpServer, type AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { InfluxHttp } from '../../collector/store/influxdb-http.ts';
import { InfluxStore, parseInfluxAddress } from '../../collector/store/influxdb.ts';
import type { Change } from '../../collector/store/store.ts';
import { until } from '../support/process.ts';
import { fastTime } from '../support/fast-time.ts';
import { processTime } from '../../shared/env/env.ts';

const MIB = 1024 * 1024;
let server: Server;
let respond: (response: ServerResponse) => void = (response) => response.end();
let sent = 0;

beforeAll(async () => {
  server = createServer((_request, response) => respond(response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterAll(() => server.close());

function client(): InfluxHttp {
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return new InfluxHttp({
    ...{ url, caFile: '', token: () => '', time: processTime },
    answerBytesMax: MIB,
  });
}

describe('InfluxDB', () => {
  it('an answer without an end is given up, and says how large it was', async () => {
    const part = Buffer.alloc(64 * 1024, 'x');
    respond = (response) => {
      const more = (): void => {
        while (!response.destroyed && response.write(part)) sent += part.length;
        if (!response.destroyed) response.once('drain', more);
      };
      more();
    };
    const http = client();
    await expect(http.ask('GET', '/query')).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
      message: expect.stringMatching(/does not answer: its answer has more than 1048576 bytes/),
    });
    // What lies in sockets between the two is a few megabytes.
    expect(sent).toBeLessThan(64 * MIB);
    http.close();
  });

  it('a start does not wait for one that takes the connection and says nothing', async () => {
    const dumb = createTcpServer((socket) => void socket.on('error', () => undefined));
    await new Promise<void>((resolve) => dumb.listen(0, '127.0.0.1', resolve));
    const { port } = dumb.address() as AddressInfo;
    const said: string[] = [];
    const store = new InfluxStore(
      {
        ...parseInfluxAddress(`influxdb://127.0.0.1:${port}/o/b`),
        ...{ token: () => '', caFile: '', time: fastTime(100) },
      },
      ({ text }) => void said.push(text),
    );
    await store.open();
    expect(said).toEqual([
      `InfluxDB at http://127.0.0.1:${port} has not answered for 3 s; readings wait in the log`,
    ]);
    await store.close();
    dumb.close();
  });

  it('one that asks to be left alone is left alone, by seconds or a date', async () => {
    for (const after of ['30', new Date(Date.now() + 30_000).toUTCString()]) {
      respond = (response) => response.writeHead(429, { 'retry-after': after }).end('{}');
      const http = client();
      expect(await http.ask('POST', '/api/v2/write', 'm v=1')).toMatchObject({ status: 429 });
      await expect(http.ask('POST', '/api/v2/write', 'm v=1')).rejects.toThrow(
        /asked to be left alone for another (2\d|30) s/,
      );
      http.close();
    }
  });
});

/** As InfluxDB 2 answers, but for what a trial changes. */
const usual = (url: string): [status: number, body: string] =>
  url.startsWith('/api/v2/buckets')
    ? [200, '{"buckets":[{"id":"1","name":"b"}]}']
    : url.startsWith('/api/v2/write')
      ? [204, '']
      : [200, '{"results":[{}]}'];

type Answered = { status?: number; body?: string; headers?: Record<string, string> };
const HTML = '<html><head><title>Sign in</title></head></html>';
const isWrite = (url: string): boolean => url.startsWith('/api/v2/write');
const always = (): boolean => true;

describe('what is no answer of InfluxDB keeps the readings waiting, in one sentence', () => {
  const one = (value = 'x'): Change[] => [
    {
      identity: { gateway: 'gw', epoch: 'e', sequence: 1, index: 0 },
      put: {
        ...{ measurement: 'm', tags: {}, fields: { value }, sequence: 1, index: 0 },
        ...{ timeMs: 1_700_000_000_000, ns: 0 },
      },
    },
  ];
  const storeOf = (said: string[] = []): InfluxStore =>
    new InfluxStore(
      {
        ...parseInfluxAddress(`influxdb://127.0.0.1:${(server.address() as AddressInfo).port}/o/b`),
        ...{ token: () => 't', caFile: '' },
      },
      ({ text }) => said.push(text),
    );
  /** Answers to writes, or to all. */
  const answering = (of: (url: string) => boolean, answer: Answered): void => {
    respond = (response) => {
      const { url = '' } = response.req;
      const [status, body] = usual(url);
      const own = of(url) ? answer : {};
      response.writeHead(own.status ?? status, own.headers ?? {}).end(own.body ?? body);
    };
  };

  it.each<[string, (url: string) => boolean, Answered, RegExp]>([
    [
      '200 and a web page',
      isWrite,
      { status: 200, body: HTML },
      /200 a web page \('Sign in'\); that is no answer of InfluxDB/,
    ],
    ['200 and nothing', isWrite, { status: 200, body: '' }, /that is no answer of InfluxDB/],
    ['202', isWrite, { status: 202, body: '{}' }, /202/],
    ['a web page to everything', always, { status: 200, body: HTML }, /a web page/],
    [
      '204 to everything',
      always,
      { status: 204, body: '' },
      /204 status 204; that is no answer of InfluxDB/,
    ],
    [
      '204 without the bucket',
      (url) => url.startsWith('/api/v2/buckets'),
      { body: '{"buckets":[{"id":"2","name":"other"}]}' },
      /has no bucket 'b' in 'o'/,
    ],
    [
      '302',
      always,
      { status: 302, headers: { location: '/login' }, body: HTML },
      /sends this elsewhere \(\/login\)/,
    ],
    [
      '308',
      isWrite,
      { status: 308, headers: { location: 'https://x/' }, body: '' },
      /sends this elsewhere/,
    ],
    ['400 of a web server', isWrite, { status: 400, body: HTML }, /may be a proxy/],
    ['422 of a web server', isWrite, { status: 422, body: HTML }, /may be a proxy/],
    ['413 of a small request', isWrite, { status: 413, body: HTML }, /413 a web page/],
    [
      '401',
      isWrite,
      { status: 401, body: '{"code":"unauthorized","message":"unauthorized access"}' },
      /401 unauthorized access; it refuses the token: give a right one/,
    ],
    [
      '403',
      isWrite,
      { status: 403, body: '{"code":"forbidden","message":"insufficient permissions"}' },
      /give the token read and write on 'b'/,
    ],
    [
      '404',
      isWrite,
      { status: 404, body: '{"code":"not found","message":"bucket \\"b\\" not found"}' },
      /look whether 'b' is there/,
    ],
    [
      '500',
      isWrite,
      { status: 500, body: '{"code":"internal error","message":"read-only file system"}' },
      /500 read-only file system/,
    ],
  ])('%s', async (_, of, answer, sentence) => {
    answering(of, answer);
    const store = storeOf();
    await expect(store.apply(one())).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
      message: expect.stringMatching(sentence),
    });
    respond = (response) => {
      const [status, body] = usual(response.req.url ?? '');
      response.writeHead(status).end(body);
    };
    expect(await store.apply(one())).toEqual([]);
    await store.close();
  });

  it('204 of somebody else, in the place of one that had named itself, is no write', async () => {
    let isOther = false;
    respond = (response) => {
      const [status, body] = usual(response.req.url ?? '');
      const mark = { 'x-influxdb-version': 'v2.7.12' };
      if (isOther) response.writeHead(204).end();
      else response.writeHead(status, mark).end(body);
    };
    const store = storeOf();
    expect(await store.apply(one())).toEqual([]);
    isOther = true;
    for (let time = 0; time < 2; time++)
      await expect(store.apply(one())).rejects.toThrow(/that is no answer of InfluxDB/);
    isOther = false;
    expect(await store.apply(one())).toEqual([]);
    await store.close();
  });

  it('413 of a large request: smaller ones from then on, and a point that is too large alone is refused', async () => {
    const sizes: number[] = [];
    respond = (response) => {
      const request = response.req;
      const [status, body] = usual(request.url ?? '');
      let length = 0;
      request.on('data', (part: Buffer) => (length += part.length));
      request.on('end', () => {
        if (isWrite(request.url ?? '')) sizes.push(length);
        const isLarge = isWrite(request.url ?? '') && length > 100_000;
        response.writeHead(isLarge ? 413 : status).end(isLarge ? HTML : body);
      });
    };
    const many = Array.from({ length: 40 }, (_, at) => {
      const [change] = one('x'.repeat(at === 7 ? 150_000 : 10_000)) as [Change];
      return { ...change, identity: { ...change.identity, sequence: at } };
    });
    const store = storeOf();
    const refused = await store.apply(many);
    expect(
      refused.flatMap(({ changes }) => changes.map(({ identity }) => identity.sequence)),
    ).toEqual([7]);
    sizes.length = 0;
    expect(await store.apply(many.filter((_, at) => at !== 7))).toEqual([]);
    expect(sizes.every((size) => size <= 100_000)).toBe(true);
    await store.close();
  });

  it('no HTTP, a connection that is cut, a name that nobody knows: where to look', async () => {
    const raw = createTcpServer((socket) => {
      socket.on('error', () => undefined);
      if (isCut)
        socket.on('data', () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"res'));
      else socket.end('SSH-2.0-OpenSSH_9.2\r\n');
    });
    let isCut = false;
    await new Promise<void>((resolve) => raw.listen(0, '127.0.0.1', resolve));
    const at = (host: string): InfluxHttp =>
      new InfluxHttp({ url: `http://${host}`, caFile: '', token: () => '', time: processTime });
    const here = `127.0.0.1:${(raw.address() as AddressInfo).port}`;
    await expect(at(here).ask('GET', '/')).rejects.toThrow(
      /does not speak HTTP .*look at the port/,
    );
    isCut = true;
    await expect(at(here).ask('GET', '/')).rejects.toThrow(/does not answer: .*aborted|hang up/);
    await expect(at('no-such-host.invalid:1').ask('GET', '/')).rejects.toThrow(
      /the name is not known here/,
    );
    raw.close();
  });
});

describe('points are read as they come', () => {
  const FIELDS =
    '{"results":[{"series":[{"name":"m","columns":["",""],"values":[["v","float"]]}]}]}';
  const line = (from: number, count = 5000): string =>
    `${JSON.stringify({
      results: [
        {
          statement_id: 0,
          series: [
            {
              ...{ name: 'm', tags: { device: 'd' }, columns: ['time', 'v'], partial: true },
              values: Array.from({ length: count }, (_, at) => [from + at, at / 7]),
            },
          ],
        },
      ],
    })}\n`;
  /** Field keys are told; what a SELECT gets `points` writes. */
  const answeringWith = (points: (response: ServerResponse) => void): void => {
    respond = (response) => {
      let body = '';
      response.req.on('data', (part: Buffer) => (body += part.toString()));
      response.req.on('end', () => {
        if (!response.req.url?.startsWith('/query')) response.end(usual(response.req.url ?? '')[1]);
        else if (body.includes('SHOW')) response.end(FIELDS);
        else points(response);
      });
    };
  };
  const storeOf = (factor = 1): InfluxStore =>
    new InfluxStore(
      {
        ...parseInfluxAddress(`influxdb://127.0.0.1:${(server.address() as AddressInfo).port}/o/b`),
        ...{ token: () => 't', caFile: '', time: fastTime(factor) },
      },
      () => undefined,
    );
  async function read(store: InfluxStore): Promise<number> {
    let count = 0;
    for await (const { points } of store.query({})) count += points.length;
    return count;
  }

  it('an answer without an end stands nowhere: what its reader does not take is not sent, and he may leave', async () => {
    let written = 0;
    let isLeft = false;
    answeringWith((response) => {
      const text = line(0);
      const more = (): void => {
        while (!response.destroyed && response.write(text)) written += text.length;
        if (!response.destroyed) response.once('drain', more);
      };
      response.once('close', () => (isLeft = true));
      more();
    });
    const store = storeOf();
    const parts = store.query({})[Symbol.asyncIterator]();
    for (let part = 0; part < 400; part++) {
      const { value } = await parts.next();
      expect(value).toMatchObject({ measurement: 'm', field: 'v', tags: { device: 'd' } });
    }
    const taken = 400 * line(0).length;
    await new Promise((resolve) => setTimeout(resolve, 100));
    // What lies in sockets between the two is a few megabytes.
    expect(written).toBeLessThan(taken + 32 * MIB);
    await parts.return?.();
    await until('its connection to be gone', () => isLeft || undefined);
    await store.close();
  });

  it.each<[string, (response: ServerResponse) => void, RegExp]>([
    [
      'cut in the middle of a line',
      (response) => {
        response.write(line(0));
        response.write(line(5000).slice(0, 1000), () => response.destroy());
      },
      /does not answer: .*(aborted|hang up|terminated)/,
    ],
    [
      'that says what went wrong half way',
      (response) => {
        response.write(line(0));
        response.end('{"results":[{"statement_id":0,"error":"query-timeout limit exceeded"}]}\n');
      },
      /query-timeout limit exceeded/,
    ],
    ['of no statement', (response) => response.end('{"results":[]}\n'), /after 0 of 1 statements/],
    ['without a word', (response) => response.end(), /after 0 of 1 statements/],
    ['that is a web page', (response) => response.end(HTML), /a web page \('Sign in'\)/],
    [
      'of another status',
      (response) => response.writeHead(401).end('{"message":"unauthorized access"}'),
      /401 unauthorized access; it refuses the token/,
    ],
    [
      'that stops, and says nothing more',
      (response) => void response.write(line(0)),
      /nothing whole within 30 s/,
    ],
  ])('one %s is an error, not a shorter answer', async (_, points, sentence) => {
    answeringWith(points);
    const store = storeOf(100);
    await expect(read(store)).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
      message: expect.stringMatching(sentence) as string,
    });
    answeringWith((response) => response.end(`${line(0)}${line(5000, 10)}`));
    expect(await read(store)).toBe(5010);
    await store.close();
  });
});

/** Exports and SQL over the lake, of a running collector. */
import { execFile, execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, get as httpGet } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { tableFromIPC } from '@uwdata/flechette';
import { transformSync } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Channel } from '../../collector/api/channel.ts';
import { Collector } from '../../collector/collector.ts';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { openDuckDb, quote } from '../../collector/duckdb/database.ts';
import { hashOf } from '../../shared/access/tokens.ts';
import { environmentName, loadConfig } from '../../shared/config/spec.ts';
import { realEnv } from '../../shared/env/env.ts';
import { ROOT, temporaryFolder, until } from '../support/process.ts';

const POINTS = 12_000;
const ALL = { authorization: 'Bearer all' };

/** The client that docs/api.md shows, waiting less. */
function shownClient(language: 'python' | 'typescript'): string {
  const page = readFileSync(join(ROOT, 'docs/api.md'), 'utf8');
  const [, section = ''] = page.split('## An export that is cut');
  const [code = ''] = section.split(`\`\`\`${language}\n`)[1]?.split('```') ?? [];
  return code.replace('sleep(1)', 'sleep(0.01)').replace('resolve, 1000', 'resolve, 10');
}

/** Hands on what `base` answers, and cuts the first answers after so many bytes, in the middle of a line mostly. */
async function startCutting(base: string, cuts: readonly number[]) {
  let asked = 0;
  const server = createServer((request, response) => {
    let left = cuts[asked++] ?? Number.POSITIVE_INFINITY;
    const headers = { ...request.headers, 'accept-encoding': 'identity' };
    httpGet(`${base}${request.url}`, { headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 0, answer.headers);
      answer.on('data', (chunk: Buffer) => {
        if (left <= 0) return;
        if (chunk.length < left) response.write(chunk);
        else response.write(chunk.subarray(0, left), () => request.socket.destroy());
        left -= chunk.length;
        if (left <= 0) answer.destroy();
      });
      answer.on('end', () => response.end());
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo; // Of TCP.
  return { url: `http://127.0.0.1:${port}`, asked: () => asked, close: () => server.close() };
}

function hasPython(): boolean {
  try {
    execFileSync('python3', ['-c', 'import http.client, urllib.request'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** As DuckDB reads them. */
async function parquetRows(
  bytes: Buffer,
  columns = 'measurement, field, tags, epoch_ms(time) AS time, value, value_text, value_bool',
): Promise<Record<string, unknown>[]> {
  const path = join(temporaryFolder(), 'a.parquet');
  writeFileSync(path, bytes);
  const instance = await openDuckDb(':memory:', { memoryBytes: 256 * 1024 ** 2, files: true });
  const connection = await instance.connect();
  try {
    const sql = `SELECT ${columns} FROM read_parquet(${quote(path)})`;
    return (await connection.runAndReadAll(sql)).getRowObjects();
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

describe('exports', () => {
  let collector: Collector;
  let base: string;
  const get = (path: string, headers: Record<string, string> = ALL): Promise<Response> =>
    fetch(`${base}${path}`, { headers });
  const sql = (text: string, headers: Record<string, string> = ALL): Promise<Response> =>
    fetch(`${base}/api/v1/sql`, { method: 'POST', headers, body: JSON.stringify({ sql: text }) });
  const lines = async (response: Response): Promise<Record<string, unknown>[]> =>
    (await response.text())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);

  beforeAll(async () => {
    const tokens = join(temporaryFolder(), 'tokens');
    const line = (name: string, scope: string, reach: string): string =>
      `${name}:${scope}:${reach}:${hashOf(name).toString('hex')}`;
    const list = [
      line('all', 'admin', '*'),
      line('own', 'read', 'here'),
      line('other', 'read', 'other'),
    ];
    writeFileSync(tokens, `${list.join('\n')}\n`, { mode: 0o600 });
    collector = new Collector(
      realEnv(),
      loadConfig(COLLECTOR_CONFIG, {
        flags: {
          data: temporaryFolder(),
          uplink: '127.0.0.1:0',
          http: '127.0.0.1:0',
          'tokens-file': tokens,
        },
        environment: {
          [environmentName('ingest.httpGateway')]: 'here',
          [environmentName('lake.flushSeconds')]: '1',
        },
      }),
      () => undefined,
    );
    const { http } = await collector.start(undefined);
    base = `http://127.0.0.1:${http?.port}`;
    const body = Array.from(
      { length: POINTS },
      (_, n) => `load,part=${n % 3} v=${n / 8},s="a ${n % 5}, b" ${1_700_000_000_000 + n}`,
    );

    const written = await fetch(`${base}/write?precision=ms`, {
      method: 'POST',
      headers: ALL,
      body: body.join('\n'),
    });
    expect(written.status).toBe(204);
    await until('all points are stored', async () => {
      const all = await lines(await get('/api/v1/export?format=jsonl'));
      return all.filter(({ time }) => time !== undefined).length === 2 * POINTS ? true : undefined;
    });
  });
  afterAll(() => collector.close());

  it('JSON lines have every point once, cursors between them and an end', async () => {
    const all = await lines(await get('/api/v1/export?format=jsonl&field=v'));
    expect(all.at(-1)).toEqual({ end: true });
    const points = all.filter(({ time }) => time !== undefined);
    expect(new Set(points.map(({ time }) => time)).size).toBe(POINTS);
    expect(points[0]).toMatchObject({
      measurement: 'load',
      field: 'v',
      tags: { gateway: 'here', part: '0' },
      time: 1_700_000_000_000,
      value: 0,
    });
    expect(all.filter(({ cursor }) => cursor !== undefined).length).toBeGreaterThan(2);
  });

  it('one that is cut goes on behind each of its cursors, and is the same in all', async () => {
    const whole = await lines(await get('/api/v1/export?format=jsonl'));
    const points = (list: Record<string, unknown>[]): string[] =>
      list.filter(({ time }) => time !== undefined).map((each) => JSON.stringify(each));
    for (const [at, { cursor }] of whole.entries()) {
      if (typeof cursor !== 'string') continue;
      const rest = await lines(await get(`/api/v1/export?format=jsonl&cursor=${cursor}`));
      expect([...points(whole.slice(0, at)), ...points(rest)]).toEqual(points(whole));
    }
  });

  describe('the client that the page shows has each row once, however often it is cut', () => {
    const CUTS = [1, 500_003, 777_777, 1_234_567, 400_000];
    type Exported = (url: string, headers: object) => AsyncIterable<Record<string, unknown>>;

    it.each([
      ['points', '/api/v1/export?format=jsonl'],
      ['raw messages', '/api/v1/export/raw?format=jsonl'],
    ])('in TypeScript: %s', async (_what, path) => {
      const file = join(temporaryFolder(), 'exported.mjs');
      writeFileSync(file, transformSync(shownClient('typescript'), { loader: 'ts' }).code);
      // As the page has it.
      const { exported } = (await import(pathToFileURL(file).href)) as { exported: Exported };
      const whole = (await lines(await get(path))).filter((each) => !('cursor' in each));
      const cutting = await startCutting(base, CUTS);
      const rows: Record<string, unknown>[] = [];
      for await (const row of exported(`${cutting.url}${path}`, ALL)) rows.push(row);
      cutting.close();
      expect(cutting.asked()).toBeGreaterThan(2);
      expect([...rows, { end: true }]).toEqual(whole);
      const refused = exported(`${base}${path}&cursor=x`, ALL)[Symbol.asyncIterator]();
      await expect(refused.next()).rejects.toThrow('cursor');
    });

    it.runIf(hasPython())('in Python', async () => {
      const path = '/api/v1/export?format=jsonl';
      const [code = ''] = shownClient('python').split('\nprint(');
      const script = `${code}\nimport sys\nfor row in export(*sys.argv[1:]): print(json.dumps(row))`;
      const cutting = await startCutting(base, CUTS);
      const { stdout } = await promisify(execFile)(
        'python3',
        ['-c', script, `${cutting.url}${path}`, 'all'],
        { maxBuffer: 64 * 1024 * 1024 },
      );
      cutting.close();
      expect(cutting.asked()).toBe(CUTS.length + 1);
      const rows = stdout.trim().split('\n');
      const whole = (await lines(await get(path))).filter(({ time }) => time !== undefined);
      expect(rows.map((row) => JSON.parse(row) as unknown)).toEqual(whole);
    });
  });

  /** Rows of a format that may have been cut, each as a text without its cursor; and the last cursor, with the rows up to it. */
  const rowsOf = async (format: string, bytes: Buffer): Promise<Record<string, unknown>[]> => {
    if (format === 'arrow') return tableFromIPC(bytes, { useBigInt: false }).toArray();
    const columns = 'measurement, field, tags, epoch_ms(time) AS time, value, value_text, cursor';
    if (format === 'parquet') return await parquetRows(bytes, columns);
    const [, ...rows] = bytes.toString('utf8').split('\r\n').slice(0, -1);
    return rows.map((row) => ({
      row: row.slice(0, row.lastIndexOf(',')),
      cursor: row.slice(row.lastIndexOf(',') + 1),
    }));
  };
  const plainText = (rows: readonly Record<string, unknown>[]): string[] =>
    rows.map((row) => JSON.stringify({ ...row, time: Number(row['time']), cursor: '' }));

  it.each([
    'csv',
    'parquet',
    'arrow',
  ])('%s goes on behind any of its cursors, in pieces of a limit too, and is the same in all', async (format) => {
    const ask = async (more: string): Promise<Record<string, unknown>[]> => {
      const response = await get(`/api/v1/export?format=${format}&cursors=true${more}`);
      expect(response.status).toBe(200);
      return await rowsOf(format, Buffer.from(await response.arrayBuffer()));
    };
    const whole = await ask('');
    const cursorOf = (row: Record<string, unknown> | undefined): string =>
      (row?.['cursor'] as string | null | undefined) ?? '';
    expect(whole).toHaveLength(2 * POINTS);
    expect(cursorOf(whole.at(-1))).not.toBe('');
    const cursors = whole.flatMap((row, at) => (cursorOf(row) === '' ? [] : [at]));
    expect(cursors.length).toBeGreaterThan(2);
    const [, at = 0] = cursors;
    const rest = await ask(`&cursor=${cursorOf(whole[at])}`);
    expect([...plainText(whole.slice(0, at + 1)), ...plainText(rest)]).toEqual(plainText(whole));
    const pieces: Record<string, unknown>[] = [];
    for (let cursor = ''; ; ) {
      const piece = await ask(`&limit=7001${cursor}`);
      pieces.push(...piece);
      if (piece.length < 7001) break;
      cursor = `&cursor=${cursorOf(piece.at(-1))}`;
    }
    expect(plainText(pieces)).toEqual(plainText(whole));
  });

  it('who may see one gateway is told no cursor that names another one, and can use none', async () => {
    const other = { authorization: 'Bearer other' };
    const names = (text: string): string[] =>
      [...text.matchAll(/[A-Za-z0-9_-]{20,}/g)].map(([each]) =>
        Buffer.from(each, 'base64url').toString('latin1'),
      );
    for (const path of ['export?format=jsonl', 'export?format=csv&cursors=true', 'query?limit=5']) {
      const text = await (await get(`/api/v1/${path}`, other)).text();
      expect(
        names(text).filter((each) => each.includes('load')),
        path,
      ).toEqual([]);
    }
    const [line = ''] =
      (await (await get('/api/v1/export?format=jsonl')).text()).match(/\{"cursor.*/) ?? [];
    const { cursor } = JSON.parse(line) as { cursor: string };
    for (const path of ['export?format=jsonl', 'query?limit=5'])
      expect((await get(`/api/v1/${path}&cursor=${cursor}`, other)).status, path).toBe(400);
  });

  it('CSV is as RFC 4180 has it', async () => {
    const response = await get(
      '/api/v1/export?format=csv&field=s_text&tag.part=0&to=1700000000001',
    );
    expect(response.headers.get('content-type')).toMatch(/^text\/csv/);
    const [head, row] = (await response.text()).split('\r\n');
    expect(head).toBe('measurement,field,tags,time,value');
    expect(row).toMatch(/^load,s_text,"\{""[^}]*\}",2023-11-14T22:13:20\.000Z,"a 0, b"$/);
  });

  it.each([
    ['parquet', {}],
    ['arrow', {}],
    ['parquet', { 'accept-encoding': 'identity' }],
    ['arrow', { 'accept-encoding': 'identity' }],
  ])('%s has the same points as JSON lines, packed or not: %o', async (format, headers) => {
    const points = (await lines(await get('/api/v1/export?format=jsonl'))).flatMap((each) =>
      each['time'] === undefined ? [] : [each],
    );
    const response = await get(`/api/v1/export?format=${format}`, { ...ALL, ...headers });
    expect(response.headers.get('content-type')).toBe(
      `application/vnd.apache.${format === 'arrow' ? 'arrow.stream' : format}`,
    );
    const bytes = Buffer.from(await response.arrayBuffer());
    const rows =
      format === 'arrow'
        ? tableFromIPC(bytes, { useBigInt: false }).toArray()
        : await parquetRows(bytes);
    expect(rows.length).toBe(points.length);
    const plain = rows.map((row) => [
      row['measurement'],
      row['field'],
      JSON.parse(String(row['tags'])),
      Number(row['time']),
      row['value'] ?? row['value_text'],
    ]);
    expect(plain).toEqual(
      points.map(({ measurement, field, tags, time, value }) => [
        measurement,
        field,
        tags,
        time,
        value,
      ]),
    );
  });

  it('Parquet and Arrow of nothing are whole all the same; one that was cut is told from it', async () => {
    const ask = async (format: string, more = ''): Promise<Buffer> =>
      Buffer.from(await (await get(`/api/v1/export?format=${format}${more}`)).arrayBuffer());
    expect(await parquetRows(await ask('parquet', '&measurement=nothing'))).toEqual([]);
    expect(tableFromIPC(await ask('arrow', '&measurement=nothing')).numRows).toBe(0);
    const cut = (await ask('parquet')).subarray(0, -20);
    await expect(parquetRows(cut)).rejects.toThrow();
    const end = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    expect([...(await ask('arrow')).subarray(-8)]).toEqual(end);
  });

  it('who may see one gateway gets its points alone, and a question that is none is told', async () => {
    const other = { authorization: 'Bearer other' };
    expect(
      (await lines(await get('/api/v1/export?format=jsonl', other))).filter(
        ({ time }) => time !== undefined,
      ),
    ).toEqual([]);
    expect((await get('/api/v1/export?format=jsonl&tag.gateway=here', other)).status).toBe(403);
    for (const path of [
      '',
      '?format=xlsx',
      '?format=csv&cursor=WyJ4IiwxLDFd',
      '?format=parquet&cursor=WyJ4IiwxLDFd',
      '?format=arrow&cursor=WyJ4IiwxLDFd',
      '?format=jsonl&cursor=x',
      '?format=jsonl&from=2&to=1',
    ])
      expect((await get(`/api/v1/export${path}`)).status, path).toBe(400);
  });

  it('SQL over the lake gives columns, rows and an end', async () => {
    const all = await until('the lake has them', async () => {
      const answer = await lines(
        await sql(
          "SELECT tags['part'] AS part, count(*) AS n, max(time) AS newest, max(time_ns) AS ns FROM readings GROUP BY ALL ORDER BY part",
        ),
      );
      return answer.length === 5 ? answer : undefined;
    });
    expect(all[0]).toEqual({ columns: ['part', 'n', 'newest', 'ns'] });
    expect(all[1]).toEqual([
      '0',
      POINTS / 3,
      expect.stringMatching(/^2023-11-14 22:13:3\d\.\d+\+00$/),
      expect.stringMatching(/^17000000\d+$/),
    ]);
    expect(all[4]).toEqual({ end: true });
  });

  it.each([
    ["SELECT * FROM read_csv('/etc/passwd')"],
    ["SELECT * FROM '/etc/passwd'"],
    ["COPY (SELECT 1) TO '/tmp/x.csv'"],
    ["SELECT getenv('HOME')"],
    ['SELECT 1; SELECT 2'],
    ['DROP VIEW readings'],
    ['SELECT nosuch FROM readings'],
    ['SELEC'],
    [''],
  ])('SQL that is not one SELECT of the lake is refused: %s', async (text) => {
    const response = await sql(text);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      error: { message: expect.any(String) as string },
    });
  });

  it('SQL is for who may see everything', async () => {
    expect((await sql('SELECT 1', { authorization: 'Bearer own' })).status).toBe(403);
    expect((await sql('SELECT 1', {})).status).toBe(401);
  });

  describe('of raw messages', () => {
    const raw = (more: string, headers: Record<string, string> = ALL): Promise<Response> =>
      get(`/api/v1/export/raw${more}`, headers);
    const messages = async (more = ''): Promise<Record<string, unknown>[]> =>
      await lines(await raw(`?format=jsonl${more}`));
    beforeAll(async () => {
      for (let at = 0; at < 300; at++)
        await fetch(`${base}/api/v1/ingest?topic=raw/${at}`, {
          method: 'POST',
          headers: ALL,
          body: `{"a":${at}}`,
        });
      await until('the lake to have them', async () =>
        (await messages()).filter(({ topic }) => String(topic).startsWith('raw/')).length === 300
          ? true
          : undefined,
      );
    });

    it('JSON lines have each as the gateway had it, and go on behind every cursor', async () => {
      const whole = await messages();
      expect(whole.at(-1)).toEqual({ end: true });
      const given = whole.filter(({ sequence }) => sequence !== undefined);
      const own = given.filter(({ topic }) => String(topic).startsWith('raw/'));
      expect(own.map(({ topic }) => topic)).toEqual(own.map((_, at) => `raw/${at}`));
      expect(Buffer.from(String(own[7]?.['payload']), 'base64').toString()).toBe('{"a":7}');
      expect(own[7]).toMatchObject({ gateway: 'here', qos: 1, retain: false });
      const cursors = [...whole.entries()].flatMap(([at, { cursor }]) =>
        typeof cursor === 'string' ? [{ at, cursor }] : [],
      );
      expect(cursors.length).toBeGreaterThan(1);
      for (const { at, cursor } of cursors) {
        const rest = (await messages(`&cursor=${cursor}`)).slice(0, -1);
        const all = [...whole.slice(0, at), ...rest];
        expect(all.filter(({ sequence }) => sequence !== undefined)).toEqual(given);
      }
    });

    it('a formula is a text in CSV for spreadsheets, of names and of values', async () => {
      await fetch(`${base}/api/v1/ingest?topic=${encodeURIComponent('@SUM(1)')}`, {
        method: 'POST',
        headers: ALL,
        body: '{"=a":"=HYPERLINK(\\"http://x\\",\\"y\\")","n":-1}',
      });
      const points = (more: string): Promise<string> =>
        get(`/api/v1/export?format=csv&measurement=${encodeURIComponent('@SUM(1)')}${more}`).then(
          (response) => response.text(),
        );
      const rows = await until('its points', async () => {
        const text = await points('');
        return text.split('\r\n').length === 4 ? text : undefined;
      });
      expect(rows).toContain('\r\n@SUM(1),=a_text,');
      const safe = await points('&spreadsheet=true');
      expect(safe).toContain("\r\n'@SUM(1),'=a_text,");
      expect(safe).toContain(`,"'=HYPERLINK(""http://x"",""y"")"\r\n`);
      expect(safe).toMatch(/,-1\r\n/);
      const messages = await until('the message', async () => {
        const text = await (await raw('?format=csv&spreadsheet=true')).text();
        return text.includes('SUM') ? text : undefined;
      });
      expect(messages).toContain(",'@SUM(1),");
    });

    it.each(['csv', 'parquet', 'arrow'])('%s has the same', async (format) => {
      const given = (await messages()).filter(({ sequence }) => sequence !== undefined);
      const bytes = Buffer.from(await (await raw(`?format=${format}`)).arrayBuffer());
      if (format === 'csv') {
        expect(bytes.toString().trim().split('\r\n')).toHaveLength(given.length + 1);
        return;
      }
      const rows =
        format === 'arrow' ? tableFromIPC(bytes).toArray() : await parquetRows(bytes, '*');
      const payload = (value: unknown): string =>
        Buffer.from((value as { bytes?: Uint8Array }).bytes ?? (value as Uint8Array)).toString(
          'base64',
        );
      expect(
        rows.map((row) => [row['topic'], Number(row['sequence']), payload(row['payload'])]),
      ).toEqual(given.map(({ topic, sequence, payload: text }) => [topic, sequence, text]));
    });

    it('who may see one gateway gets its messages alone; a question that is none is told', async () => {
      const other = { authorization: 'Bearer other' };
      expect(await lines(await raw('?format=jsonl', other))).toEqual([{ end: true }]);
      expect((await raw('?format=jsonl&gateway=here', other)).status).toBe(403);
      expect(await messages('&gateway=elsewhere')).toEqual([{ end: true }]);
      expect(await messages('&to=2001-01-01')).toEqual([{ end: true }]);
      const forged = Buffer.from(`["2026-01-01","here","x') OR 1=1 --",0]`).toString('base64url');
      expect((await raw(`?format=jsonl&cursor=${forged}`)).status).toBe(200);
      for (const more of [
        '',
        '?format=xlsx',
        '?format=csv&cursor=x',
        '?format=jsonl&cursor=x',
        '?format=jsonl&from=yesterday',
        '?format=jsonl&what=1',
      ])
        expect((await raw(more)).status, more).toBe(400);
    });
  });
});

describe('a channel', () => {
  it('gives each value when it is taken, and the error that ends it', async () => {
    const channel = new Channel<number>();
    let put = 0;
    const maker = (async () => {
      for (; put < 5; put++) await channel.put(put);
      channel.end(new Error('over'));
    })();
    const taken: number[] = [];
    await expect(
      (async () => {
        for await (const value of channel) {
          taken.push(value);
          expect(put).toBeLessThanOrEqual(value + 1);
        }
      })(),
    ).rejects.toThrow('over');
    await maker;
    expect(taken).toEqual([0, 1, 2, 3, 4]);
  });

  it('whose taker leaves stops its maker', async () => {
    const channel = new Channel<number>();
    const maker = channel.put(1);
    channel.close();
    await expect(maker).rejects.toThrow('nobody reads');
    await expect(channel.put(2)).rejects.toThrow('nobody reads');
  });
});

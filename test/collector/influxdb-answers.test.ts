/** What stands in InfluxDB's place and answers anything: no memory without bounds, and one sentence. */
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { InfluxHttp } from '../../collector/store/influxdb-http.ts';
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

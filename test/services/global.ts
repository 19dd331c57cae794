/**
 * Once a run of vitest: a folder for all temporary ones, which goes at the end, and the servers that its files share,
 * each started when the first file asks for it (test/services/shared.ts) and stopped at the end: those that take seconds of
 * a core to start. Files share by names of their own: a topic prefix, a folder. Who kills its server starts one of its own.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { JAVA_FOR_A_MINUTE, startHdfs, startKafka, type Server } from './servers.ts';

const STARTS: Record<string, () => Promise<Server>> = {
  kafka: startKafka,
  hdfs: startHdfs,
};

/** Each project of a run calls it: the first one makes what all of them share, and ends it. */
export default async function setup(): Promise<(() => Promise<void>) | undefined> {
  if (process.env['HEADWATER_TEST_FOLDER'] !== undefined) return undefined;
  const folder = mkdtempSync(join(tmpdir(), 'headwater-run-'));
  process.env['HEADWATER_TEST_FOLDER'] = folder;
  process.env['JAVA_TOOL_OPTIONS'] ??= JAVA_FOR_A_MINUTE;
  const started = new Map<string, Promise<Server>>();
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const name = (request.url ?? '').slice(1);
    const start = STARTS[name];
    if (start === undefined) {
      response.writeHead(404).end(`no server is called '${name}'`);
      return;
    }
    let server = started.get(name);
    if (server === undefined) started.set(name, (server = start()));
    try {
      response.end(JSON.stringify(await server));
    } catch (error) {
      response.writeHead(500).end(String(error));
    }
  };
  const http = createServer((request, response) => void answer(request, response));
  // A server's first start takes longer than a client usually waits.
  http.requestTimeout = 0;
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  http.unref();
  process.env['HEADWATER_TEST_SERVICES'] =
    `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  return async () => {
    http.close();
    await Promise.all(
      [...started.values()].map(async (server) => (await server.catch(() => undefined))?.stop()),
    );
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  };
}

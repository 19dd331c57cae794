/** A gateway asks again for its certificate when its collector says so, no sooner and no later. */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { joinTokenText } from '../../shared/access/join-token.ts';
import { Authority } from '../support/certificates.ts';
import { saved } from '../support/enroll-site.ts';
import { runGateway } from '../support/gateway.ts';
import { temporaryFolder, until } from '../support/process.ts';

it('Retry-After counts, where a collector is busy and where a person has to say yes', async () => {
  const authority = new Authority(join(temporaryFolder(), 'ca'));
  const { cert, key } = authority.issue({ name: 'c', hosts: ['127.0.0.1'] });
  const own = readFileSync(authority.cert);
  const chain = Buffer.concat([readFileSync(cert), own]);
  const asked: number[] = [];
  const server = createServer({ cert: chain, key: readFileSync(key) }, (request, response) => {
    request.resume().on('end', () => {
      asked.push(performance.now());
      const isFirst = asked.length === 1;
      response.writeHead(isFirst ? 503 : 202, { 'retry-after': isFirst ? '2' : '1' }).end('{}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const token = joinTokenText({
    gateway: 'roof',
    urls: [`https://127.0.0.1:${port}`],
    collectors: ['mqtts://127.0.0.1:1'],
    fingerprint: new X509Certificate(own).fingerprint256,
    secret: 's'.repeat(32),
  });
  const running = await runGateway(temporaryFolder(), {}, { id: '', join: saved(token) });
  try {
    // Its own way would be within a second, and after ten.
    await until('three questions', () => asked.length >= 3 || undefined, 9000);
    const [first = 0, second = 0, third = 0] = asked;
    expect(second - first).toBeGreaterThanOrEqual(1990);
    expect(third - second).toBeGreaterThanOrEqual(990);
  } finally {
    await running.gateway.close();
    server.closeAllConnections();
    server.close();
  }
});

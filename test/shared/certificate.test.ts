/** A certificate that ends while a server shows it. */
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { certificateHealth } from '../../shared/access/tls-metrics.ts';
import { ServerTls } from '../../shared/access/tls.ts';
import { Authority } from '../support/certificates.ts';
import { temporaryFolder, until } from '../support/process.ts';

it('one that has expired is told, and its successor is well', async () => {
  const folder = temporaryFolder();
  const authority = new Authority(join(folder, 'ca'));
  const names = { name: 'x', hosts: ['127.0.0.1'] };
  const old = authority.issue({ ...names, from: '20200101000000Z', to: '20210101000000Z' });
  const files = { certFile: old.cert, keyFile: old.key, caFile: '', crlFile: '' };
  const said: string[] = [];
  const tls = new ServerTls(files, 'TLS certificate', ({ event, text }) =>
    said.push(`${event}: ${text}`),
  );
  expect(certificateHealth({ tls })).toMatchObject([
    {
      why: expect.stringMatching(/has expired on 2021-01-01T00:00:00.000Z: renew it/),
      isEssential: false,
    },
  ]);
  expect(said).toEqual([expect.stringContaining('certificate_expired: ')]);
  const next = authority.issue(names);
  copyFileSync(next.key, old.key);
  copyFileSync(next.cert, old.cert);
  await until('it to be taken', () => tls.expired === undefined, 20_000);
  expect(said.at(-1)).toMatch(/is valid$/);
  tls.stop();
  expect(certificateHealth({ tls: undefined })).toEqual([]);
});

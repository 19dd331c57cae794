/** The ObjectStore contract on real servers: S3 (versitygw) and HDFS, and what each says when it cannot. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HdfsObjects } from '../../collector/lake/hdfs.ts';
import { S3Objects } from '../../collector/lake/s3.ts';
import type { ObjectStore } from '../../collector/lake/object-store.ts';
import { objectStoreContract } from '../contract/object-store.ts';
import { startS3, type S3Server } from '../services/servers.ts';
import { sharedHdfs, type SharedHdfs } from '../services/shared.ts';
import { temporaryFolder } from '../support/process.ts';

let s3: S3Server;
let hdfs: SharedHdfs;

beforeAll(async () => {
  s3 = await startS3();
  // The client looks for them where AWS's tools do.
  Object.assign(process.env, s3.credentials);
  hdfs = await sharedHdfs();
});
afterAll(async () => {
  await s3.stop();
});

const onS3 = (bucket = s3.bucket): ObjectStore =>
  new S3Objects({ bucket, prefix: 'some/where/', endpoint: s3.endpoint, region: 'us-east-1' });
const onHdfs = (): ObjectStore =>
  new HdfsObjects({
    base: `http://${hdfs.address}`,
    folder: `/${hdfs.folder}/where`,
    user: 'headwater',
  });

// S3 lists a thousand at a time.
objectStoreContract('S3', () => Promise.resolve(onS3()), 1001);
objectStoreContract('HDFS', () => Promise.resolve(onHdfs()), 40);

describe('a store that cannot', () => {
  const message = async (store: ObjectStore): Promise<string> => {
    const file = join(temporaryFolder(), 'x');
    writeFileSync(file, 'x');
    const error: unknown = await store.put('a/x', file).catch((caught: unknown) => caught);
    return error instanceof Error ? error.message : 'it did';
  };

  it('S3: no bucket, a wrong secret, no server: each one sentence that says what to do', async () => {
    expect(await message(onS3('nobucket'))).toMatch(
      /s3:\/\/nobucket\/some\/where\/: writing a\/x: there is no bucket 'nobucket'; create it/,
    );
    const { AWS_SECRET_ACCESS_KEY: secret } = process.env;
    process.env['AWS_SECRET_ACCESS_KEY'] = 'wrong';
    expect(await message(onS3())).toMatch(/access is refused .*AWS_ACCESS_KEY_ID/);
    process.env['AWS_SECRET_ACCESS_KEY'] = secret;
    const options = { bucket: 'b', prefix: '', region: 'us-east-1' };
    expect(await message(new S3Objects({ ...options, endpoint: 'http://127.0.0.1:1' }))).toMatch(
      /s3:\/\/b\/: writing a\/x: .*ECONNREFUSED/,
    );
  });

  it('HDFS: no server', async () => {
    const store = new HdfsObjects({ base: 'http://127.0.0.1:1', folder: '/x', user: 'u' });
    expect(await message(store)).toMatch(
      /webhdfs:\/\/127\.0\.0\.1:1\/x: writing a\/x: .*ECONNREFUSED/,
    );
  });
});

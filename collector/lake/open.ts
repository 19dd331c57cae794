/** The one place that knows the object stores' names; it also loads a package that someone else wrote. */
import { isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HeadwaterError } from '../../shared/errors.ts';
import type { CollectorConfig } from '../config.ts';
import { loadPackage } from '../log/open.ts';
import { Lake } from './lake.ts';
import { OBJECT_STORE_CONTRACT_VERSION, type ObjectStore } from './object-store.ts';

/** What a third-party package exports: `contract` names the version it was written for. */
export interface ObjectStorePackage {
  contract: { objectStore: number };
  createObjectStore(config: CollectorConfig): ObjectStore;
}

const invalid = (text: string): never => {
  throw new HeadwaterError('CONFIG_INVALID', text);
};

/** A folder's path without `/` at its ends, '' for none. */
const trimmed = (path: string): string => path.replaceAll(/^\/+|\/+$/g, '');

/** Throws CONFIG_INVALID, ADAPTER_MISSING, ADAPTER_CONTRACT; `open()` does the work. */
export async function createObjectStore(config: CollectorConfig): Promise<ObjectStore> {
  const name = config.lake;
  if (name === 'local' || name.startsWith('file:') || isAbsolute(name) || name.startsWith('.')) {
    const { LocalObjects } = await import('./local.ts');
    if (name === 'local') return new LocalObjects(join(config.data, 'lake'));
    return new LocalObjects(name.startsWith('file:') ? fileURLToPath(name) : resolve(name));
  }
  if (name.startsWith('s3://')) {
    const [, bucket = '', prefix = ''] = /^s3:\/\/([^/]*)\/?(.*)$/.exec(name) ?? [];
    if (bucket === '') invalid(`--lake ${name}: it names no bucket (s3://BUCKET/PREFIX)`);
    const { S3Objects } = await import('./s3.ts');
    const folder = trimmed(prefix);
    return new S3Objects({
      bucket,
      prefix: folder === '' ? '' : `${folder}/`,
      endpoint: config['lake.s3Endpoint'],
      region: config['lake.s3Region'],
    });
  }
  if (name.startsWith('webhdfs://') || name.startsWith('webhdfss://')) {
    const url = new URL(name.replace(/^webhdfs/, 'http'));
    if (url.port === '') invalid(`--lake ${name}: it names no port (webhdfs://HOST:PORT/PATH)`);
    const { HdfsObjects } = await import('./hdfs.ts');
    const path = trimmed(decodeURIComponent(url.pathname));
    return new HdfsObjects({
      base: `${url.protocol}//${url.host}`,
      folder: path === '' ? '' : `/${path}`,
      user: url.searchParams.get('user') ?? 'headwater',
    });
  }
  const adapter = (await loadPackage(name, '--lake')) as Partial<ObjectStorePackage>;
  if (
    adapter.contract?.objectStore !== OBJECT_STORE_CONTRACT_VERSION ||
    typeof adapter.createObjectStore !== 'function'
  )
    throw new HeadwaterError(
      'ADAPTER_CONTRACT',
      `--lake ${name}: the package provides no object store of contract version ${OBJECT_STORE_CONTRACT_VERSION}`,
    );
  return adapter.createObjectStore(config);
}

/** Undefined when there is to be none. Throws CONFIG_INVALID, ADAPTER_MISSING, ADAPTER_CONTRACT. */
export async function createLake(config: CollectorConfig): Promise<Lake | undefined> {
  if (config.lake === 'none') return undefined;
  return new Lake(await createObjectStore(config), {
    folder: config.data,
    memoryBytes: config['lake.memoryBytes'],
    cacheBytes: config['lake.cacheBytes'],
  });
}

/** The one place that knows the object stores' names; it also loads a package that someone else wrote. */
import { isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkLakeKinds } from '../../shared/config/folder-kinds.ts';
import type { AnyDefinition, ObjectStoreDefinition } from '../../contracts/define.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { loadAdapter } from '../adapters.ts';
import type { CollectorConfig } from '../config.ts';
import { made } from '../guard.ts';
import { GuardedObjects, OBJECT_STORE_METHODS } from './guarded.ts';
import { Lake } from './lake.ts';
import { OBJECT_STORE_CONTRACT_VERSION, type ObjectStore } from './object-store.ts';

export interface LakeContext {
  config: CollectorConfig;
  notify: Notify;
  nowMs: () => number;
}

const invalid = (text: string): never => {
  throw new HeadwaterError('CONFIG_INVALID', text);
};

/** A folder's path without `/` at its ends, '' for none. */
const trimmed = (path: string): string => path.replaceAll(/^\/+|\/+$/g, '');

/** Throws CONFIG_INVALID, DATA_UNUSABLE, ADAPTER_MISSING, ADAPTER_CONTRACT; `open()` does the work. */
export async function createObjectStore(context: LakeContext): Promise<ObjectStore> {
  const { config, notify, nowMs } = context;
  const name = config.lake;
  if (name === 'local' || name.startsWith('file:') || isAbsolute(name) || name.startsWith('.')) {
    const { LocalObjects } = await import('./local.ts');
    if (name === 'local') return new LocalObjects(join(config.data, 'lake'));
    const folder = name.startsWith('file:') ? fileURLToPath(name) : resolve(name);
    await checkLakeKinds(folder);
    return new LocalObjects(folder);
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
  if (name.startsWith('hdfs://'))
    invalid(
      `--lake ${name}: HDFS is spoken to by WebHDFS: webhdfs://HOST:9870/PATH, as dfs.namenode.http-address has it`,
    );
  type Given = ObjectStoreDefinition & AnyDefinition;
  const version = OBJECT_STORE_CONTRACT_VERSION;
  const found = await loadAdapter<Given>('objectStore', version, name, '--lake', config);
  const { definition, address, options } = found;
  const folder = join(config.data, `lake-${definition.name}`);
  const objects = made(
    `--lake ${name}`,
    () => definition.create({ address, options, folder, notify, nowMs }),
    OBJECT_STORE_METHODS,
  );
  return new GuardedObjects(objects, definition.name);
}

/** Undefined when there is to be none. Throws CONFIG_INVALID, ADAPTER_MISSING, ADAPTER_CONTRACT. */
export async function createLake(context: LakeContext): Promise<Lake | undefined> {
  const { config } = context;
  if (config.lake === 'none') return undefined;
  return new Lake(await createObjectStore(context), {
    folder: config.data,
    memoryBytes: config['lake.memoryBytes'],
    cacheBytes: config['lake.cacheBytes'],
  });
}

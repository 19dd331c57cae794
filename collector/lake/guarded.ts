/** An object store of somebody else's package: see `collector/guard.ts`. */
import type { Time } from '../../shared/env/env.ts';
import { Guard, NOTHING, WRITE_MS, isListOf, isObject, isText, isWhole, shape } from '../guard.ts';
import type { ObjectInfo, ObjectStore } from './object-store.ts';

const BYTES = shape<Uint8Array>('bytes', (value) => value instanceof Uint8Array);
const PATH = shape<string | undefined>('a path', (value) => value === undefined || isText(value));

/** As the contract has them: what is asked for, in order, each once. */
const listOf = (prefix: string) =>
  shape<ObjectInfo[]>(
    `a list of objects under '${prefix}' in the order of their keys, with bytes and version`,
    (value) =>
      isListOf(
        (each) =>
          isObject(each) &&
          isText(each['key']) &&
          isWhole(each['bytes']) &&
          isText(each['version']),
      )(value) &&
      (value as ObjectInfo[]).every(
        ({ key }, at, all) =>
          key.startsWith(prefix) && (at === 0 || (all[at - 1]?.key ?? '') < key),
      ),
  );

export const OBJECT_STORE_METHODS = [
  ...(['open', 'put', 'get', 'list', 'remove', 'path', 'close'] as const),
] as const;

export class GuardedObjects implements ObjectStore {
  readonly kind: string;
  readonly address: string;
  private readonly objects: ObjectStore;
  private readonly guard: Guard;

  constructor(objects: ObjectStore, name: string, time?: Time) {
    this.objects = objects;
    this.kind = name;
    this.guard = new Guard('lake', name, 'LAKE_UNAVAILABLE', time);
    const address = shape<string>('a text', isText);
    this.address = this.guard.answer(
      'address',
      () => objects.address,
      address,
      () => name,
    );
  }

  open(): Promise<void> {
    return this.guard.write('open', () => this.objects.open());
  }

  put(key: string, file: string): Promise<void> {
    return this.guard.write('put', () => this.objects.put(key, file));
  }

  async get(key: string): Promise<Buffer> {
    const bytes = await this.guard.call('get', () => this.objects.get(key), BYTES, WRITE_MS);
    return Buffer.isBuffer(bytes)
      ? bytes
      : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  list(prefix: string): Promise<ObjectInfo[]> {
    return this.guard.call('list', () => this.objects.list(prefix), listOf(prefix), WRITE_MS);
  }

  async remove(key: string): Promise<void> {
    await this.guard.call('remove', () => this.objects.remove(key), NOTHING);
  }

  path(key: string): string | undefined {
    return this.guard.answer(
      'path',
      () => this.objects.path(key),
      PATH,
      () => undefined,
    );
  }

  close(): Promise<void> {
    return this.guard.close(() => this.objects.close());
  }
}

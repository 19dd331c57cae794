/** The ObjectStore suite finds what is broken: each of these breaks one law, and the case that states it fails. */
import { readFileSync, truncateSync } from 'node:fs';
import { it } from 'vitest';
import {
  OBJECT_STORE_CASES,
  runObjectStoreCase,
  type ObjectStoreUnderTest,
} from '../../contracts/suite/object-store.ts';
import type { ObjectInfo } from '../../contracts/object-store.ts';
import { LocalObjects } from '../../collector/lake/local.ts';
import { failsTheCase } from '../support/broken.ts';
import { temporaryFolder } from '../support/process.ts';

const PAGE = 10;

class CutsOff extends LocalObjects {
  override async put(key: string, file: string): Promise<void> {
    truncateSync(file, Math.min(65_536, readFileSync(file).length));
    await super.put(key, file);
  }
}

class FirstPutStays extends LocalObjects {
  override async put(key: string, file: string): Promise<void> {
    const isThere = await super.get(key).then(
      () => true,
      () => false,
    );
    if (!isThere) await super.put(key, file);
  }
}

class VersionIsTheName extends LocalObjects {
  override async list(prefix: string): Promise<ObjectInfo[]> {
    return (await super.list(prefix)).map((info) => ({ ...info, version: info.key }));
  }
}

class ListHasNoOrder extends LocalObjects {
  override async list(prefix: string): Promise<ObjectInfo[]> {
    return (await super.list(prefix)).toReversed();
  }
}

class ListIsOnePage extends LocalObjects {
  override async list(prefix: string): Promise<ObjectInfo[]> {
    return (await super.list(prefix)).slice(0, PAGE);
  }
}

class NamesAreDecoded extends LocalObjects {
  override async list(prefix: string): Promise<ObjectInfo[]> {
    const infos = await super.list(prefix);
    return infos.map((info) => ({ ...info, key: decodeURIComponent(info.key) }));
  }
}

class NothingIsEmpty extends LocalObjects {
  override async get(key: string): Promise<Buffer> {
    return await super.get(key).catch(() => Buffer.alloc(0));
  }
}

class RemovalIsForgotten extends LocalObjects {
  override remove(): Promise<void> {
    return Promise.resolve();
  }
}

class ListIsStale extends LocalObjects {
  private readonly known = new Map<string, Promise<ObjectInfo[]>>();
  override list(prefix: string): Promise<ObjectInfo[]> {
    const infos = this.known.get(prefix) ?? super.list(prefix);
    this.known.set(prefix, infos);
    return infos;
  }
}

/** In memory, until somebody has time for it. */
class WritesLater extends LocalObjects {
  private readonly held = new Map<string, Buffer>();
  override put(key: string, file: string): Promise<void> {
    this.held.set(key, readFileSync(file));
    return Promise.resolve();
  }
  override async get(key: string): Promise<Buffer> {
    return this.held.get(key) ?? (await super.get(key));
  }
  override async list(prefix: string): Promise<ObjectInfo[]> {
    const own = [...this.held].filter(([key]) => key.startsWith(prefix)).sort();
    return await Promise.resolve(
      own.map(([key, { length, ...bytes }]) => ({ key, bytes: length, version: String(bytes[0]) })),
    );
  }
}

/** Whose server loses, when it ends, what it has just acknowledged. */
class LosesItsLast extends LocalObjects {
  static last: () => Promise<void> = () => Promise.resolve();
  override async put(key: string, file: string): Promise<void> {
    await super.put(key, file);
    LosesItsLast.last = () => super.remove(key);
  }
}

/** Of what a cache would hold, had it fetched anything. */
class PathIsOfNothing extends LocalObjects {
  private isOpen = false;
  override async put(key: string, file: string): Promise<void> {
    this.isOpen = false;
    await super.put(key, file);
    this.isOpen = true;
  }
  override path(key: string): string {
    return this.isOpen ? `${super.path(key)}.cache` : super.path(key);
  }
}

it.each([
  ['an object that is cut off', CutsOff, 'what was put is there, byte for byte'],
  ['a first put that stays', FirstPutStays, 'a second put replaces the first'],
  ['a version that never differs', VersionIsTheName, 'a second put replaces the first'],
  ['a list without an order', ListHasNoOrder, 'a list is of one folder, in order'],
  ['names that are decoded', NamesAreDecoded, 'names with percent signs'],
  ['an empty object for none', NothingIsEmpty, 'what is not there is NOT_FOUND'],
  ['a removal that is forgotten', RemovalIsForgotten, 'what is not there is NOT_FOUND'],
  ['a path of no file', PathIsOfNothing, 'a path is of a file that is there'],
  ['a list of one page', ListIsOnePage, 'more than a page of objects'],
  ['a list of before', ListIsStale, 'a second put replaces the first'],
  ['a put that is written later', WritesLater, 'in another life of the store'],
  ['a put that a crash takes along', LosesItsLast, 'is there after a crash'],
])('%s fails the case that says so', async (_, Broken, name) => {
  const tested = (Tested: typeof LocalObjects): ObjectStoreUnderTest => {
    const folder = temporaryFolder();
    const crash = async (): Promise<void> => {
      const { last } = LosesItsLast;
      LosesItsLast.last = () => Promise.resolve();
      await last();
    };
    return { create: () => new Tested(folder), crash, many: 40 };
  };
  const adapters = { broken: tested(Broken), sound: tested(LocalObjects) };
  await failsTheCase(OBJECT_STORE_CASES, name, adapters, (adapter, { run }) =>
    runObjectStoreCase(adapter, run),
  );
});

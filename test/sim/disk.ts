/**
 * A disk under LevelDB as a model, which misbehaves as the real one was seen to (`docs/fault-tools.md`):
 * F1: after a failed write later ones seem to succeed and are gone after the next open; F2: a write that was reported
 * as failed may be there; F3: a stored byte flips; what was not synced may be lost with the power.
 */
import { HeadwaterError } from '../../shared/errors.ts';
import type { KvDatabase, KvOp, KvRange } from '../../shared/kv/kv.ts';
import type { Recovery } from '../../shared/kv/recover.ts';
import type { BufferStorage } from '../../gateway/buffer/storage.ts';
import type { Salvaged } from '../../gateway/buffer/salvage.ts';
import type { Owner } from './time.ts';

const text = (key: Buffer): string => key.toString('latin1');

function apply(to: Map<string, Buffer>, ops: KvOp[]): void {
  for (const op of ops) {
    if (op.type === 'put') to.set(text(op.key), op.value);
    else to.delete(text(op.key));
  }
}

export interface DiskFaults {
  /** Each chance is asked at each write. */
  failedWrite: number;
  /** Of the failed ones, how many are on disk all the same. */
  failedButWritten: number;
}

export class SimDisk {
  /** What a running system sees. */
  content = new Map<string, Buffer>();
  /** What survives a power cut. */
  private synced = new Map<string, Buffer>();
  /** Written and not synced, in order. */
  private unsynced: KvOp[][] = [];
  full = false;
  faults: DiskFaults = { failedWrite: 0, failedButWritten: 0 };
  /** A control: fsync does nothing. */
  ignoresSync = false;
  failures = 0;
  readonly chance: () => number;

  constructor(chance: () => number) {
    this.chance = chance;
  }

  get bytes(): number {
    let sum = 0;
    for (const [key, value] of this.content) sum += key.length + value.length;
    return sum;
  }

  write(ops: KvOp[], sync: boolean): void {
    apply(this.content, ops);
    this.unsynced.push(ops);
    if (!sync || this.ignoresSync) return;
    for (const each of this.unsynced.splice(0)) apply(this.synced, each);
  }

  /** The power goes: of what was not synced some, in order, may have reached the disk. */
  cutPower(): void {
    const kept = Math.floor(this.chance() * (this.unsynced.length + 1));
    for (const ops of this.unsynced.slice(0, kept)) apply(this.synced, ops);
    this.unsynced = [];
    this.content = new Map(this.synced);
  }

  /** Flips one bit of one stored value whose key begins so. Returns its key. */
  rot(prefix: string): string | undefined {
    for (const each of this.unsynced.splice(0)) apply(this.synced, each);
    const keys = [...this.synced.keys()].filter((key) => key.startsWith(prefix)).sort();
    const key = keys[Math.floor(this.chance() * keys.length)];
    const value = key === undefined ? undefined : this.synced.get(key);
    if (key === undefined || value === undefined || value.length === 0) return undefined;
    const damaged = Buffer.from(value);
    const at = Math.floor(this.chance() * damaged.length);
    damaged[at] = (damaged[at] ?? 0) ^ (1 << Math.floor(this.chance() * 8));
    this.synced.set(key, damaged);
    this.content.set(key, damaged);
    return key;
  }
}

export class SimDatabase implements KvDatabase {
  private readonly disk: SimDisk;
  private readonly owner: Owner;
  private isOpen = false;
  /** After a failed write: what is written from here on is gone with the next open (F1). */
  private poisoned: Map<string, Buffer> | undefined;

  constructor(disk: SimDisk, owner: Owner) {
    this.disk = disk;
    this.owner = owner;
  }

  private wait(): Promise<void> {
    const { disk, owner } = this;
    return new Promise((resolve) =>
      setTimeout(() => {
        // What a dead process was waiting for never comes.
        if (owner.alive) resolve();
      }, disk.chance() * 4),
    );
  }

  async open(): Promise<void> {
    await this.wait();
    if (this.disk.full && this.disk.chance() < 0.5)
      throw new Error('IO error: No space left on device');
    this.isOpen = true;
  }

  async close(): Promise<void> {
    await this.wait();
    this.isOpen = false;
  }

  private get content(): Map<string, Buffer> {
    if (!this.isOpen) throw new HeadwaterError('DATA_UNUSABLE', 'the database is being reopened');
    if (this.poisoned === undefined) return this.disk.content;
    return new Map([...this.disk.content, ...this.poisoned]);
  }

  async get(key: Buffer): Promise<Buffer | undefined> {
    await this.wait();
    return this.content.get(text(key));
  }

  async write(ops: KvOp[], { sync }: { sync: boolean }): Promise<void> {
    await this.wait();
    const { disk } = this;
    if (!this.isOpen) throw new Error('Database is not open');
    if (disk.full || disk.chance() < disk.faults.failedWrite) {
      disk.failures++;
      if (!disk.full && disk.chance() < disk.faults.failedButWritten) disk.write(ops, sync);
      this.poisoned ??= new Map();
      throw new Error(
        disk.full ? 'IO error: No space left on device' : 'IO error: Input/output error',
      );
    }
    if (this.poisoned !== undefined) apply(this.poisoned, ops);
    else disk.write(ops, sync);
  }

  async read(
    { gte, gt, lt, reverse, limit }: KvRange,
    bytesMax: number,
  ): Promise<[Buffer, Buffer][]> {
    await this.wait();
    const [low, above, high] = [gte, gt, lt].map((key) =>
      key === undefined ? undefined : text(key),
    );
    const entries = [...this.content]
      .filter(
        ([key]) =>
          (low === undefined || key >= low) &&
          (above === undefined || key > above) &&
          (high === undefined || key < high),
      )
      .sort(([a], [b]) => (a < b ? -1 : 1));
    if (reverse === true) entries.reverse();
    const found: [Buffer, Buffer][] = [];
    let bytes = 0;
    for (const [key, value] of entries) {
      if (bytes >= bytesMax || found.length === limit) break;
      bytes += key.length + value.length;
      found.push([Buffer.from(key, 'latin1'), value]);
    }
    return found;
  }

  async clear(range: KvRange): Promise<void> {
    const entries = await this.read(range, Number.POSITIVE_INFINITY);
    this.disk.write(
      entries.map(([key]) => ({ type: 'del', key })),
      false,
    );
  }

  async compact(): Promise<void> {
    await this.wait();
  }
}

export async function openSim(disk: SimDisk, owner: Owner): Promise<Recovery> {
  const db = new SimDatabase(disk, owner);
  await db.open();
  return { db, damaged: [], setAside: undefined, carried: 0, copies: undefined };
}

export class SimStorage implements BufferStorage {
  private readonly disk: SimDisk;
  private readonly owner: Owner;

  constructor(disk: SimDisk, owner: Owner) {
    this.disk = disk;
    this.owner = owner;
  }

  open(): Promise<Recovery> {
    return openSim(this.disk, this.owner);
  }

  bytes(): Promise<number> {
    return Promise.resolve(this.disk.bytes);
  }

  freeBytes(): Promise<number> {
    return Promise.resolve(this.disk.full ? 0 : 2 ** 40);
  }

  fillReserve(): Promise<boolean> {
    return Promise.resolve(true);
  }

  releaseReserve(): Promise<void> {
    return Promise.resolve();
  }

  setAside(): Promise<void> {
    return Promise.resolve();
  }

  async *salvage(): AsyncGenerator<Salvaged> {
    // A model's database always opens: nothing is ever set aside whole.
  }
}

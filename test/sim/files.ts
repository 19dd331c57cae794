/**
 * The files of a disk as a model: what a running system sees, and what is there after a power cut. As the models of ALICE
 * (OSDI 14) and of Vector's buffers have it, with nothing that a file system may do left out:
 *
 * - Bytes reach the disk by sectors of 512, in any order; fsync of the file waits for all of them. Without it a sector is as
 *   it was before, or new; the length is the old one, the new one, or between.
 * - A name reaches the disk by fsync of its folder. Without it each change of a folder is there or not, whatever became of
 *   the others; a rename within a folder is one change, between two folders it is one in each. A folder whose own name is
 *   lost takes everything in it along.
 * - fsync may fail once. What it should have written is then thought to be written, and the next one says so: of a file the
 *   sectors stay as they were on the disk, of a folder the changes.
 * - A kill loses nothing of this; what a dead process was doing ends between two calls.
 */
export const SECTOR = 512;

export class FileNode {
  readonly ino: number;
  data: Buffer = Buffer.alloc(0);
  mtimeMs = 0;
  /** On the disk. */
  private stable: Buffer = Buffer.alloc(0);
  /** Sectors that were written since; the length is one of them. */
  private dirty = new Set<number>();
  private isResized = false;

  constructor(ino: number) {
    this.ino = ino;
  }

  truncate(): void {
    for (let at = 0; at < this.data.length; at += SECTOR) this.dirty.delete(at / SECTOR);
    this.isResized = true;
    this.data = Buffer.alloc(0);
  }

  write(bytes: Buffer): void {
    const from = this.data.length;
    this.data = Buffer.concat([this.data, bytes]);
    for (let at = from - (from % SECTOR); at < this.data.length; at += SECTOR)
      this.dirty.add(at / SECTOR);
    this.isResized = true;
  }

  sync(): void {
    if (this.dirty.size === 0 && !this.isResized) return;
    this.settle(() => 0);
    this.dirty.clear();
    this.isResized = false;
  }

  /** Some of it was written; of the rest nobody knows any more. */
  failSync(chance: () => number): void {
    this.settle(chance);
    this.dirty.clear();
    this.isResized = false;
  }

  /** What is on the disk once whatever was on its way has arrived or not. */
  private settle(chance: () => number): void {
    const { data, stable } = this;
    const length = !this.isResized
      ? stable.length
      : chance() < 0.5
        ? data.length
        : stable.length + Math.floor(chance() * (data.length - stable.length));
    const next = Buffer.alloc(Math.max(0, length));
    stable.copy(next);
    for (const sector of this.dirty)
      if (chance() < 0.5) data.copy(next, sector * SECTOR, sector * SECTOR, (sector + 1) * SECTOR);
    this.stable = next;
  }

  cut(chance: () => number): void {
    if (this.dirty.size > 0 || this.isResized) this.settle(chance);
    this.dirty.clear();
    this.isResized = false;
    this.data = this.stable;
  }

  /** Flips a bit, on the disk as well. False: there is none. */
  rot(chance: () => number): boolean {
    if (this.data.length === 0) return false;
    const next = Buffer.from(this.data);
    const at = Math.floor(chance() * next.length);
    next[at] = (next[at] ?? 0) ^ (1 << Math.floor(chance() * 8));
    this.data = next;
    this.sync();
    return true;
  }
}

export type Entry = FileNode | FolderNode;
/** Names and what they are then; undefined: nothing. */
type Change = [name: string, to: Entry | undefined][];

export class FolderNode {
  readonly ino: number;
  entries = new Map<string, Entry>();
  mtimeMs = 0;
  private stable = new Map<string, Entry>();
  private pending: Change[] = [];

  constructor(ino: number) {
    this.ino = ino;
  }

  private static apply(to: Map<string, Entry>, change: Change): void {
    for (const [name, entry] of change)
      if (entry === undefined) to.delete(name);
      else to.set(name, entry);
  }

  change(change: Change): void {
    FolderNode.apply(this.entries, change);
    this.pending.push(change);
  }

  sync(): void {
    for (const change of this.pending.splice(0)) FolderNode.apply(this.stable, change);
  }

  failSync(chance: () => number): void {
    for (const change of this.pending.splice(0))
      if (chance() < 0.5) FolderNode.apply(this.stable, change);
  }

  cut(chance: () => number): void {
    this.failSync(chance);
    this.entries = new Map(this.stable);
    for (const entry of this.entries.values()) entry.cut(chance);
  }
}

const TEXTS: Record<string, string> = {
  EEXIST: 'file already exists',
  EIO: 'i/o error',
  EISDIR: 'illegal operation on a directory',
  ENOENT: 'no such file or directory',
  ENOSPC: 'no space left on device',
  ENOTDIR: 'not a directory',
  ENOTEMPTY: 'directory not empty',
};

export const failure = (code: string, what: string, path: string): Error =>
  Object.assign(new Error(`${code}: ${TEXTS[code] ?? ''}, ${what} '${path}'`), { code });

export interface FileFaults {
  /** Of each call that writes, reads or syncs. */
  failedCall: number;
  /** Of each fsync, and what comes of it is lost: see above. */
  lyingSync: number;
}

export class SimFiles {
  root = new FolderNode(1);
  full = false;
  faults: FileFaults = { failedCall: 0, lyingSync: 0 };
  /** Controls: fsync of a file, or of a folder, does nothing. */
  ignoresFileSync = false;
  ignoresFolderSync = false;
  failures = 0;
  /** An fsync has lied. */
  lied = 0;
  readonly chance: () => number;
  private readonly nowMs: () => number;
  private inodes = 1;

  constructor(chance: () => number, nowMs: () => number) {
    this.chance = chance;
    this.nowMs = nowMs;
  }

  /** What is there is on the disk. */
  settle(): void {
    this.root.sync();
  }

  cutPower(): void {
    this.root.cut(this.chance);
  }

  // ---- what a call does, in one moment ----

  /** Whether the disk fails now. */
  fail(what: string, path: string, isWrite: boolean): void {
    if (isWrite && this.full) {
      this.failures++;
      throw failure('ENOSPC', what, path);
    }
    if (this.chance() >= this.faults.failedCall) return;
    this.failures++;
    throw failure('EIO', what, path);
  }

  private static parts(path: string): string[] {
    return path.split('/').filter((part) => part !== '');
  }

  find(path: string): Entry | undefined {
    let at: Entry | undefined = this.root;
    for (const part of SimFiles.parts(path)) {
      if (!(at instanceof FolderNode)) return undefined;
      at = at.entries.get(part);
    }
    return at;
  }

  /** Throws ENOENT. */
  get(what: string, path: string): Entry {
    const entry = this.find(path);
    if (entry === undefined) throw failure('ENOENT', what, path);
    return entry;
  }

  file(what: string, path: string): FileNode {
    const entry = this.get(what, path);
    if (entry instanceof FileNode) return entry;
    throw failure('EISDIR', what, path);
  }

  private place(what: string, path: string): [FolderNode, string] {
    const parts = SimFiles.parts(path);
    const name = parts.pop() ?? '';
    const folder = this.find(parts.join('/'));
    if (folder instanceof FolderNode) return [folder, name];
    throw failure('ENOENT', what, path);
  }

  private touch(entry: Entry): void {
    entry.mtimeMs = this.nowMs();
  }

  folder(path: string): FolderNode {
    const entry = this.get('scandir', path);
    if (entry instanceof FolderNode) return entry;
    throw failure('ENOTDIR', 'scandir', path);
  }

  mkdir(path: string): void {
    const [folder, name] = this.place('mkdir', path);
    if (folder.entries.has(name)) throw failure('EEXIST', 'mkdir', path);
    folder.change([[name, new FolderNode(++this.inodes)]]);
  }

  mkdirs(path: string): void {
    const parts = SimFiles.parts(path);
    for (let count = 1; count <= parts.length; count++) {
      const each = parts.slice(0, count).join('/');
      if (this.find(each) === undefined) this.mkdir(each);
    }
  }

  /** An empty file, what it held before is gone. */
  create(path: string): FileNode {
    const [folder, name] = this.place('open', path);
    const before = folder.entries.get(name);
    const file = before instanceof FileNode ? before : new FileNode(++this.inodes);
    if (before === undefined) folder.change([[name, file]]);
    file.truncate();
    this.touch(file);
    return file;
  }

  write(file: FileNode, bytes: Buffer): void {
    file.write(bytes);
    this.touch(file);
  }

  rename(from: string, to: string): void {
    const entry = this.get('rename', from);
    const [source, oldName] = this.place('rename', from);
    const [target, newName] = this.place('rename', to);
    if (source === target)
      source.change([
        [newName, entry],
        [oldName, undefined],
      ]);
    else {
      target.change([[newName, entry]]);
      source.change([[oldName, undefined]]);
    }
  }

  remove(path: string): void {
    this.get('rm', path);
    const [folder, name] = this.place('rm', path);
    folder.change([[name, undefined]]);
  }

  sync(entry: Entry, path: string): void {
    if (this.chance() < this.faults.lyingSync) {
      this.lied++;
      entry.failSync(this.chance);
      throw failure('EIO', 'fsync', path);
    }
    this.fail('fsync', path, false);
    if (entry instanceof FileNode ? this.ignoresFileSync : this.ignoresFolderSync) return;
    entry.sync();
  }

  /** Files under a folder, by path, in order. */
  under(path: string): [string, FileNode][] {
    const found: [string, FileNode][] = [];
    const walk = (at: string, entry: Entry | undefined): void => {
      if (entry instanceof FileNode) found.push([at, entry]);
      else if (entry !== undefined)
        for (const [name, each] of [...entry.entries].sort(([a], [b]) => (a < b ? -1 : 1)))
          walk(`${at}/${name}`, each);
    };
    walk(path, this.find(path));
    return found;
  }
}

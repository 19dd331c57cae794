/** Manifests of a zone as they are read: what is not as it was written is not believed, and named. */
import { codeOf } from '../../shared/errors.ts';
import { gatewayOf, type Zone } from './layout.ts';
import {
  counts,
  dateFolder,
  decodeManifest,
  rootFolder,
  sealOf,
  widen,
  type DateManifest,
  type FileEntry,
  type Root,
} from './manifest.ts';
import type { ObjectStore } from './object-store.ts';
import type { OwnRoots } from './own-roots.ts';

export interface Day {
  byWriter: Map<string, FileEntry[]>;
  /** By key, what counts of each. */
  entries: Map<string, FileEntry>;
}

/** A manifest that is damaged or gone. */
export interface Broken {
  key: string;
  writer: string;
  /** Undefined: the root. */
  date?: string;
}

const NAME = /\/([^/]+)\.json$/;

/** Of the key of a manifest. */
export const writerOfKey = (key: string): string | undefined => NAME.exec(key)?.[1];

export class ManifestReader {
  private readonly store: ObjectStore;
  private readonly zone: Zone;
  private readonly own: OwnRoots;

  constructor(store: ObjectStore, zone: Zone, own: OwnRoots) {
    this.store = store;
    this.zone = zone;
    this.own = own;
  }

  rootKey(writer: string): string {
    return `${rootFolder(this.zone)}${writer}.json`;
  }

  dayKey(writer: string, date: string): string {
    return `${dateFolder(this.zone, date)}${writer}.json`;
  }

  private async object(key: string): Promise<unknown> {
    try {
      return decodeManifest(await this.store.get(key));
    } catch (error) {
      if (codeOf(error) !== 'NOT_FOUND') throw error;
      return undefined;
    }
  }

  /** Undefined: it is not as it was written. */
  async root(key: string, writer: string): Promise<Root | undefined> {
    const root = (await this.object(key)) as Root | undefined; // As its name says.
    return this.own.isOtherRoot(writer, root) ? undefined : root;
  }

  async filesOf(key: string, writer: string, date: string): Promise<FileEntry[] | undefined> {
    const manifest = (await this.object(key)) as DateManifest | undefined; // As its name says.
    if (manifest === undefined || this.own.isOtherDay(writer, date, manifest.files))
      return undefined;
    return manifest.files;
  }

  async roots(): Promise<{ roots: Map<string, Root>; broken: Broken[] }> {
    const roots = new Map<string, Root>();
    const broken: Broken[] = [];
    const listed = (await this.store.list(rootFolder(this.zone))).map(({ key }) => key);
    for (const key of new Set([...listed, ...this.own.known.map((each) => this.rootKey(each))])) {
      const writer = writerOfKey(key);
      if (writer === undefined) continue;
      const read = await this.root(key, writer);
      if (read === undefined) broken.push({ key, writer });
      const root = read ?? structuredClone(this.own.get(writer));
      if (root !== undefined) roots.set(writer, await this.finished(root));
    }
    return { roots, broken };
  }

  /** With what the days have that were being said when it was written: whoever did may have been killed before its end. */
  private async finished(root: Root): Promise<Root> {
    for (const date of root.under ?? []) {
      const key = this.dayKey(root.writer, date);
      const manifest = (await this.object(key)) as DateManifest | undefined; // As its name says.
      if (manifest === undefined) continue;
      root.dates[date] = sealOf(manifest.files);
      widenBy(root, manifest.files, date);
    }
    return root;
  }

  async day(date: string, roots: ReadonlyMap<string, Root>): Promise<Day & { broken: Broken[] }> {
    const byWriter = new Map<string, FileEntry[]>();
    for (const { key } of await this.store.list(dateFolder(this.zone, date))) {
      const writer = writerOfKey(key);
      if (writer === undefined) continue;
      const files = await this.filesOf(key, writer, date);
      if (files !== undefined) byWriter.set(writer, files);
    }
    const broken: Broken[] = [];
    for (const [writer, { dates }] of roots) {
      const key = this.dayKey(writer, date);
      if (dates[date] !== undefined && !byWriter.has(writer)) broken.push({ key, writer, date });
    }
    return { byWriter, entries: entriesOf(byWriter), broken };
  }
}

/** Adds to the root's spans what files of a day have. */
export function widenBy({ spans }: Root, files: readonly FileEntry[], date: string): void {
  for (const entry of files)
    if (counts(entry)) widen((spans[gatewayOf(entry.key)] ??= {}), entry.spans, date);
}

/** Of each key the entry with the highest `gen`. */
export function entriesOf(byWriter: ReadonlyMap<string, FileEntry[]>): Map<string, FileEntry> {
  const entries = new Map<string, FileEntry>();
  for (const files of byWriter.values())
    for (const entry of files) {
      const known = entries.get(entry.key);
      if (known === undefined || entry.gen > known.gen) entries.set(entry.key, entry);
    }
  return entries;
}

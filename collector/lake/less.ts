/**
 * Zones that have less than they had, or may have, and nobody knows what: until it was looked for in everything that has any
 * of it. Each stands in the lake as well, as an empty object, from before what shows it is put right: a kill forgets none.
 *
 *   _manifest/less/ZONE/MS-ID   since then
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeWithin } from '../../shared/config/folder.ts';
import type { Zone } from './layout.ts';
import { MANIFESTS } from './manifest.ts';
import type { ObjectStore } from './object-store.ts';

const FOLDER = `${MANIFESTS}less/`;
const NAME = /^_manifest\/less\/([a-z]+)\/(\d+)-[0-9a-f]+$/;

export interface Less {
  /** Epoch milliseconds. */
  since: number;
  /** So often that was found. */
  times: number;
  /** Something is gone; else it may be. */
  isSure: boolean;
}

export class LessZones {
  readonly zones = new Map<Zone, Less>();
  private readonly store: ObjectStore;
  private readonly folder: string;
  private readonly id: string;
  private marks = 0;

  /** `folder`: for files on their way; `id`: of this process. */
  constructor(store: ObjectStore, folder: string, id: string) {
    this.store = store;
    this.folder = folder;
    this.id = id;
  }

  /** Known from here on, to this process alone. */
  note(zone: Zone, isSure: boolean, since: number): void {
    const before = this.zones.get(zone);
    this.zones.set(zone, {
      since: before?.since ?? since,
      times: (before?.times ?? 0) + 1,
      isSure: isSure || before?.isSure === true,
    });
  }

  /** In the lake; gives its key. Throws LAKE_UNAVAILABLE. */
  async mark(zone: Zone, since: number): Promise<string> {
    await makeWithin(this.folder, 2);
    // A name of its own, also beside another one of this moment: who put it may take it away.
    const number = (this.marks++).toString(16);
    const path = join(this.folder, `less-${number}`);
    await writeFile(path, '');
    const key = `${FOLDER}${zone}/${since}-${this.id}${number}`;
    await this.store.put(key, path);
    return key;
  }

  /** What processes before have not come to the end of. Throws LAKE_UNAVAILABLE. */
  async learn(): Promise<void> {
    for (const { key } of await this.store.list(FOLDER)) {
      const [, zone, since] = NAME.exec(key) ?? [];
      if (zone !== undefined) this.note(zone as Zone, true, Number(since)); // As its name says.
    }
  }

  /** All of it was looked for that was found missing in so many `times`. Throws LAKE_UNAVAILABLE. */
  async settle(zone: Zone, times: number | undefined, marks: readonly string[]): Promise<void> {
    if (this.zones.get(zone)?.times !== times) return;
    for (const key of marks) await this.store.remove(key);
    this.zones.delete(zone);
  }

  /** Those of a zone that are there now. Throws LAKE_UNAVAILABLE. */
  async marksOf(zone: Zone): Promise<string[]> {
    return (await this.store.list(`${FOLDER}${zone}/`)).map(({ key }) => key);
  }
}

/**
 * Roots of manifests that only this process writes, as it wrote them last. One that is damaged, gone or an older copy while the
 * process runs is written again from here, for what is made of the days alone would not miss a day whose manifest is gone as
 * well; and a day's manifest is believed where it says what the root has of it. Nothing is said of a writer that another process
 * may have taken over, while something is written, or after a write that failed and may have come through.
 */
import { rootDigest, sealOf, type FileEntry, type Root } from './manifest.ts';

const pastText = ({ past }: Root): string => JSON.stringify(past?.files.map(({ key }) => key));

interface Own {
  /** Undefined: not known. */
  root: Root | undefined;
  /** Days that are being written; undefined: nothing is. */
  under: string[] | undefined;
  /** Date → digest, of the days that were written since. */
  days: Map<string, string>;
}

export class OwnRoots {
  private readonly writers = new Map<string, Own>();

  get(writer: string): Root | undefined {
    return this.writers.get(writer)?.root;
  }

  get known(): string[] {
    return [...this.writers].flatMap(([writer, { root }]) => (root === undefined ? [] : [writer]));
  }

  /** From now on nobody else writes it. */
  claim(writer: string, root: Root | undefined): void {
    this.writers.set(writer, { root, under: undefined, days: new Map() });
  }

  release(writer: string): void {
    this.writers.delete(writer);
  }

  begin(writer: string, dates: string[]): void {
    const own = this.writers.get(writer);
    if (own === undefined) return;
    own.under = dates;
    for (const date of dates) own.days.delete(date);
  }

  wrote(writer: string, root: Root): void {
    const own = this.writers.get(writer);
    if (own === undefined) return;
    for (const date of own.under ?? []) own.days.set(date, root.dates[date]?.digest ?? '');
    own.root = root;
    own.under = undefined;
  }

  /** What was begun may have come through. */
  failed(writer: string): void {
    const own = this.writers.get(writer);
    if (own?.under === undefined) return;
    own.root = undefined;
    own.under = undefined;
  }

  isOtherRoot(writer: string, read: Root | undefined): boolean {
    const { root, under } = this.writers.get(writer) ?? {};
    if (root === undefined || under !== undefined) return false;
    if (read === undefined || pastText(read) !== pastText(root)) return true;
    return rootDigest(read) !== rootDigest(root);
  }

  isOtherDay(writer: string, date: string, files: readonly FileEntry[]): boolean {
    const digest = this.writers.get(writer)?.days.get(date);
    return digest !== undefined && digest !== sealOf(files).digest;
  }
}

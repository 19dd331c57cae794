/** Files of the lake that were whole when they were read. Merged ones never come again: the ones not read for longest give way. */
import type { LakeFile } from './layout.ts';

const SEEN_MAX = 20_000;

export class SeenFiles {
  private readonly seen = new Map<string, { version: string; at: number }>();

  add({ key, version }: LakeFile): void {
    this.seen.delete(key);
    this.seen.set(key, { version, at: performance.now() });
    const [oldest = key] = this.seen.keys();
    if (this.seen.size > SEEN_MAX) this.seen.delete(oldest);
  }

  /** Whether it was read within the last so many milliseconds. */
  has({ key, version }: LakeFile, withinMs = Number.POSITIVE_INFINITY): boolean {
    const seen = this.seen.get(key);
    return seen?.version === version && performance.now() - seen.at < withinMs;
  }
}

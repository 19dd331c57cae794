/** A look at all of the lake (`scrub.ts`). */
export interface Pass {
  /** Epoch milliseconds. */
  startedMs: number;
  endedMs: number;
  files: number;
  bytes: number;
  /** Damaged or missing, found in this pass. */
  found: number;
  manifests: number;
  /** Keys of files of the past that are damaged or missing: nothing has them a second time. */
  pastLost: string[];
}

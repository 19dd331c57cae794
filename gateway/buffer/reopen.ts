/**
 * After a failed write: closes, waits for space, reopens and writes the failed group again, until that has succeeded
 * (F1: without the reopen 188 of 200 "successful" synced puts were gone).
 */
import { Backoff } from '../../shared/env/backoff.ts';
import { codeOf, messageOf } from '../../shared/errors.ts';
import type { BufferStorage } from './storage.ts';

const WAIT = { firstMs: 50, mostMs: 2000 };
const SPACE_MS = 500;

export interface ReopenHost {
  stopped(): boolean;
  close(): Promise<void>;
  /** Opens and writes what had failed. */
  open(): Promise<void>;
  /** It did not work, and is tried again. */
  failed(error: unknown): void;
}

export async function reopen(
  storage: BufferStorage,
  reserveBytes: number,
  cause: unknown,
  host: ReopenHost,
): Promise<void> {
  const backoff = new Backoff(WAIT);
  let error = cause;
  while (!host.stopped()) {
    await host.close();
    const full = /No space left|ENOSPC|Disk quota/i.test(messageOf(error) + codeOf(error));
    if (full && (await storage.freeBytes().catch(() => 0)) < reserveBytes / 2) {
      await sleep(SPACE_MS);
      continue;
    }
    try {
      // Reopening needs room: this is what the reserve is for.
      await storage.releaseReserve();
      await host.open();
      await storage.fillReserve();
      return;
    } catch (again) {
      error = again;
      host.failed(again);
    }
    await sleep(backoff.next());
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}

/** Errors of LevelDB that say its files are damaged. */
export const isDamage = (error: unknown): boolean =>
  /corrupt/i.test(messageOf(error)) || codeOf(error) === 'LEVEL_CORRUPTION';

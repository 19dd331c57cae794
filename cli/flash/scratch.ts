/** What a call makes on this machine and takes away again: there are tokens and passwords in it, so also where it is interrupted. */
import { mkdtempSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const present = new Set<string>();

/** A file that is being made counts among it until `use` has ended. */
export async function whileUnfinished<T>(path: string, use: () => Promise<T>): Promise<T> {
  present.add(path);
  try {
    return await use();
  } finally {
    present.delete(path);
  }
}

/** A folder of this call's own, which its user alone can read. */
export async function inScratch<T>(use: (folder: string) => Promise<T>): Promise<T> {
  // Not awaited: a signal would come between its making and its note.
  const folder = mkdtempSync(join(tmpdir(), 'headwater-flash-'));
  return await whileUnfinished(folder, async () => {
    try {
      return await use(folder);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
}

/** Who interrupts it leaves nothing of it behind, and hears what became of the work. Returns what undoes that. */
export function endsClean(said: string): () => void {
  const end = (): void => {
    for (const path of present) rmSync(path, { recursive: true, force: true });
    process.stderr.write(`\nheadwater: interrupted; ${said}\n`);
    process.exit(130);
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.once(signal, end);
  return () => {
    for (const signal of signals) process.off(signal, end);
  };
}

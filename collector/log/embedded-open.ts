/** What the embedded log is made of, and how its database is opened. */
import { join } from 'node:path';
import { makeFolder } from '../../shared/config/folder.ts';
import { LevelDatabase } from '../../shared/kv/classic-level.ts';
import type { KvDatabase } from '../../shared/kv/kv.ts';
import { openRecovering, type Recovery } from '../../shared/kv/recover.ts';
import type { TopicSpec } from './log.ts';

export interface EmbeddedLogOptions {
  folder: string;
  /** Recent records of a topic kept in memory for its readers, bytes. */
  cacheBytes: number;
  topics: readonly TopicSpec[];
  /** Groups that read no more: what they have not read may be cut. */
  retired?: readonly string[];
  now: () => number;
  createDatabase?: (folder: string) => KvDatabase;
  /** Opens the database in another way than from `folder`: for a simulated disk. */
  openDatabase?: (stamp: string) => Promise<Recovery>;
  /** Between attempts to open again after a failed write, milliseconds. */
  reopenMs?: number;
}

/** Where it stands that something was lost; undefined: there is no disk. */
export const lostNote = ({ openDatabase, folder }: EmbeddedLogOptions): string | undefined =>
  openDatabase === undefined ? join(folder, 'log.lost') : undefined;

/** Recovers from damage; `stamp` names what is set aside, `onDamage` comes before that. */
export async function openLog(
  options: EmbeddedLogOptions,
  stamp: string,
  onDamage: () => Promise<void>,
): Promise<Recovery> {
  if (options.openDatabase !== undefined) return await options.openDatabase(stamp);
  const folder = join(options.folder, 'log');
  await makeFolder(folder);
  const create =
    options.createDatabase ??
    ((path: string) => new LevelDatabase(path, { cacheBytes: 4 * 1024 * 1024 }));
  return await openRecovering(folder, stamp, create, false, onDamage);
}

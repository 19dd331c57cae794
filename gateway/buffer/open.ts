/** The one place that knows the buffer adapters' names. */
import type { Env } from '../../shared/env/env.ts';
import { LevelDatabase } from '../../shared/kv/classic-level.ts';
import type { BufferEvents, MessageBuffer } from './buffer.ts';
import { LevelBuffer, type LevelBufferOptions } from './level-buffer.ts';
import { FolderStorage } from './storage.ts';

export interface OpenBufferOptions extends Omit<LevelBufferOptions, 'storage'> {
  /** The gateway's data folder. */
  folder: string;
}

/** Opens the gateway's buffer. Throws DATA_LOCKED, DATA_UNUSABLE. */
export async function openBuffer<Ticket>(
  env: Env,
  { folder, ...options }: OpenBufferOptions,
  events: BufferEvents<Ticket>,
): Promise<MessageBuffer<Ticket>> {
  const storage = new FolderStorage(
    folder,
    options.reserveBytes,
    (database) => new LevelDatabase(database),
  );
  const buffer = new LevelBuffer<Ticket>(env, { ...options, storage }, events);
  await buffer.open();
  return buffer;
}

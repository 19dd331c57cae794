/** The one place that knows the buffer adapters' names. */
import type { Env } from '../../shared/env/env.ts';
import { LevelDatabase } from '../../shared/kv/classic-level.ts';
import type { BufferEvents, MessageBuffer } from './buffer.ts';
import { LevelBuffer, type LevelBufferOptions } from './level-buffer.ts';

export type OpenBufferOptions = Omit<LevelBufferOptions, 'createDatabase'>;

/** Opens the gateway's buffer. Throws DATA_LOCKED, DATA_UNUSABLE. */
export async function openBuffer<Ticket>(
  env: Env,
  options: OpenBufferOptions,
  events: BufferEvents<Ticket>,
): Promise<MessageBuffer<Ticket>> {
  const buffer = new LevelBuffer<Ticket>(
    env,
    { ...options, createDatabase: (folder) => new LevelDatabase(folder) },
    events,
  );
  await buffer.open();
  return buffer;
}

/** Who follows compacted topics of the embedded log: told what is there, and every change after its fsync. */
import type { KvDatabase } from '../../shared/kv/kv.ts';
import { readState } from './embedded-records.ts';
import type { LogRecord, Produced, Watch } from './log.ts';

export class Watchers {
  private readonly all = new Set<{ topic: string; onRecords: (records: LogRecord[]) => void }>();

  /** Changes are heard from the call on; `state` reads what was there before. */
  async add(
    topic: string,
    onRecords: (records: LogRecord[]) => void,
    state: () => Promise<LogRecord[]>,
  ): Promise<Watch> {
    const watcher = { topic, onRecords };
    this.all.add(watcher);
    try {
      onRecords(await state());
    } catch (error) {
      this.all.delete(watcher);
      throw error;
    }
    return {
      close: () => {
        this.all.delete(watcher);
        return Promise.resolve();
      },
    };
  }

  /** After an open: as it is on disk. */
  async takeUp(db: KvDatabase): Promise<void> {
    for (const { topic, onRecords } of this.all) onRecords(await readState(db, topic, ''));
  }

  changed(produce: Produced[]): void {
    for (const { topic, onRecords } of this.all) {
      const changed = produce.filter((record) => record.topic === topic);
      if (changed.length > 0) onRecords(changed);
    }
  }
}

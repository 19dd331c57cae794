/** What the embedded log has lost, told once each. */
import type { Recovery } from '../../shared/kv/recover.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { DAMAGED } from './embedded-records.ts';
import type { StoredRecord } from './log.ts';

export class Losses {
  private readonly notify: Notify;
  private readonly said = new Set<string>();
  /** Something in it was damaged. */
  some = false;

  constructor(notify: Notify) {
    this.notify = notify;
  }

  /** What an open has found. */
  found({ damaged, setAside, carried, copies }: Recovery): void {
    for (const { file, offset, bytes, kind } of damaged.flatMap(({ damages }) => damages)) {
      if (kind === 'corrupt') {
        this.some = true;
        this.notify({
          level: 'error',
          event: 'log_damaged',
          text: `log/${file}: ${bytes} bytes at offset ${offset} do not match their checksum; a copy is in ${copies ?? 'damaged/'}`,
        });
      }
    }
    if (setAside !== undefined) {
      this.some = true;
      this.notify({
        level: 'error',
        event: 'log_set_aside',
        text: `the log was damaged and set aside to ${setAside}; ${carried} whole entries of it were carried over, and gateways send again what they still hold of the rest`,
      });
    }
  }

  /** Offsets are given without gaps: one means that records are gone. The front may have been trimmed. */
  lookFor(name: string, from: number, records: StoredRecord[]): void {
    let next = from === 0 ? (records[0]?.offset ?? 0) : from;
    for (const { offset, headers } of records) {
      const gone = offset > next ? `records ${next} to ${offset - 1}` : undefined;
      const text = gone ?? (headers[DAMAGED] === undefined ? undefined : `record ${offset}`);
      if (text !== undefined && !this.said.has(`${name} ${text}`)) {
        this.said.add(`${name} ${text}`);
        this.notify({
          level: 'error',
          event: 'log_damaged',
          text: `the embedded log's topic ${name} has lost ${text}`,
        });
      }
      next = offset + 1;
    }
  }

  warnings(): string[] {
    return [...this.said].map((text) => `lost from the embedded log: ${text}`);
  }
}

/**
 * What the embedded log has lost, told once each. For whom it may lack something stands in `log.lost` beside it, a line each,
 * before anything is put right: a kill while it is made good leaves nothing else that would say so.
 */
import { readFile, rm } from 'node:fs/promises';
import { writeWhole } from '../../shared/config/whole-file.ts';
import { codeOf } from '../../shared/errors.ts';
import type { Recovery } from '../../shared/kv/recover.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { DAMAGED } from './embedded-records.ts';
import type { LosesIt, StoredRecord } from './log.ts';

const ALL: readonly LosesIt[] = ['ledger', 'lake', 'settings'];

export class Losses {
  private readonly notify: Notify;
  private readonly path: string | undefined;
  private readonly said = new Set<string>();
  /** Who has not made up yet for what was damaged. */
  private readonly open = new Set<LosesIt>();
  private turn: Promise<void> = Promise.resolve();

  /** `path`: of the note; undefined: there is no disk. */
  constructor(notify: Notify, path: string | undefined) {
    this.notify = notify;
    this.path = path;
  }

  has(of: LosesIt): boolean {
    return this.open.has(of);
  }

  /** What earlier processes have not made up for. */
  async load(): Promise<void> {
    if (this.path === undefined) return;
    const text = await readFile(this.path, 'utf8').catch((error: unknown) => {
      if (codeOf(error) !== 'ENOENT') throw error;
      return undefined;
    });
    if (text === undefined) return;
    const named = ALL.filter((of) => text.split('\n').includes(of));
    // One that is damaged says that there was something.
    for (const of of named.length > 0 ? named : ALL) this.open.add(of);
  }

  /** Something in it is damaged: everyone may lack something. Resolves when that is on stable storage. */
  async begin(): Promise<void> {
    for (const of of ALL) this.open.add(of);
    await this.keep();
  }

  async madeUp(of: LosesIt): Promise<void> {
    if (this.open.delete(of)) await this.keep();
  }

  /** One at a time: two that make up at the same moment would write the same file beside it. */
  private async keep(): Promise<void> {
    const run = this.turn.then(() => this.write());
    this.turn = run.catch(() => undefined); // The caller sees it; the next one takes its turn.
    await run;
  }

  private async write(): Promise<void> {
    if (this.path === undefined) return;
    if (this.open.size === 0) await rm(this.path, { force: true });
    else await writeWhole(this.path, [...this.open, ''].join('\n'));
  }

  /** What an open has found. */
  found({ damaged, setAside, carried, copies }: Recovery): void {
    for (const { file, offset, bytes, kind } of damaged.flatMap(({ damages }) => damages)) {
      if (kind === 'corrupt') {
        this.notify({
          level: 'error',
          event: 'log_damaged',
          text: `log/${file}: ${bytes} bytes at offset ${offset} do not match their checksum; a copy is in ${copies ?? 'damaged/'}`,
        });
      }
    }
    if (setAside !== undefined) {
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

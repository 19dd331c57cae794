/**
 * The buffer's LevelDB, and the epoch that each open of it begins (F3: a random name of its own). An open is durable
 * before anything is served (F4), and what of the database is damaged is set aside, told, and put back where it is whole.
 */
import type { Env } from '../../shared/env/env.ts';
import { HeadwaterError, hasCode, messageOf } from '../../shared/errors.ts';
import type { LossReport } from '../../shared/frame/notes.ts';
import type { KvDatabase, KvOp } from '../../shared/kv/kv.ts';
import type { Notice } from '../../shared/telemetry/log.ts';
import type { BufferClock } from './clock.ts';
import type { Epochs } from './epochs.ts';
import { Rescue, damageReports } from './rescue.ts';
import type { BufferStorage } from './storage.ts';

export interface DatabaseHost {
  /** What is appended from here on belongs to this epoch. */
  onEpoch(ordinal: number, epoch: Buffer): void;
  onLoss(report: LossReport): void;
  onNotice(notice: Notice): void;
}

export class BufferDatabase {
  /** Undefined while it is being opened again, and after the close. */
  db: KvDatabase | undefined;
  ordinal = 0;
  /** Of the first open by this process. */
  ownFrom = 0;
  private epochBytes: Buffer = Buffer.alloc(8);
  /** The newest epoch is not durable yet. */
  private begun = false;
  private readonly env: Env;
  private readonly storage: BufferStorage;
  private readonly registry: Epochs;
  private readonly clock: BufferClock;
  private readonly rescue: Rescue;
  private readonly host: DatabaseHost;

  constructor(
    env: Env,
    gateway: string,
    storage: BufferStorage,
    registry: Epochs,
    clock: BufferClock,
    host: DatabaseHost,
  ) {
    this.env = env;
    this.storage = storage;
    this.registry = registry;
    this.clock = clock;
    this.rescue = new Rescue(gateway, storage, registry);
    this.host = host;
  }

  get epoch(): string {
    return this.epochBytes.toString('hex');
  }

  /** The first open, recovering from damage. Throws DATA_LOCKED, DATA_UNUSABLE. */
  async open(): Promise<void> {
    await this.begin(false).catch(async (error: unknown) => {
      if (!hasCode(error, 'DATA_UNUSABLE')) throw error;
      // A full disk must not keep the gateway down: the reserve is for this.
      await this.storage.releaseReserve();
      await this.begin(false);
    });
    await this.storage.fillReserve();
  }

  /** Opens LevelDB, starts a new epoch and makes that durable before anything is served (F4). */
  async begin(rebuild: boolean): Promise<void> {
    const stamp = new Date(this.env.clock.wallUs() / 1000).toISOString().replaceAll(':', '-');
    const recovery = await this.storage.open(stamp, rebuild);
    const { db } = recovery;
    let salvaged = 0;
    try {
      salvaged = await this.rescue.takeUp(recovery);
      // An open that failed has begun an epoch already, to which messages may belong by now.
      if (!this.begun) this.beginEpoch(await this.rescue.nextOrdinal(db, this.ordinal));
      this.registry.allChanged();
      await db.write([Rescue.ordinalNote(this.ordinal), ...this.changes()], { sync: true });
    } catch (error) {
      await db.close().catch(() => undefined); // The error that matters is the one thrown below.
      this.registry.allChanged();
      const why = `the buffer cannot be written: ${messageOf(error)}`;
      throw new HeadwaterError('DATA_UNUSABLE', why, { cause: error });
    }
    this.db = db;
    this.begun = false;
    const kept = salvaged === 0 ? '' : `; ${salvaged} whole frames in it were put back`;
    for (const { report, notice } of damageReports(recovery, kept)) {
      if (report !== undefined) this.host.onLoss(report);
      if (notice !== undefined) this.host.onNotice(notice);
    }
  }

  private beginEpoch(ordinal: number): void {
    this.begun = true;
    this.ordinal = ordinal;
    if (this.ownFrom === 0) this.ownFrom = ordinal;
    this.epochBytes = this.env.random.bytes(8);
    this.host.onEpoch(ordinal, this.epochBytes);
    const boot = this.env.bootId.toString('hex');
    this.registry.begin(ordinal, this.epoch, boot, this.clock.stamp());
  }

  /** What has changed of the epochs since it was last taken, to be written with a group. */
  changes(): KvOp[] {
    return this.registry.takeChanges(this.ownFrom);
  }

  /** Throws DATA_UNUSABLE while it is being opened again: an empty answer would mean that nothing is left. */
  get present(): KvDatabase {
    if (this.db === undefined)
      throw new HeadwaterError('DATA_UNUSABLE', 'the buffer is being reopened');
    return this.db;
  }

  /** After a failure: what counts is the next open. */
  async abandon(): Promise<void> {
    await this.db?.close().catch(() => undefined);
    this.db = undefined;
  }

  async close(): Promise<void> {
    await this.db?.close();
    this.db = undefined;
  }
}

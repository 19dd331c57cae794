/** Looks after the buffer beside its work: makes room before it is full, and counts what earlier runs left. */
import { operatingError } from '../../contracts/errors.ts';
import { messageOf } from '../../shared/errors.ts';
import type { Account } from './account.ts';
import type { BufferEvents } from './buffer.ts';
import type { Gate } from './gate.ts';
import type { Mending } from './mending.ts';
import type { Reading } from './reading.ts';
import { isDamage, sleep } from './reopen.ts';
import type { Upkeep } from './upkeep.ts';

const UPKEEP_MS = 500;
/** At most so many steps for one look: the next one follows soon. */
const STEPS_MAX = 64;

export interface CaretakerParts {
  upkeep: Upkeep;
  account: Account;
  gate: Gate;
  mending: Mending;
  reading: Reading;
  isClosing: () => boolean;
  onNotice: BufferEvents<never>['onNotice'];
  /** There is room. */
  onRoom: () => void;
}

export class Caretaker {
  private readonly parts: CaretakerParts;
  private timer: NodeJS.Timeout | undefined;
  private isLooking = false;

  constructor(parts: CaretakerParts) {
    this.parts = parts;
  }

  /** Resolves when there is room, or none can be made. */
  async start(): Promise<void> {
    await this.look();
    this.timer = setInterval(() => void this.look(), UPKEEP_MS);
    this.timer.unref();
    void this.count();
  }

  stop(): void {
    clearInterval(this.timer);
  }

  /** The buffer is full: at once, since making room takes longer than filling it. */
  filled(): void {
    const { gate, upkeep } = this.parts;
    gate.block(upkeep.fullText);
    void this.look();
  }

  /** Takes steps of upkeep until there is room, or none helps. */
  private async look(): Promise<void> {
    const { upkeep, account, gate, mending, isClosing, onNotice, onRoom } = this.parts;
    if (this.isLooking || mending.isRunning || isClosing()) return;
    this.isLooking = true;
    try {
      let room = await upkeep.look();
      // What was committed while it looked may have filled the buffer again.
      const again = (): boolean =>
        room.kind === 'freed' || (room.kind === 'enough' && upkeep.isFull);
      for (let steps = 0; again() && steps < STEPS_MAX && !isClosing(); steps++)
        room = await upkeep.look();
      if (mending.isRunning) return;
      if (room.kind === 'full') gate.block(room.why);
      else onRoom();
      account.sample();
    } catch (error) {
      onNotice({ level: 'warn', event: 'upkeep_failed', text: messageOf(error) });
      if (isDamage(error)) mending.rebuild(error);
      else if (operatingError(error) === undefined) mending.distrust(error);
    } finally {
      this.isLooking = false;
    }
  }

  /** Counts what earlier runs left, a piece at a time; what is missing of it is found on the way. */
  private async count(): Promise<void> {
    for (let from: Buffer | undefined; !this.parts.isClosing(); ) {
      try {
        from = await this.parts.reading.count(from);
        if (from === undefined) return;
      } catch {
        await sleep(UPKEEP_MS); // It is being reopened: counting goes on after that.
      }
    }
  }
}

/** Whether the buffer acknowledges (`state`), and whether it wants to be given more (`congested`). */
import type { BufferEvents, BufferState } from './buffer.ts';

export class Gate {
  state: BufferState = { kind: 'open' };
  congested = false;
  private readonly pendingBytesMax: number;
  private readonly pendingBytes: () => number;
  private readonly events: Pick<BufferEvents<never>, 'onNotice' | 'onRelief'>;

  /** `pendingBytes`: received and not durable yet. */
  constructor(
    pendingBytesMax: number,
    pendingBytes: () => number,
    events: Pick<BufferEvents<never>, 'onNotice' | 'onRelief'>,
  ) {
    this.pendingBytesMax = pendingBytesMax;
    this.pendingBytes = pendingBytes;
    this.events = events;
  }

  get isBlocked(): boolean {
    return this.state.kind === 'blocked';
  }

  /** Something came. */
  filled(): void {
    if (!this.congested && this.pendingBytes() > this.pendingBytesMax) this.congested = true;
  }

  /** Something became durable, or the buffer acknowledges again. */
  relieve(): void {
    if (!this.congested || this.isBlocked) return;
    if (this.pendingBytes() > this.pendingBytesMax / 2) return;
    this.congested = false;
    this.events.onRelief();
  }

  /** Nothing is acknowledged from here on. Told once; `why` may change meanwhile. */
  block(why: string): void {
    const wasOpen = !this.isBlocked;
    this.state = { kind: 'blocked', why };
    this.congested = true;
    if (wasOpen) this.events.onNotice({ level: 'error', event: 'buffer_blocked', text: why });
  }

  /** False when it was open. */
  open(): boolean {
    if (!this.isBlocked) return false;
    this.state = { kind: 'open' };
    this.events.onNotice({
      level: 'info',
      event: 'buffer_open',
      text: 'the buffer acknowledges again',
    });
    return true;
  }
}

/**
 * The last ninth of a buffer that withholds acknowledgements when it is full. Each principal has its share of it, so that
 * whoever sends without end while no collector takes anything is not read from any more when others still are. What the
 * shares stand at is kept beside the messages: a restart gives nobody a new one. While there is room, and where nobody but
 * one principal was ever here, nothing of this happens.
 */
import type { Share } from '../../shared/access/shares.ts';
import { messageOf } from '../../shared/errors.ts';
import { seal, unseal } from '../../shared/kv/sealed.ts';
import type { MqttConnection } from '../../shared/mqtt/connection.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { Seldom } from '../../shared/access/seldom.ts';
import type { MessageBuffer } from '../buffer/buffer.ts';
import type { Ticket } from '../buffer/ticket.ts';
import type { Identities } from './identities.ts';

/** How often what is held is compared with what is there, and those that wait are asked again. */
const LOOK_MS = 100;
/** At most so often are the shares written down, in looks. */
const KEEP_EVERY = 10;
/** Of so many principals: those that hold most. */
const KEPT_MAX = 1000;
const KEY = Buffer.from('mspace');

interface Kept {
  /** Who was here. */
  seen: string[];
  held: [principal: string, bytes: number][];
}

/** Undefined for what is damaged: the shares begin anew, and nothing is lost by that. */
function readKept(sealed: Buffer): Kept | undefined {
  const value = unseal(sealed);
  return value === undefined ? undefined : (JSON.parse(value.toString()) as Kept); // What `keep` wrote.
}

export class BufferSpace {
  private readonly buffer: MessageBuffer<Ticket>;
  private readonly share: Share;
  private readonly identities: Identities;
  private readonly notify: Notify;
  private readonly seldom: Seldom;
  /** Not read from, each with its next message. */
  private readonly waiting = new Map<MqttConnection, () => void>();
  private timer: NodeJS.Timeout | undefined;
  private looks = 0;
  /** Something was taken since it was written down. */
  private isChanged = false;

  constructor(
    buffer: MessageBuffer<Ticket>,
    share: Share,
    identities: Identities,
    notify: Notify,
    seldom: Seldom,
  ) {
    this.buffer = buffer;
    this.share = share;
    this.identities = identities;
    this.notify = notify;
    this.seldom = seldom;
  }

  /** Shares count now. One comparison while there is room. */
  get isScarce(): boolean {
    return this.buffer.lastBytesUsed > 0;
  }

  /** What an earlier run wrote down. */
  async load(): Promise<void> {
    for (const [, value] of await this.buffer.entries(KEY)) {
      const kept = readKept(value);
      if (kept === undefined) continue;
      const { seen, held } = kept;
      for (const principal of seen.toReversed()) this.identities.see(principal);
      for (const [principal, bytes] of held) this.share.add(principal, bytes);
    }
    this.look();
  }

  /** Somebody who comes by another way than MQTT. */
  see(principal: string): void {
    this.identities.see(principal);
  }

  /** False, and said: it would be more than this principal's share. */
  takes(principal: string, bytes: number): boolean {
    const { share, identities } = this;
    if (this.timer === undefined) this.look();
    this.isChanged = true;
    if (identities.isAlone(principal)) {
      share.add(principal, bytes);
      return true;
    }
    if (share.take(principal, bytes)) return true;
    if (this.seldom.may(`buffer share ${principal}`) !== undefined)
      this.notify({
        level: 'warn',
        event: 'buffer_share',
        text: `the buffer is nearly full, and '${principal}' has its share of the rest (${share.of(principal)} of ${Math.round(share.whole)} bytes): its acknowledgements wait for the uplink, those of others do not`,
      });
    return false;
  }

  /** The connection is not read from until `again` was called, which may ask for the same once more. */
  wait(connection: MqttConnection, again: () => void): void {
    connection.hold();
    this.waiting.set(connection, again);
  }

  forget(connection: MqttConnection): void {
    this.waiting.delete(connection);
  }

  close(): void {
    clearInterval(this.timer);
    this.keep();
    this.waiting.clear();
  }

  private look(): void {
    const { share, waiting, buffer } = this;
    share.become(buffer.lastBytesUsed);
    const asked = [...waiting];
    waiting.clear();
    for (const [connection, again] of asked) {
      try {
        again();
      } catch (error) {
        connection.close(messageOf(error));
      }
      connection.release();
    }
    if (++this.looks % KEEP_EVERY === 0) this.keep();
    if (share.used > 0 || waiting.size > 0) {
      this.timer ??= setInterval(() => this.look(), LOOK_MS).unref();
      return;
    }
    clearInterval(this.timer);
    this.timer = undefined;
    this.keep();
  }

  private keep(): void {
    if (!this.isChanged || this.buffer.state.kind === 'blocked') return;
    this.isChanged = false;
    const held = this.share
      .holders()
      .toSorted((one, other) => other[1] - one[1])
      .slice(0, KEPT_MAX);
    const kept: Kept = { seen: [...this.identities.seen], held };
    this.buffer.remember(KEY, seal(Buffer.from(JSON.stringify(kept))));
  }
}

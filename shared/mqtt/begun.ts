/**
 * Packets that have begun and are not whole: of what they will take together each principal has its share. One that finds no
 * room is not read from until others are whole or gone, so nothing is lost by it; and one that does not end while somebody
 * waits is closed.
 */
import { principalOf, type Share } from '../access/shares.ts';
import type { MqttConnection } from './connection.ts';

/** Up to here a packet is not worth the counting. */
const SMALL_BYTES = 4096;
const LOOK_MS = 1000;
/** While others wait. */
const ENDS_WITHIN_MS = 20_000;

interface Room {
  principal: string;
  bytes: number;
  sinceUs: number;
}

export class Begun {
  private readonly share: Share;
  private readonly monotonicUs: () => number;
  private readonly endsWithinMs: number;
  private readonly held = new Map<MqttConnection, Room>();
  private readonly waiting = new Map<MqttConnection, Room>();
  private timer: NodeJS.Timeout | undefined;

  constructor(share: Share, monotonicUs: () => number, endsWithinMs = ENDS_WITHIN_MS) {
    this.share = share;
    this.monotonicUs = monotonicUs;
    this.endsWithinMs = endsWithinMs;
  }

  /** How long the packet that the connection has begun will be; 0: there is none. */
  look(connection: MqttConnection, bytes: number): void {
    this.leave(connection);
    if (bytes <= SMALL_BYTES) return;
    const principal = principalOf(connection.user, connection.peer.address);
    const room = { principal, bytes, sinceUs: this.monotonicUs() };
    if (this.share.take(principal, bytes)) {
      this.held.set(connection, room);
      return;
    }
    this.waiting.set(connection, room);
    connection.hold();
    this.timer ??= setInterval(() => this.cut(), LOOK_MS).unref();
  }

  /** Its packet is whole, or its connection is closed. */
  leave(connection: MqttConnection): void {
    this.waiting.delete(connection);
    const room = this.held.get(connection);
    if (room === undefined) return;
    this.held.delete(connection);
    this.share.give(room.principal, room.bytes);
    this.serve();
  }

  private serve(): void {
    for (const [connection, room] of this.waiting) {
      if (this.share.room(room.principal) < room.bytes) continue;
      this.share.add(room.principal, room.bytes);
      this.waiting.delete(connection);
      this.held.set(connection, { ...room, sinceUs: this.monotonicUs() });
      connection.release();
    }
  }

  private cut(): void {
    if (this.waiting.size === 0) {
      clearInterval(this.timer);
      this.timer = undefined;
      return;
    }
    const before = this.monotonicUs() - this.endsWithinMs * 1000;
    for (const [connection, { sinceUs }] of [...this.held])
      if (sinceUs < before) connection.close('a packet that was begun does not end');
  }

  close(): void {
    clearInterval(this.timer);
  }
}

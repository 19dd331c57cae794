/**
 * What one client has here beyond its connection: subscriptions, messages that wait for it, and those that it
 * has got and not yet acknowledged. In order [MQTT-4.6.0-6], at most as many unacknowledged as the client takes
 * [MQTT-3.3.4-9], and QoS 2 exactly once: a PUBREC turns the message into a PUBREL [MQTT-4.3.3-3 to -6].
 */
import { REASON, type Reason } from './reasons.ts';
import { sizeOf, type Message, type Outgoing } from './message.ts';
import type { Offers } from './offers.ts';
import { afterJump } from './steady-clock.ts';
import type { Subscription } from './topics.ts';

/** What a session needs of its connection. */
export interface SessionLink {
  /** Unacknowledged QoS 1 and 2 messages that the client takes. */
  readonly receiveMaximum: number;
  /** Nothing more is written before what was written has gone out. */
  readonly isFull: boolean;
  /** Writes a PUBLISH; false: it is larger than the client takes, and was not sent [MQTT-3.1.2-25]. */
  deliver(out: Outgoing, packetId: number, dup: boolean): boolean;
  /** Writes a PUBREL. */
  release(packetId: number, reason: Reason): void;
}

interface InFlight {
  out: Outgoing;
  /** PUBREC has come: what is owed is the PUBREL. */
  released: boolean;
}

/** Numbers of MQTT's packet ids, which begin at 1. */
const IDS = 65_535;
/** With so many unacknowledged nothing more of what is retained is offered. */
const OFFERED_MAX = 200;

/** What a session reports, so that its disk copy follows. */
export interface SessionStore {
  /** The message needs no more to be kept for this session. */
  done(session: Session, out: Outgoing): void;
  /** A QoS 2 message is with the client under this id, or is released, or has ended (undefined); `durable`: on disk so. */
  inFlight(
    session: Session,
    packetId: number,
    out: Outgoing,
    state: 'sent' | 'released' | undefined,
    durable?: () => void,
  ): void;
  dropped(why: 'expired' | 'too large' | 'slow'): void;
  nowMs(): number;
}

export class Session {
  readonly clientId: string;
  user: string | undefined;
  /** Of the password that its client showed last; undefined: it showed none. */
  passwordMark: string | undefined;
  /** That its client spoke last: 4 stands for 3.1 as well. */
  version: 4 | 5 = 5;
  /** Whom its queue is counted for. */
  principal = '';
  /** Seconds that it stays after its connection; 0: it ends with it; Infinity: for good. */
  expirySeconds = 0;
  /** Epoch milliseconds since when it has no connection; undefined: it has one. */
  awaySinceMs: number | undefined;
  readonly subscriptions = new Map<string, Subscription<Session>>();
  link: SessionLink | undefined;
  queuedBytes = 0;
  private readonly store: SessionStore;
  private waiting: Outgoing[] = [];
  /** Of `waiting`, those that have been taken: the list is cut when they are half of it. */
  private taken = 0;
  private readonly unacknowledged = new Map<number, InFlight>();
  /** Of `unacknowledged`, what this connection has not been sent again yet, in order. */
  private readonly owed = new Set<number>();
  /** What is retained for its new subscriptions. */
  private readonly offers: Offers[] = [];
  /** Filters of them, while not all of it was given; kept with the session. */
  readonly owedRetained = new Set<string>();
  private isOffering = false;
  private lastId = 0;
  /** The largest sequence that went to the client: what is on disk up to it goes again with DUP. */
  lastSent = 0;
  /** Of an earlier run, and perhaps with the client already. */
  private readonly maybeSent = new WeakSet<Outgoing>();

  constructor(clientId: string, store: SessionStore) {
    this.clientId = clientId;
    this.store = store;
  }

  /** Messages that wait or are not acknowledged. */
  get queuedCount(): number {
    return this.waitingCount + this.unacknowledged.size;
  }

  private get waitingCount(): number {
    return this.waiting.length - this.taken;
  }

  get isConnected(): boolean {
    return this.link !== undefined;
  }

  /** It has been away for as long as it may. */
  isOver(nowMs: number): boolean {
    const { awaySinceMs, expirySeconds } = this;
    return awaySinceMs !== undefined && awaySinceMs + expirySeconds * 1000 <= nowMs;
  }

  /** The client takes one more at once: what it has got and not acknowledged is below its receive maximum [MQTT-3.3.4-9]. */
  private takesMore(link: SessionLink): boolean {
    return !link.isFull && this.unacknowledged.size - this.owed.size < link.receiveMaximum;
  }

  /** It could take one more at once. */
  get isReady(): boolean {
    const { link } = this;
    return (
      link !== undefined && this.takesMore(link) && this.owed.size === 0 && this.waitingCount === 0
    );
  }

  /** A copy for this client, after the fsync of its message. */
  send(out: Outgoing): void {
    if (out.qos === 0) {
      if (this.link === undefined) return;
      if (this.link.isFull) this.store.dropped('slow');
      else if (!this.link.deliver(out, 0, false)) this.store.dropped('too large');
      return;
    }
    // What can go at once does, though its time was over with the fsync: that was not the client's delay.
    const atOnce = this.isReady ? out : undefined;
    this.waiting.push(out);
    this.queuedBytes += sizeOf(out);
    this.pump(atOnce);
  }

  /** Takes up what an earlier run kept; `maybeSent`: it may be with the client [MQTT-3.3.1-1]. */
  restore(
    out: Outgoing,
    packetId: number | undefined,
    released: boolean,
    maybeSent: boolean,
  ): void {
    this.queuedBytes += sizeOf(out);
    if (maybeSent) this.maybeSent.add(out);
    if (packetId === undefined) this.waiting.push(out);
    else this.unacknowledged.set(packetId, { out, released });
  }

  private isExpired({ message }: Outgoing): boolean {
    return message.expiresAtMs !== undefined && message.expiresAtMs <= this.store.nowMs();
  }

  /** Sends what waits, as far as the client takes it; `atOnce`: one that has not waited. */
  pump(atOnce?: Outgoing): void {
    const { link } = this;
    if (link === undefined) return;
    if (this.owed.size > 0) this.sendAgain(link);
    while (this.waitingCount > 0 && this.takesMore(link)) {
      const out = this.waiting[this.taken++] as Outgoing; // Within its length.
      if (out !== atOnce && this.isExpired(out)) {
        this.store.dropped('expired');
        this.end(out);
        continue;
      }
      const packetId = this.freeId(out);
      this.unacknowledged.set(packetId, { out, released: false });
      if (out.qos === 2) this.store.inFlight(this, packetId, out, 'sent');
      this.lastSent = Math.max(this.lastSent, out.sequence);
      if (!link.deliver(out, packetId, this.maybeSent.has(out))) this.tooLarge(packetId, out);
    }
    this.shorten();
    this.giveOffers(link);
  }

  private shorten(): void {
    if (this.taken > 0 && this.taken * 2 >= this.waiting.length) {
      this.waiting = this.waiting.slice(this.taken);
      this.taken = 0;
    }
  }

  /** What was not acknowledged comes again, in its order, before anything else [MQTT-4.6.0-1]. */
  private sendAgain(link: SessionLink): void {
    for (const packetId of [...this.owed]) {
      if (!this.takesMore(link)) return;
      this.owed.delete(packetId);
      const out = this.unacknowledged.get(packetId)?.out;
      if (out !== undefined && !link.deliver(out, packetId, true)) this.tooLarge(packetId, out);
    }
  }

  /** [MQTT-3.1.2-25] */
  private tooLarge(packetId: number, out: Outgoing): void {
    this.store.dropped('too large');
    this.complete(packetId, out);
  }

  /** After what waits, as far as the client takes it; the rest with its next acknowledgement, or when it has read. */
  offer(offers: Offers): void {
    this.offers.push(offers);
    this.pump();
  }

  get isOffered(): boolean {
    return this.offers.length > 0;
  }

  private giveOffers(link: SessionLink): void {
    if (this.isOffering) return; // What is given comes by here.
    this.isOffering = true;
    for (let [next] = this.offers; next !== undefined; [next] = this.offers) {
      const { qos } = next;
      if (qos === undefined) {
        this.offers.shift();
        next.end();
        continue;
      }
      const isIdle = this.waitingCount === 0 && this.unacknowledged.size < OFFERED_MAX;
      if (qos === 0 ? link.isFull : !isIdle || !this.takesMore(link)) break;
      next.give();
    }
    this.isOffering = false;
  }

  /**
   * The clock was set: what expires does so by the new one. Copies of a message share its deadline: `shifted` have theirs. Gives
   * the copies whose deadline is another now.
   */
  shift(nowMs: number, jumpMs: number, shifted: Set<Message>): Outgoing[] {
    const mortal = this.kept().filter(({ message }) => message.expiresAtMs !== undefined);
    for (const { message } of mortal) {
      if (message.expiresAtMs === undefined || shifted.has(message)) continue;
      message.expiresAtMs = afterJump(message.expiresAtMs, nowMs, jumpMs);
      shifted.add(message);
    }
    return mortal;
  }

  /** What has expired gives its room to others. */
  dropExpired(): void {
    const all = this.waiting.slice(this.taken);
    this.waiting = all.filter((out) => !this.isExpired(out));
    this.taken = 0;
    for (const out of all) {
      if (!this.isExpired(out)) continue;
      this.store.dropped('expired');
      this.end(out);
    }
  }

  /**
   * What is on disk has an id that follows from its sequence, so that after a kill it comes again under the same one: a
   * client that has it already knows it by that [MQTT-4.4.0-1]. `taken`: by others that are not restored yet.
   */
  freeId({ sequence }: Outgoing, taken?: ReadonlySet<number>): number {
    let id = sequence > 0 ? sequence % IDS : this.lastId;
    do id = (id % IDS) + 1;
    while (this.unacknowledged.has(id) || taken?.has(id) === true);
    if (sequence === 0) this.lastId = id;
    return id;
  }

  private end(out: Outgoing): void {
    this.queuedBytes -= sizeOf(out);
    this.store.done(this, out);
  }

  private complete(packetId: number, out: Outgoing): void {
    this.unacknowledged.delete(packetId);
    this.owed.delete(packetId);
    if (out.qos === 2) this.store.inFlight(this, packetId, out, undefined);
    this.end(out);
  }

  /** PUBACK, whatever its reason: the client has it or will never take it. */
  acknowledged(packetId: number): void {
    const entry = this.unacknowledged.get(packetId);
    if (entry === undefined || entry.out.qos !== 1) return;
    this.complete(packetId, entry.out);
    this.pump();
  }

  received(packetId: number, reason: number): void {
    const entry = this.unacknowledged.get(packetId);
    if (entry === undefined || entry.out.qos !== 2) {
      this.link?.release(packetId, REASON.packetIdNotFound);
      return;
    }
    if (reason >= 0x80) {
      this.complete(packetId, entry.out);
      this.pump();
      return;
    }
    entry.released = true;
    this.owed.delete(packetId);
    const { link } = this;
    // The client forgets the message with the PUBREL: it must not be sent again after a kill, so that is on disk before.
    this.store.inFlight(this, packetId, entry.out, 'released', () => {
      if (this.link === link) link?.release(packetId, REASON.success);
    });
  }

  /** PUBCOMP. */
  completed(packetId: number): void {
    const entry = this.unacknowledged.get(packetId);
    if (entry === undefined || !entry.released) return;
    this.complete(packetId, entry.out);
    this.pump();
  }

  /** A new connection of the same session: what was not acknowledged comes again, in its order [MQTT-4.4.0-1] [MQTT-4.6.0-1]. */
  resume(link: SessionLink): void {
    this.link = link;
    this.awaySinceMs = undefined;
    this.owed.clear();
    for (const [packetId, { released }] of this.unacknowledged) {
      if (released) link.release(packetId, REASON.success);
      else this.owed.add(packetId);
    }
    this.pump();
  }

  /**
   * What of shared subscriptions nobody has taken: for another member, when this session is gone. QoS 2 that was begun
   * with this client is for nobody else [MQTT-4.8.2-5].
   */
  untakenShared(): Outgoing[] {
    return [
      ...[...this.unacknowledged.values()].filter(({ out }) => out.qos < 2).map(({ out }) => out),
      ...this.waiting.slice(this.taken),
    ].filter(({ shared }) => shared !== undefined);
  }

  /** Every entry that is kept for it. */
  kept(): Outgoing[] {
    return [
      ...[...this.unacknowledged.values()].map(({ out }) => out),
      ...this.waiting.slice(this.taken),
    ];
  }

  inFlightIds(): number[] {
    return [...this.unacknowledged].filter(([, { out }]) => out.qos === 2).map(([id]) => id);
  }
}

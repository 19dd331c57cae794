/**
 * One MQTT connection, in front of aedes.
 *
 * Why a front stage: aedes 1.2 has no packet size limit, buffers before authentication and accepts malformed topics,
 * and it sends PUBACK before anything is stored. So bytes are counted and packets validated here; PUBLISH and PUBREL are
 * answered here, after the fsync; sessions, subscriptions, retained messages and wills stay aedes's work.
 *
 * Invariants:
 * - Nothing of a packet reaches aedes before its length, flags and strings are checked.
 * - PUBACK, PUBREC and PUBCOMP leave in the order in which their packets came [MQTT-4.6.0-2].
 * - Before the CONNACK no other packet is looked at; what a client sends early waits in at most one socket read.
 * - Keep alive is kept here [MQTT-3.1.2-24]; aedes is shown a keep alive of 0, since it does not see every packet.
 */
import type { Duplex } from 'node:stream';
import { principalOf } from '../access/shares.ts';
import { messageOf } from '../errors.ts';
import type { Slice } from '../net/slice.ts';
import {
  CONNECT,
  DISCONNECT,
  PINGREQ,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  PUBREL,
  SUBSCRIBE,
  UNSUBSCRIBE,
  UnsupportedVersion,
  checkTopicName,
  readConnect,
  readPacketId,
  readString,
  readSubscription,
  refuse,
  type ConnectPacket,
} from './packets.ts';
import { AedesSide } from './aedes-side.ts';
import { Gather } from './gather.ts';
import {
  LOCAL_PEER,
  type IncomingPublish,
  type MqttLimits,
  type MqttPeer,
  type Protocol311,
  type Protocol5,
} from './protocol.ts';
import { PacketScanner, type RawPacket } from './scanner.ts';
import { readPublish } from './publish.ts';
import { TopicNames } from './topic-names.ts';

/** What stands behind the connections: the gateway's ingress, or the collector's ingest. */
export interface MqttHandler {
  readonly limits: MqttLimits;
  /** Hands the connection to aedes. Called once, with a CONNECT that is valid. */
  attach(connection: MqttConnection, side: Duplex): void;
  /** A CONNECT of MQTT 5, not yet looked at; sets `connection.connect`. Left out: version 5 is refused with 0x84. */
  attach5?(connection: MqttConnection, body: Buffer): Protocol5;
  /** A valid CONNECT of 3.1 or 3.1.1 for a session that outlives its connection. Left out: aedes keeps it, in memory. */
  attach311?(connection: MqttConnection, connect: ConnectPacket): Protocol311;
  /** So long will the packet be that it has begun; 0: that is whole now. */
  begun?(connection: MqttConnection, bytes: number): void;
  publish(connection: MqttConnection, packet: IncomingPublish): void;
  pubrel(connection: MqttConnection, packetId: number): void;
  closed(connection: MqttConnection, reason: string): void;
  /** A TLS handshake failed over a certificate; `code` is Node's. */
  distrusted?(address: string, code: string): void;
}

/** Acknowledgements that a client may leave unread. */
const UNREAD_ACK_BYTES_MAX = 64 * 1024;

export class MqttConnection {
  readonly socket: Duplex;
  /** What goes to the client. */
  readonly out: Gather;
  readonly peer: MqttPeer;
  /** Of the CONNECT; undefined before it. */
  connect: ConnectPacket | undefined;
  /** Who it is, when that was asked; set by the handler. */
  user: string | undefined;
  /** Id under which the session runs, once it was let in; aedes gives one to a client without. */
  clientId = '';
  /** Monotonic microseconds of the last bytes received. */
  lastReceivedUs: number;
  /** Of a client that speaks MQTT 5. */
  five: Protocol5 | undefined;
  /** Of a client of 3.1.1 whose session outlives its connection. */
  lasting: Protocol311 | undefined;

  private readonly handler: MqttHandler;
  private readonly now: () => number;
  private readonly slice: Slice | undefined;
  private readonly scanner: PacketScanner;
  private readonly side: AedesSide;
  private readonly topics = new TopicNames((bytes, offset) => {
    const { text } = readString(bytes, offset, 'topic');
    checkTopicName(text);
    return text;
  });
  private state: 'connect' | 'connecting' | 'open' | 'closed' = 'connect';
  private held = 0;
  /** aedes has not yet taken the control packets it was given: reading is held meanwhile. */
  private behind = false;
  private begunBytes = 0;
  /** It is closed for what it sent, which no client that works sends. */
  hasBroken = false;
  private acks: Buffer = Buffer.allocUnsafe(256);
  private ackBytes = 0;
  private reason = 'closed by the client';
  private isLeaving = false;

  /** `now` is the monotonic clock in microseconds. */
  constructor(
    socket: Duplex,
    handler: MqttHandler,
    now: () => number,
    peer = LOCAL_PEER,
    slice?: Slice,
  ) {
    this.slice = slice;
    this.socket = socket;
    this.out = new Gather(socket);
    this.peer = peer;
    this.handler = handler;
    this.now = now;
    this.lastReceivedUs = now();
    this.scanner = new PacketScanner(handler.limits.connectBytesMax);
    this.side = new AedesSide(socket, this.out, () => {
      if (!this.behind) return;
      this.behind = false;
      this.release();
    });
    socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('error', (error) => (this.reason = messageOf(error)));
    socket.on('close', () => this.ended());
    this.side.on('error', () => socket.destroy());
  }

  get isOpen(): boolean {
    return this.state === 'open';
  }

  get isClosed(): boolean {
    return this.state === 'closed';
  }

  get isHeld(): boolean {
    return this.held > 0;
  }

  get isConnecting(): boolean {
    return this.state === 'connect' || this.state === 'connecting';
  }

  /** aedes has sent the CONNACK: packets flow from here on. */
  opened(clientId: string): void {
    if (this.state !== 'connecting') return;
    this.clientId = clientId;
    this.state = 'open';
    this.scanner.packetBytesMax = this.handler.limits.packetBytesMax;
    this.release();
    this.drain();
  }

  /** Stops reading from the socket until as many `release` calls have come. Holding back is the only back pressure MQTT 3.1.1 has. */
  hold(): void {
    if (this.held++ === 0) this.socket.pause();
  }

  release(): void {
    if (this.held > 0 && --this.held === 0 && !this.socket.destroyed) {
      this.drain();
      if (this.held === 0) this.socket.resume();
    }
  }

  /** Queues an acknowledgement; `flush` sends all that are queued in one write. */
  acknowledge(type: typeof PUBACK | typeof PUBREC | typeof PUBCOMP, packetId: number): void {
    this.makeRoom(4);
    this.acks[this.ackBytes++] = type << 4;
    this.acks[this.ackBytes++] = 2;
    this.acks[this.ackBytes++] = packetId >> 8;
    this.acks[this.ackBytes++] = packetId & 255;
  }

  /** The same for an acknowledgement that is longer than four bytes. */
  acknowledgeBytes(bytes: Buffer): void {
    this.makeRoom(bytes.length);
    this.ackBytes += bytes.copy(this.acks, this.ackBytes);
  }

  private makeRoom(bytes: number): void {
    while (this.ackBytes + bytes > this.acks.length) {
      const larger = Buffer.allocUnsafe(this.acks.length * 2);
      this.acks.copy(larger, 0, 0, this.ackBytes);
      this.acks = larger;
    }
  }

  flush(): void {
    if (this.ackBytes === 0) return;
    if (!this.socket.destroyed) {
      this.out.write(this.acks.subarray(0, this.ackBytes));
      this.out.flush();
      // A client that does not read its acknowledgements is not read from either: they must not pile up here.
      if (!this.out.isFlowing && this.out.unread > UNREAD_ACK_BYTES_MAX) {
        this.hold();
        this.socket.once('drain', () => this.release());
      }
    }
    // The socket keeps a view until the bytes are out: the next acknowledgements need room of their own.
    this.acks = Buffer.allocUnsafe(Math.max(256, Math.min(this.ackBytes, 65536)));
    this.ackBytes = 0;
  }

  /** Closes the connection; `reason` is what the log and the metrics say, `code` what a client of MQTT 5 is told. */
  close(reason: string, code?: number): void {
    if (this.state === 'closed') return;
    if (code !== undefined && this.five !== undefined) {
      this.five.goodbye(code, reason);
      return;
    }
    this.reason = reason;
    this.socket.destroy();
  }

  /** Writes the last bytes and closes, at the latest after `withinMs`; nothing more is read. */
  farewell(bytes: Buffer | undefined, reason: string, withinMs: number): void {
    if (this.state === 'closed' || this.isLeaving) return;
    this.isLeaving = true;
    this.reason = reason;
    // What waits to be said goes first: acknowledgements of what is stored.
    this.flush();
    this.out.flush();
    if (bytes === undefined) this.socket.end(() => this.socket.destroy());
    else this.socket.end(bytes, () => this.socket.destroy());
    setTimeout(() => this.socket.destroy(), withinMs).unref();
  }

  /** aedes will close it: why is known here. */
  refusedFor(reason: string): void {
    this.reason = reason;
  }

  private ended(): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.five?.ended();
    this.lasting?.ended();
    this.topics.forget();
    // End of file in order, so that aedes sees a DISCONNECT before it and keeps the will to itself.
    this.side.push(null);
    this.side.resume();
    setTimeout(() => this.side.destroy(), 1000).unref();
    this.handler.closed(this, this.reason);
  }

  private receive(chunk: Buffer): void {
    this.lastReceivedUs = this.now();
    this.scanner.push(chunk);
    if (this.slice?.mayGoOn() === false) this.waitForTurn();
    else this.drain();
  }

  /** Others have theirs meanwhile, and nothing more is read. */
  private waitForTurn(): void {
    this.hold();
    this.slice?.wait(principalOf(this.user, this.peer.address), () => this.release());
  }

  private drain(): void {
    try {
      while (
        (this.state === 'connect' || this.state === 'open') &&
        this.held === 0 &&
        !this.isLeaving
      ) {
        const packet = this.scanner.next();
        if (packet === undefined) break;
        this.take(packet);
        // A PUBLISH takes microseconds; a SUBSCRIBE may have a hundred long filters.
        if (packet.type !== PUBLISH && this.slice?.mayGoOn() === false) this.waitForTurn();
      }
      this.tellBegun();
    } catch (error) {
      this.hasBroken = true;
      if (this.five === undefined) this.close(messageOf(error));
      else this.five.fail(error);
    }
  }

  /** Of a client that is in: before that a packet is short. */
  private tellBegun(): void {
    const { begunBytes } = this.scanner;
    if (begunBytes === this.begunBytes || this.state !== 'open') return;
    this.begunBytes = begunBytes;
    this.handler.begun?.(this, begunBytes);
  }

  private take(packet: RawPacket): void {
    if (this.state === 'connect') return this.takeConnect(packet);
    if (this.five !== undefined) return this.five.take(packet);
    if (packet.type === PUBLISH) return this.takePublish(packet);
    const { body } = packet;
    switch (packet.type) {
      case PUBREL:
        return this.handler.pubrel(this, readPacketId(packet.flags, 2, body));
      case PUBACK:
      case PUBREC:
      case PUBCOMP:
        readPacketId(packet.flags, 0, body);
        break;
      case SUBSCRIBE:
      case UNSUBSCRIBE:
        if (packet.flags !== 2) refuse('reserved flags are not as specified'); // [MQTT-3.8.1-1] [MQTT-3.10.1-1]
        readSubscription(body, packet.type === SUBSCRIBE, this.handler.limits.filtersMax);
        break;
      case PINGREQ:
      case DISCONNECT:
        if (packet.flags !== 0 || body.length !== 0) refuse('reserved flags are not as specified'); // [MQTT-3.14.1-1]
        break;
      default:
        refuse(`a packet of type ${packet.type} is not for a client to send here`); // [MQTT-3.1.0-2] too
    }
    if (this.lasting !== undefined) return this.lasting.take(packet.type, body);
    if (!this.side.push(packet.bytes) && !this.behind) {
      this.behind = true;
      this.hold();
    }
  }

  private takeConnect(packet: RawPacket): void {
    if (packet.type !== CONNECT || packet.flags !== 0) refuse('the first packet is not a CONNECT'); // [MQTT-3.1.0-1]
    const { body } = packet;
    let connect: ConnectPacket;
    try {
      connect = readConnect(body);
    } catch (error) {
      if (!(error instanceof UnsupportedVersion)) throw error;
      if (error.version === 5 && this.handler.attach5 !== undefined) {
        this.takeConnect5(body, packet.isPadded);
        return;
      }
      // MQTT 5 gets its own form of refusal (MQTT 5, 3.2.2.2: 0x84), everything else 3.1.1's (return code 1).
      this.answerAndClose(
        error.version === 5 ? [0x20, 3, 0, 0x84, 0] : [0x20, 2, 0, 1],
        error.message,
      );
      return;
    }
    if (
      Buffer.byteLength(connect.clientId) > this.handler.limits.clientIdBytesMax ||
      (connect.clientId === '' && !connect.clean)
    ) {
      this.answerAndClose(
        [0x20, 2, 0, 2],
        'client id is empty without a clean session, or too long',
      ); // [MQTT-3.1.3-8]
      return;
    }
    this.connect = connect;
    this.state = 'connecting';
    this.hold();
    if (!connect.clean && this.handler.attach311 !== undefined) {
      this.lasting = this.handler.attach311(this, connect);
      return;
    }
    const forAedes = Buffer.from(packet.bytes);
    forAedes.writeUInt16BE(0, packet.bodyStart - packet.start + connect.keepAliveOffset);
    this.handler.attach(this, this.side);
    this.side.push(forAedes);
  }

  private takeConnect5(body: Buffer, padded: boolean): void {
    this.state = 'connecting';
    this.hold();
    try {
      if (padded) refuse('the packet says its length in more bytes than it needs'); // [MQTT-1.5.5-1] of 5
      this.five = this.handler.attach5?.(this, body);
    } catch (error) {
      // Not a CONNECT: MQTT 5 allows an answer or none [MQTT-3.1.4-1]; it gets the reason.
      const { reason } = error as { reason?: unknown };
      const code = typeof reason === 'number' ? reason : 0x81;
      this.answerAndClose([0x20, 3, 0, code, 0], messageOf(error));
    }
  }

  private answerAndClose(bytes: number[], reason: string): void {
    this.reason = reason;
    this.state = 'connecting';
    this.socket.end(Buffer.from(bytes));
    setTimeout(() => this.socket.destroy(), 1000).unref();
  }

  private takePublish(packet: RawPacket): void {
    this.handler.publish(this, readPublish(packet, this.topics));
  }
}

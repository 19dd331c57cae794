/** One client with a session that outlives its connection: it remembers what it got, and which QoS 2 ids are not released. */
import { connect, type Socket } from 'node:net';
import { connectPacket } from '../support/hostile.ts';
import { until } from '../support/process.ts';
import { P, connect5 } from '../support/raw-mqtt5.ts';

export const TOPICS = Array.from({ length: 50 }, (_, i) => `load/${i}`);

export interface Plan {
  id: string;
  version: 4 | 5;
  topic: number;
  qos: 1 | 2;
  /** Its session is over before it comes back for the last time. */
  expires: boolean;
}

export class Reader {
  readonly plan: Plan;
  /** Payloads in the order in which they came; of QoS 2 each id counts once until its PUBREL. */
  readonly got: string[] = [];
  private readonly unreleased = new Set<number>();
  private readonly twice: string[] = [];
  private present = -1;
  private rest = Buffer.alloc(0);

  constructor(plan: Plan) {
    this.plan = plan;
  }

  /** Connects and acknowledges what comes; the result cuts it. */
  async open(port: number): Promise<() => void> {
    const { id, version } = this.plan;
    const socket = connect({ host: '127.0.0.1', port, noDelay: true });
    socket.on('error', () => undefined);
    this.rest = Buffer.alloc(0);
    this.present = -1;
    socket.on('data', (chunk: Buffer) => this.take(socket, chunk));
    socket.write(
      version === 4
        ? connectPacket({ id, clean: false })
        : connect5(id, { clean: false, properties: [P.sessionExpiry(3600)] }),
    );
    await until(`CONNACK of ${id}`, () => this.present >= 0 || undefined, 30_000);
    return () => socket.destroy();
  }

  private take(socket: Socket, chunk: Buffer): void {
    this.rest = Buffer.concat([this.rest, chunk]);
    // All packets here are shorter than 128 bytes.
    while (this.rest.length >= 2 && this.rest.length >= 2 + (this.rest[1] ?? 0)) {
      const end = 2 + (this.rest[1] ?? 0);
      this.packet(socket, this.rest.subarray(0, end));
      this.rest = this.rest.subarray(end);
    }
  }

  private packet(socket: Socket, bytes: Buffer): void {
    const first = bytes[0] ?? 0;
    const type = first >> 4;
    if (type === 2) this.present = bytes[2] ?? 0;
    else if (type === 6) {
      const id = bytes.readUInt16BE(2);
      this.unreleased.delete(id);
      socket.write(Buffer.from([0x70, 2, id >> 8, id & 255]));
    } else if (type === 3) {
      const qos = (first >> 1) & 3;
      const at = 4 + bytes.readUInt16BE(2);
      const id = bytes.readUInt16BE(at);
      const properties = this.plan.version === 5 ? 1 + (bytes[at + 2] ?? 0) : 0;
      const payload = bytes.toString('utf8', at + 2 + properties);
      if (qos === 1) {
        this.note(payload);
        socket.write(Buffer.from([0x40, 2, id >> 8, id & 255]));
        return;
      }
      if (!this.unreleased.has(id)) {
        if (this.got.includes(payload)) this.twice.push(payload);
        this.note(payload);
      }
      this.unreleased.add(id);
      socket.write(Buffer.from([0x50, 2, id >> 8, id & 255]));
    }
  }

  /** QoS 1 may come again after a cut. */
  private note(payload: string): void {
    if (!this.got.includes(payload)) this.got.push(payload);
  }

  /** Comes back for good, and says what does not hold. */
  async finish(port: number, sent: string[], acknowledged: Set<string>): Promise<string[]> {
    const { id, expires, qos } = this.plan;
    const cut = await this.open(port);
    const broken: string[] = [];
    if (this.present !== (expires ? 0 : 1)) broken.push(`${id}: session present ${this.present}`);
    const lacks = (): string[] => {
      const has = new Set(this.got);
      return [...acknowledged].filter((payload) => !has.has(payload));
    };
    if (expires) await new Promise((resolve) => setTimeout(resolve, 100));
    else
      await until(id, () => lacks().length === 0 || undefined, 30_000).catch(() =>
        broken.push(`${id}: ${lacks().length} acknowledged messages did not come`),
      );
    cut();
    if (expires && this.got.length > 0)
      broken.push(`${id}: ${this.got.length} messages to a session that had expired`);
    if (qos === 2 && this.twice.length > 0)
      broken.push(`${id}: QoS 2 twice: ${this.twice.slice(0, 5).join(' ')}`);
    // The two QoS come by turns on a topic; messages of one QoS overtake none of their own [MQTT-4.6.0-6].
    const order = new Map(sent.map((payload, at) => [payload, at]));
    for (const parity of [0, 1]) {
      const places = this.got
        .map((payload) => order.get(payload) ?? -1)
        .filter((place) => place % 2 === parity);
      if (places.some((place, i) => i > 0 && place < (places[i - 1] ?? 0)))
        broken.push(`${id}: not in order`);
    }
    return broken;
  }
}

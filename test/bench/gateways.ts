/**
 * `npm run bench -- --gateways N`: what collectors take in on Kafka. Simulated gateways send real frames over real MQTT
 * connections and count what is acknowledged. First one collector with 1, 10, … N gateways, then 1, 2 and 4 collector
 * processes with N. The driver shares the machine with all of them, so the figures are for this machine and no other.
 */
import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import { CLOCK_SYNCHRONISED } from '../../shared/frame/frame.ts';
import { DOWN_PREFIX, UP_PREFIX, encodeUp } from '../../shared/wire/wire.ts';
import { startKafka } from '../services/servers.ts';
import { startCollector, type Headwater } from '../support/process.ts';
import { encodePublish } from '../support/load.ts';
import { costOf, machine } from './measure.ts';

const MESSAGES_PER_FRAME = 200;
/** Frames of one gateway on their way. */
const WINDOW = 4;

function packet(type: number, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from([type, body.length]), body]);
}

const text = (value: string): Buffer => {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]);
};

/** One gateway: a connection, frames of an epoch of its own, and the acknowledgements that come back. */
class SimulatedGateway {
  acknowledged = 0;
  private readonly name: string;
  private readonly socket: Socket;
  private readonly builder = new FrameBuilder(16 * 1024);
  private readonly epoch = randomBytes(8);
  private readonly bootId = randomBytes(8);
  private sequence = 1;
  private received: Buffer = Buffer.alloc(0);
  private stopped = false;
  readonly ready: Promise<void>;

  constructor(number: number, port: number) {
    this.name = `bench-${number}`;
    this.socket = connect({ host: '127.0.0.1', port, noDelay: true });
    this.socket.on('error', () => undefined);
    this.ready = new Promise((resolve) => {
      this.socket.once('connect', () => {
        const head = Buffer.concat([text('MQTT'), Buffer.from([4, 2, 0, 60])]);
        this.socket.write(packet(0x10, Buffer.concat([head, text(`gateway-${this.name}`)])));
        const filter = Buffer.concat([text(`${DOWN_PREFIX}${this.name}`), Buffer.from([0])]);
        this.socket.write(packet(0x82, Buffer.concat([Buffer.from([0, 1]), filter])));
      });
      this.socket.on('data', (chunk: Buffer) => this.take(chunk, resolve));
    });
  }

  private take(chunk: Buffer, ready: () => void): void {
    this.received = this.received.length === 0 ? chunk : Buffer.concat([this.received, chunk]);
    for (;;) {
      let length = 0;
      let at = 1;
      for (let scale = 1; ; scale *= 128, at++) {
        const byte = this.received[at];
        if (byte === undefined) return;
        length += (byte & 127) * scale;
        if (byte < 128) break;
      }
      const end = at + 1 + length;
      if (this.received.length < end) return;
      const type = (this.received[0] ?? 0) >> 4;
      const body = this.received.subarray(at + 1, end);
      this.received = this.received.subarray(end);
      if (type === 9) ready();
      if (type !== 3) continue;
      const { acks } = JSON.parse(body.subarray(2 + body.readUInt16BE(0)).toString()) as {
        acks?: { ranges: [number, number][] }[];
      };
      const top = Math.max(0, ...(acks ?? []).flatMap(({ ranges }) => ranges.map(([, to]) => to)));
      while (this.acknowledged < top) {
        this.acknowledged += MESSAGES_PER_FRAME;
        this.send();
      }
    }
  }

  begin(): void {
    for (let i = 0; i < WINDOW; i++) this.send();
  }

  private send(): void {
    if (this.stopped) return;
    for (let i = 0; i < MESSAGES_PER_FRAME; i++) {
      const payload = Buffer.from(
        `{"temperature":${(15 + ((this.sequence + i) % 1500) / 100).toFixed(2)}}`,
      );
      this.builder.add(
        { client: 'd', topic: 'site/d/climate', qos: 1, retain: false, dup: false, payload },
        1.7e15,
        1,
      );
    }
    const identity = { gateway: this.name, epoch: this.epoch, bootId: this.bootId };
    const frame = this.builder.finish(identity, this.sequence, CLOCK_SYNCHRONISED, true);
    this.sequence += MESSAGES_PER_FRAME;
    this.socket.write(encodePublish(`${UP_PREFIX}${this.name}`, encodeUp(0, [frame]), 0, 0));
  }

  stop(): void {
    this.stopped = true;
    this.socket.destroy();
  }
}

interface Measured {
  collectors: number;
  gateways: number;
  messagesPerSecond: number;
  collectorCpuSecondsPer100k: number;
  /** Of one collector process, the largest. */
  anonymousBytes: number;
}

async function measure(
  kafka: string,
  collectorCount: number,
  count: number,
  seconds: number,
): Promise<Measured> {
  const collectors: Headwater[] = [];
  for (let i = 0; i < collectorCount; i++)
    collectors.push(await startCollector(['--log', `kafka://${kafka}`, '--roles', 'ingest']));
  const gateways = Array.from(
    { length: count },
    (_, i) => new SimulatedGateway(i, (collectors[i % collectorCount] as Headwater).port('uplink')),
  );
  await Promise.all(gateways.map(({ ready }) => ready));
  for (const gateway of gateways) gateway.begin();
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const total = (): number => gateways.reduce((sum, { acknowledged }) => sum + acknowledged, 0);
  const [before, cpuBefore, began] = [
    total(),
    collectors.map(({ pid }) => costOf(pid).cpuSeconds),
    performance.now(),
  ];
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const messages = total() - before;
  const elapsed = (performance.now() - began) / 1000;
  const cpu = collectors.reduce(
    (sum, { pid }, i) => sum + costOf(pid).cpuSeconds - (cpuBefore[i] ?? 0),
    0,
  );
  const anonymousBytes = Math.max(...collectors.map(({ pid }) => costOf(pid).anonymousBytes));
  for (const gateway of gateways) gateway.stop();
  for (const collector of collectors) await collector.kill('SIGKILL');
  return {
    collectors: collectorCount,
    gateways: count,
    messagesPerSecond: Math.round(messages / elapsed),
    collectorCpuSecondsPer100k: Number(((cpu / messages) * 100_000).toFixed(3)),
    anonymousBytes,
  };
}

/** Figures by number of gateways, then by number of collectors. */
export async function benchGateways(most: number, smoke: boolean): Promise<object> {
  const seconds = smoke ? 1 : 6;
  const kafka = await startKafka();
  try {
    const byGateways: Measured[] = [];
    for (let count = 1; count < most; count *= 10)
      byGateways.push(await measure(kafka.address, 1, count, seconds));
    byGateways.push(await measure(kafka.address, 1, most, seconds));
    const byCollectors: Measured[] = [byGateways.at(-1) as Measured];
    for (const count of smoke ? [2] : [2, 4])
      byCollectors.push(await measure(kafka.address, count, most, seconds));
    return { machine: machine(), byGateways, byCollectors };
  } finally {
    await kafka.stop();
  }
}

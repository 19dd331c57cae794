/**
 * The centre that readings go to, which can be away and come back at the same address. Each counts how often a value has
 * arrived; what it has taken it keeps, so that a loss is the edge's.
 */
import { createServer, type Server } from 'node:http';
import { gunzipSync } from 'node:zlib';
import { connect, type MqttClient } from 'mqtt';
import { getJson } from '../../support/reconcile.ts';
import { startCollector, temporaryFolder, until, type Headwater } from '../../support/process.ts';

export type Counts = Map<number, number>;

export interface Centre {
  on(): Promise<void>;
  off(): Promise<void>;
  counts(): Promise<Counts> | Counts;
}

/** A subscriber with a persistent session, QoS 1, that comes back whenever it loses its connection: what a bridge does. */
export class Subscriber implements Centre {
  private readonly seen: Counts = new Map();
  private client: MqttClient | undefined;
  private readonly port: number;

  constructor(port: number) {
    this.port = port;
  }

  /** Resolves when its subscription is in force. */
  async on(): Promise<void> {
    const client = connect(`mqtt://127.0.0.1:${this.port}`, {
      clientId: 'forwarder',
      clean: false,
      reconnectPeriod: 200,
      resubscribe: false,
    });
    this.client = client;
    client.on('error', () => undefined);
    client.on('message', (_topic, payload) => {
      const { n } = JSON.parse(payload.toString()) as { n: number };
      this.seen.set(n, (this.seen.get(n) ?? 0) + 1);
    });
    await until('the subscriber to connect', () => client.connected || undefined, 60_000);
    await client.subscribeAsync('chaos/#', { qos: 1 });
  }

  async off(): Promise<void> {
    await this.client?.endAsync(true);
  }

  counts(): Counts {
    return this.seen;
  }
}

/** Answers InfluxDB's `/api/v2/write` and counts points, where InfluxDB would put two of one series and time into one. */
export class LineReceiver implements Centre {
  private readonly seen: Counts = new Map();
  private server: Server | undefined;
  private readonly port: number;

  constructor(port: number) {
    this.port = port;
  }

  async on(): Promise<void> {
    this.server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const body = Buffer.concat(chunks);
        const text = request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body;
        for (const [, value] of text.toString().matchAll(/[ ,]n=(\d+)/g))
          this.seen.set(Number(value), (this.seen.get(Number(value)) ?? 0) + 1);
        response.writeHead(204).end();
      });
    });
    await new Promise<void>((resolve, reject) => {
      this.server?.once('error', reject).listen(this.port, '127.0.0.1', () => resolve());
    });
  }

  async off(): Promise<void> {
    this.server?.closeAllConnections();
    await new Promise<void>((resolve) => {
      if (this.server === undefined) resolve();
      else this.server.close(() => resolve());
    });
  }

  counts(): Counts {
    return this.seen;
  }
}

/** A real collector; what counts is what its store has. */
export class Collector implements Centre {
  private readonly folder = temporaryFolder();
  private running: Headwater | undefined;
  private last: Counts = new Map();
  private readonly port: number;

  constructor(port: number) {
    this.port = port;
  }

  async on(): Promise<void> {
    const uplink = `127.0.0.1:${this.port}`;
    this.running = await startCollector(['--data', this.folder, '--uplink', uplink]);
  }

  async off(): Promise<void> {
    await this.running?.kill('SIGTERM');
    this.running = undefined;
  }

  async counts(): Promise<Counts> {
    if (this.running === undefined) return this.last;
    const { series } = await getJson<{ series: { points: [number, number][] }[] }>(
      `http://${this.running.address['http']}/api/v1/query?measurement=table&field=n`,
    );
    const counts: Counts = new Map();
    for (const { points } of series)
      for (const [, value] of points) counts.set(value, (counts.get(value) ?? 0) + 1);
    this.last = counts;
    return counts;
  }
}

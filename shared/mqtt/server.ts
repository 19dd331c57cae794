/**
 * Listens for MQTT connections and keeps the limits that concern more than one of them: how many in all and from one
 * address, how long a connection may take to introduce itself, and keep alive [MQTT-3.1.2-24].
 */
import { createServer, type Server, type Socket } from 'node:net';
import { listen } from '../http/listen.ts';
import { MqttConnection, type MqttHandler } from './connection.ts';

export interface ServerLimits {
  connectionsMax: number;
  connectionsPerAddressMax: number;
  /** From TCP accept to CONNACK, milliseconds. */
  connectTimeoutMs: number;
}

const SWEEP_MS = 1000;

export class MqttServer {
  private readonly handler: MqttHandler;
  private readonly limits: ServerLimits;
  private readonly monotonicUs: () => number;
  private readonly server: Server;
  private readonly connections = new Map<MqttConnection, number>();
  private readonly perAddress = new Map<string, number>();
  private sweeper: NodeJS.Timeout | undefined;
  refused = 0;

  constructor(handler: MqttHandler, limits: ServerLimits, monotonicUs: () => number) {
    this.handler = handler;
    this.limits = limits;
    this.monotonicUs = monotonicUs;
    this.server = createServer({ noDelay: true }, (socket) => this.accept(socket));
  }

  get connectionCount(): number {
    return this.connections.size;
  }

  /** Listens and returns the address it got. `flag` is named when the port is busy. Throws ADDRESS_IN_USE. */
  async listen(
    address: { host: string; port: number },
    flag: string,
  ): Promise<{ host: string; port: number }> {
    const bound = await listen(this.server, address, flag);
    this.sweeper = setInterval(() => this.sweep(), SWEEP_MS);
    this.sweeper.unref();
    return bound;
  }

  private accept(socket: Socket): void {
    const address = socket.remoteAddress ?? '';
    const same = this.perAddress.get(address) ?? 0;
    if (
      this.connections.size >= this.limits.connectionsMax ||
      same >= this.limits.connectionsPerAddressMax
    ) {
      this.refused++;
      socket.on('error', () => undefined); // Refused already; how it ends does not matter.
      socket.destroy();
      return;
    }
    this.perAddress.set(address, same + 1);
    const connection = new MqttConnection(socket, this.handler, this.monotonicUs);
    this.connections.set(connection, this.monotonicUs());
    socket.on('close', () => {
      this.connections.delete(connection);
      const left = (this.perAddress.get(address) ?? 1) - 1;
      if (left > 0) this.perAddress.set(address, left);
      else this.perAddress.delete(address);
    });
  }

  private sweep(): void {
    const now = this.monotonicUs();
    for (const [connection, acceptedUs] of this.connections) {
      if (connection.isConnecting) {
        if (now - acceptedUs > this.limits.connectTimeoutMs * 1000)
          connection.close('no CONNECT in time');
        continue;
      }
      const keepAlive = connection.connect?.keepAliveSeconds ?? 0;
      // A connection that we do not read from cannot be blamed for its silence.
      if (
        keepAlive > 0 &&
        !connection.isHeld &&
        now - connection.lastReceivedUs > keepAlive * 1_500_000
      ) {
        connection.close('keep alive expired');
      }
    }
  }

  /** Stops listening and closes every connection. */
  async close(): Promise<void> {
    clearInterval(this.sweeper);
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    for (const connection of this.connections.keys()) connection.close('the server stops');
    await closed;
  }

  all(): Iterable<MqttConnection> {
    return this.connections.keys();
  }
}

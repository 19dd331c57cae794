/**
 * Sends committed frames to the collector and releases them once the collector's log has them.
 *
 * - At most `windowBytes` are on their way unacknowledged; the rest waits on disk, so memory does not grow with it.
 * - A connection that stays silent while frames are on their way is given up after `ackTimeoutMs`: a half-open link
 *   accepts bytes and forgets them.
 * - After every reconnect sending starts at the oldest frame that was not acknowledged. Resends keep their identity.
 * - Collectors are tried in turn, with exponential backoff and jitter, so that a fleet does not return at once.
 */
import { connect, type MqttClient } from 'mqtt';
import type { Env } from '../../shared/env/env.ts';
import { messageOf } from '../../shared/errors.ts';
import { readHeader } from '../../shared/frame/frame.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import {
  LANE_LIVE,
  decodeDown,
  downTopic,
  encodeUp,
  upTopic,
  type EpochAck,
} from '../../shared/wire/wire.ts';
import type { FrameRef, MessageBuffer } from '../buffer/buffer.ts';

export interface UplinkOptions {
  gateway: string;
  /** `mqtt://HOST:PORT` or `mqtts://HOST:PORT`. */
  collectors: string[];
  /** Sent as password, with the gateway's id as user name. */
  secret: string | undefined;
  windowBytes: number;
  publishBytesMax: number;
  ackTimeoutMs: number;
  keepAliveSeconds: number;
  reconnectMs: { first: number; most: number };
}

interface InFlight extends FrameRef {
  from: number;
  to: number;
}

export interface UplinkStats {
  connected: boolean;
  collector: string;
  connects: number;
  sentFrames: number;
  sentBytes: number;
  sentMessages: number;
  acknowledgedMessages: number;
  inFlightBytes: number;
  ackTimeouts: number;
  lastError: string;
}

const TICK_MS = 500;

export class Uplink {
  private readonly env: Env;
  private readonly options: UplinkOptions;
  private readonly buffer: Pick<MessageBuffer<never>, 'read' | 'release'>;
  private readonly notify: Notify;

  private client: MqttClient | undefined;
  private turn = 0;
  private failures = 0;
  private stopped = false;
  private timer: NodeJS.Timeout | undefined;
  private ticker: NodeJS.Timeout | undefined;
  private ready = false;
  private filling = false;
  private wanted = false;
  private sentTo: Buffer | undefined;
  private inFlight = new Map<string, InFlight[]>();
  private lastHeardUs = 0;
  private readonly stat: UplinkStats = {
    connected: false,
    collector: '',
    connects: 0,
    sentFrames: 0,
    sentBytes: 0,
    sentMessages: 0,
    acknowledgedMessages: 0,
    inFlightBytes: 0,
    ackTimeouts: 0,
    lastError: '',
  };

  constructor(
    env: Env,
    options: UplinkOptions,
    buffer: Pick<MessageBuffer<never>, 'read' | 'release'>,
    notify: Notify,
  ) {
    this.env = env;
    this.options = options;
    this.buffer = buffer;
    this.notify = notify;
  }

  start(): void {
    this.ticker = setInterval(() => this.tick(), TICK_MS);
    this.ticker.unref();
    this.dial();
  }

  stats(): UplinkStats {
    return { ...this.stat };
  }

  /** A frame was committed. */
  wake(): void {
    this.wanted = true;
    if (this.ready && !this.filling) void this.fill();
  }

  private dial(): void {
    const { collectors, gateway, secret, keepAliveSeconds } = this.options;
    const url = collectors[this.turn++ % collectors.length];
    if (url === undefined || this.stopped) return;
    this.stat.collector = url;
    const client = connect(url, {
      clientId: `gateway-${gateway}`,
      clean: true,
      protocolVersion: 4,
      keepalive: keepAliveSeconds,
      reconnectPeriod: 0,
      connectTimeout: this.options.ackTimeoutMs,
      queueQoSZero: false,
      resubscribe: false,
      ...(secret === undefined ? {} : { username: gateway, password: secret }),
    });
    this.client = client;
    client.on('connect', () => {
      client.stream.on('error', () => undefined); // Seen again as 'close'.
      if ('setNoDelay' in client.stream)
        (client.stream as { setNoDelay(on: boolean): void }).setNoDelay(true);
      client.subscribe(downTopic(gateway), { qos: 0 }, (error) => {
        if (error !== null) return this.hangUp(client, `subscribing failed: ${messageOf(error)}`);
        return this.connected(client);
      });
    });
    client.on('message', (_topic, payload) => this.heard(client, payload));
    client.on('error', (error) => {
      this.stat.lastError = messageOf(error) || 'connection refused';
    });
    client.on('close', () => this.closed(client));
  }

  private connected(client: MqttClient): void {
    if (client !== this.client || this.stopped) return;
    this.ready = true;
    this.failures = 0;
    this.stat.connected = true;
    this.stat.connects++;
    this.lastHeardUs = this.env.clock.monotonicUs();
    this.notify({
      level: 'info',
      event: 'uplink_connected',
      text: `connected to ${this.stat.collector}`,
    });
    this.wake();
  }

  private closed(client: MqttClient): void {
    if (client !== this.client) return;
    this.client = undefined;
    client.removeAllListeners();
    client.on('error', () => undefined); // Its end has been dealt with.
    client.end(true);
    if (this.ready || this.failures === 0) {
      const why = this.stat.lastError === '' ? '' : ` (${this.stat.lastError})`;
      this.notify({
        level: 'warn',
        event: 'uplink_down',
        text: `no connection to ${this.stat.collector}${why}; messages wait in the buffer`,
      });
    }
    this.ready = false;
    this.stat.connected = false;
    this.sentTo = undefined;
    this.inFlight.clear();
    this.stat.inFlightBytes = 0;
    if (this.stopped) return;
    const { first, most } = this.options.reconnectMs;
    const ceiling = Math.min(most, first * 2 ** this.failures++);
    // Full jitter below the ceiling, half of it at least.
    this.timer = setTimeout(() => this.dial(), ceiling * (0.5 + this.env.random.fraction() / 2));
  }

  private hangUp(client: MqttClient, why: string): void {
    if (client !== this.client) return;
    this.stat.lastError = why;
    client.stream.destroy();
  }

  private tick(): void {
    const { client } = this;
    if (!this.ready || client === undefined || this.stat.inFlightBytes === 0) return;
    if (this.env.clock.monotonicUs() - this.lastHeardUs > this.options.ackTimeoutMs * 1000) {
      this.stat.ackTimeouts++;
      this.hangUp(client, `no acknowledgement within ${this.options.ackTimeoutMs} ms`);
    }
  }

  /** Sends until the window is full or nothing is left. One at a time. */
  private async fill(): Promise<void> {
    this.filling = true;
    try {
      for (
        let client = this.client;
        this.ready && client !== undefined && client === this.client;
      ) {
        // A full window needs no reminder: the next acknowledgement comes back here.
        this.wanted = false;
        const room = this.options.windowBytes - this.stat.inFlightBytes;
        if (room <= 0) return;
        const frames = await this.buffer.read(
          this.sentTo,
          Math.min(room, this.options.publishBytesMax),
        );
        if (client !== this.client || !this.ready) continue;
        const last = frames.at(-1);
        if (last === undefined) {
          if (this.wanted) continue;
          return;
        }
        if (this.stat.inFlightBytes === 0) this.lastHeardUs = this.env.clock.monotonicUs();
        for (const { position, frame } of frames) {
          const { epoch, firstSequence, count } = readHeader(frame);
          let list = this.inFlight.get(epoch);
          if (list === undefined) this.inFlight.set(epoch, (list = []));
          list.push({
            position,
            bytes: frame.length,
            count,
            from: firstSequence,
            to: firstSequence + count - 1,
          });
          this.stat.inFlightBytes += frame.length;
          this.stat.sentFrames++;
          this.stat.sentMessages += count;
        }
        this.sentTo = last.position;
        const payload = encodeUp(
          LANE_LIVE,
          frames.map(({ frame }) => frame),
        );
        this.stat.sentBytes += payload.length;
        client.publish(upTopic(this.options.gateway), payload, { qos: 0 });
        client = this.client;
      }
    } catch (error) {
      // The buffer may be reopening: it is asked again, whether new messages come or not.
      this.notify({ level: 'warn', event: 'uplink_read', text: messageOf(error) });
      setTimeout(() => this.wake(), TICK_MS).unref();
    } finally {
      this.filling = false;
      // Called while this was reading, by a new connection say: then it is not over.
      if (this.wanted && this.ready) setImmediate(() => this.wake());
    }
  }

  private heard(client: MqttClient, payload: Buffer): void {
    if (client !== this.client) return;
    try {
      const { acks, error } = decodeDown(payload);
      if (error !== undefined) {
        this.notify({
          level: 'error',
          event: 'uplink_refused',
          text: `the collector refuses: ${error}`,
        });
        return;
      }
      this.lastHeardUs = this.env.clock.monotonicUs();
      const done = acks.flatMap((ack) => this.acknowledged(ack));
      if (done.length > 0) void this.buffer.release(done);
      if (!this.filling) void this.fill();
    } catch (error) {
      this.hangUp(client, messageOf(error));
    }
  }

  private acknowledged({ epoch, ranges }: EpochAck): FrameRef[] {
    const list = this.inFlight.get(epoch);
    if (list === undefined) return [];
    const done: InFlight[] = [];
    const left: InFlight[] = [];
    for (const sent of list) {
      const covered = ranges.some(([from, to]) => from <= sent.from && sent.to <= to);
      (covered ? done : left).push(sent);
    }
    if (left.length === 0) this.inFlight.delete(epoch);
    else this.inFlight.set(epoch, left);
    for (const { bytes, count } of done) {
      this.stat.inFlightBytes -= bytes;
      this.stat.acknowledgedMessages += count;
    }
    return done;
  }

  /** Stops sending; frames stay in the buffer. Idempotent. */
  async stop(): Promise<void> {
    this.stopped = true;
    clearTimeout(this.timer);
    clearInterval(this.ticker);
    const { client } = this;
    this.client = undefined;
    this.ready = false;
    this.stat.connected = false;
    if (client === undefined) return;
    client.removeAllListeners();
    client.on('error', () => undefined); // Ending on purpose.
    await new Promise<void>((resolve) => client.end(true, {}, () => resolve()));
  }
}

/**
 * Keeps a connection to one of the collectors, and a session on it. What is sent and released is the session's affair;
 * here it is dialling: collectors are tried in turn, with exponential backoff and jitter, so that a fleet does not
 * return at once. After every reconnect a new session starts at the oldest frame that was not acknowledged.
 */
import { MqttClient, connect } from 'mqtt';
import type { IClientOptions } from 'mqtt';
import type { TLSSocket } from 'node:tls';
import { Backoff } from '../../shared/env/backoff.ts';
import type { RemoteConfig } from '../../shared/model/remote.ts';
import type { Env } from '../../shared/env/env.ts';
import { messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { downTopic, upTopic } from '../../shared/wire/wire.ts';
import type { MessageBuffer } from '../buffer/buffer.ts';
import type { GatewayClock } from '../buffer/clock.ts';
import type { UplinkBuffer } from './lanes.ts';
import { Budget, type BudgetState } from './pace.ts';
import { connectSecurely, type UplinkTls } from './secure.ts';
import { Perhaps } from './perhaps.ts';
import { Session, type Link, type SessionOptions } from './session.ts';
import { freshStats, type SessionStats } from './stats.ts';

export interface UplinkOptions extends SessionOptions {
  /** `mqtt://HOST:PORT` or `mqtts://HOST:PORT`. */
  collectors: string[];
  /** Sent as password, with the gateway's id as user name. */
  secret: string | undefined;
  /** Certificates, for collectors at mqtts://. */
  tls: UplinkTls;
  keepAliveSeconds: number;
  reconnectMs: { first: number; most: number };
  /** Of a metered link; 0 is no limit. */
  bytesPerSecond: number;
  bytesPerDay: number;
}

export interface UplinkStats extends SessionStats {
  connected: boolean;
  collector: string;
  connects: number;
  bytesToday: number;
  lastError: string;
}

/** Of one outage. */
const REASONS_MAX = 8;
const TODAY_KEY = Buffer.from('mtoday');
/** Between notes of what the day's budget has taken. */
const TODAY_MS = 5000;

export class Uplink {
  private readonly env: Env;
  private readonly options: UplinkOptions;
  private readonly buffer: UplinkBuffer & Pick<MessageBuffer<never>, 'entries' | 'remember'>;
  private readonly clock: GatewayClock;
  private readonly notify: Notify;

  private client: MqttClient | undefined;
  private session: Session | undefined;
  private readonly perhaps = new Perhaps();
  private budget: Budget;
  private turn = 0;
  /** Reasons that were said since the last connection. */
  private readonly told = new Set<string>();
  private readonly backoff: Backoff;
  private stopped = false;
  private timer: NodeJS.Timeout | undefined;
  private budgetTimer: NodeJS.Timeout | undefined;
  /** Called when there is no connection (any more), with what was said of it. */
  onFailed: (why: string) => void = () => undefined;
  /** Takes what the collector says to devices. */
  onCommand: (topic: string, payload: Buffer) => void = () => undefined;
  /** Takes settings that a collector declares. */
  onConfig: (config: RemoteConfig, collector: string) => void = () => undefined;
  /** A collector has said something that could be understood; the link it came by is gone. */
  onHeard: () => void = () => undefined;
  onLost: () => void = () => undefined;
  about: Link['about'] = () => ({});
  private readonly sessionStat = freshStats();
  private readonly stat = { connected: false, collector: '', connects: 0, lastError: '' };

  constructor(
    env: Env,
    options: UplinkOptions,
    buffer: UplinkBuffer & Pick<MessageBuffer<never>, 'entries' | 'remember'>,
    clock: GatewayClock,
    notify: Notify,
  ) {
    this.env = env;
    this.options = options;
    this.buffer = buffer;
    this.clock = clock;
    this.notify = notify;
    this.budget = new Budget(options.bytesPerSecond, options.bytesPerDay);
    const { first: firstMs, most: mostMs } = options.reconnectMs;
    // Half of each wait is chance.
    const fraction = (): number => env.random.fraction();
    this.backoff = new Backoff({ firstMs, mostMs, jitter: 0.5, fraction });
  }

  async start(): Promise<void> {
    const { bytesPerSecond, bytesPerDay } = this.options;
    if (bytesPerDay > 0) {
      const [noted] = await this.buffer.entries(TODAY_KEY);
      if (noted !== undefined)
        this.budget = new Budget(bytesPerSecond, bytesPerDay, todayOf(noted[1]));
      this.budgetTimer = setInterval(() => this.noteBudget(), TODAY_MS);
      this.budgetTimer.unref();
    }
    this.dial();
  }

  private noteBudget(): void {
    this.buffer.remember(TODAY_KEY, Buffer.from(JSON.stringify(this.budget.today)));
  }

  stats(): UplinkStats {
    return { ...this.sessionStat, ...this.stat, bytesToday: this.budget.today.used };
  }

  /** A frame was committed. */
  wake(): void {
    this.session?.committed();
  }

  /** On its way to a collector and not acknowledged, or it was when a connection ended. */
  isInFlight(position: Buffer): boolean {
    return this.session?.isInFlight(position) === true || this.perhaps.has(position);
  }

  private dial(): void {
    const { collectors, gateway, secret, keepAliveSeconds, ackTimeoutMs, tls } = this.options;
    const url = collectors[this.turn++ % collectors.length];
    if (url === undefined || this.stopped) return;
    this.stat.collector = url;
    const options: IClientOptions = {
      clientId: `gateway-${gateway}`,
      clean: true,
      protocolVersion: 4,
      keepalive: keepAliveSeconds,
      reconnectPeriod: 0,
      connectTimeout: ackTimeoutMs,
      queueQoSZero: false,
      resubscribe: false,
      ...(secret === undefined ? {} : { username: gateway, password: secret }),
    };
    const { protocol, hostname, port } = new URL(url);
    if (protocol !== 'mqtts:') {
      this.use(connect(url, options));
      return;
    }
    const host = hostname.replaceAll(/[[\]]/g, '');
    connectSecurely(host, Number(port || 8883), tls, () => this.clock.nowMs(), ackTimeoutMs).then(
      ({ socket }) => {
        if (this.stopped) socket.destroy();
        else this.use(overSocket(socket, options));
      },
      (error: unknown) => {
        this.stat.lastError = messageOf(error);
        this.failed();
      },
    );
  }

  private use(client: MqttClient): void {
    const { gateway } = this.options;
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
    client.on('message', (_topic, payload) => {
      if (client === this.client) this.session?.heard(payload);
    });
    client.on('error', (error) => {
      this.stat.lastError = messageOf(error) || 'connection refused';
    });
    client.on('close', () => this.closed(client));
  }

  private connected(client: MqttClient): void {
    if (client !== this.client || this.stopped) return;
    this.told.clear();
    this.backoff.reset();
    this.stat.connected = true;
    this.stat.connects++;
    this.notify({
      level: 'info',
      event: 'uplink_connected',
      text: `connected to ${this.stat.collector}`,
    });
    const { env, options, buffer, clock, budget, notify } = this;
    const topic = upTopic(options.gateway);
    const link: Link = {
      send: (payload: Buffer) => {
        client.publish(topic, payload, { qos: 0 });
      },
      hangUp: (why: string) => this.hangUp(client, why),
      command: (topic: string, payload: Buffer) => this.onCommand(topic, payload),
      config: (config) => this.onConfig(config, this.stat.collector),
      heard: () => this.onHeard(),
      about: () => this.about(),
    };
    this.session = new Session(env, options, buffer, clock, budget, link, this.sessionStat, notify);
  }

  private closed(client: MqttClient): void {
    if (client !== this.client) return;
    this.client = undefined;
    client.removeAllListeners();
    client.on('error', () => undefined); // Its end has been dealt with.
    client.end(true);
    this.failed();
  }

  /** There is no connection (any more): each reason is said once, and it is tried again. */
  private failed(): void {
    if (this.stopped) return;
    const { lastError } = this.stat;
    if (!this.told.has(lastError) && this.told.size < REASONS_MAX) {
      this.told.add(lastError);
      const why = lastError === '' ? '' : ` (${lastError})`;
      this.notify({
        level: 'warn',
        event: 'uplink_down',
        text: `no connection to ${this.stat.collector}${why}; messages wait in the buffer`,
      });
    }
    this.endSession();
    this.onFailed(this.stat.lastError);
    this.timer = setTimeout(() => this.dial(), this.backoff.next());
  }

  /** Connects anew, with the certificate that is there now. What is on its way is sent again. */
  renew(): void {
    if (this.client !== undefined && this.stat.connected)
      this.hangUp(this.client, 'the certificate was renewed');
  }

  /** Says now what has changed. */
  tell(): void {
    this.session?.tell();
  }

  /** Seconds that the wall clock is ahead of what a collector said. */
  clockOffsets(): { labels: Record<string, string>; value: number }[] {
    const { apartUs } = this.clock;
    return apartUs === undefined ? [] : [{ labels: {}, value: apartUs / 1e6 }];
  }

  private endSession(): void {
    if (this.session !== undefined) this.onLost();
    this.perhaps.add(this.session?.unacknowledged ?? []);
    this.session?.end();
    this.session = undefined;
    this.stat.connected = false;
  }

  private hangUp(client: MqttClient, why: string): void {
    if (client !== this.client) return;
    this.stat.lastError = why;
    client.stream.destroy();
  }

  /** Stops sending; frames stay in the buffer. Idempotent. */
  async stop(): Promise<void> {
    if (this.budgetTimer !== undefined && !this.stopped) this.noteBudget();
    this.stopped = true;
    clearTimeout(this.timer);
    clearInterval(this.budgetTimer);
    const { client } = this;
    this.client = undefined;
    this.endSession();
    if (client === undefined) return;
    client.removeAllListeners();
    client.on('error', () => undefined); // Ending on purpose.
    await new Promise<void>((resolve) => client.end(true, {}, () => resolve()));
  }
}

/** MQTT on a connection that was made and checked before. */
function overSocket(socket: TLSSocket, options: IClientOptions): MqttClient {
  return new MqttClient(() => socket, options);
}

function todayOf(value: Buffer): BudgetState {
  try {
    const { day, used } = JSON.parse(value.toString('utf8')) as BudgetState;
    return Number.isFinite(day) && Number.isFinite(used) ? { day, used } : { day: 0, used: 0 };
  } catch {
    return { day: 0, used: 0 }; // Damaged: the day is counted anew.
  }
}

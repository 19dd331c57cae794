/** A good device and a good reader, who notice what an attack costs them: how long, and whether anything is lost. */
import { Agent as HttpAgent, request } from 'node:http';
import { Agent as HttpsAgent, request as requestTls } from 'node:https';
import { connect } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import type { Socket } from 'node:net';
import { connectPacket } from '../support/hostile.ts';
import { encodePublish } from '../support/load.ts';
import { portOf, type Ask, type Target } from './attack.ts';

const GOOD = '127.0.0.3';
export const GOOD_TOPIC = 'good/device';
const EVERY_MS = 5;
const LATE_MS = 10_000;

/** Nearest rank; NaN of nothing. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}

export interface Good {
  user: string;
  password: string;
  token: string;
}

/** Publishes a number every few milliseconds at QoS 1 and waits for none. */
export class GoodDevice {
  /** Of the phase, milliseconds to the PUBACK. */
  latenciesMs: number[] = [];
  readonly acknowledged = new Set<number>();
  readonly troubles: string[] = [];
  private socket: Socket | TLSSocket | undefined;
  private timer: NodeJS.Timeout | undefined;
  private readonly waiting = new Map<number, { n: number; sentMs: number }>();
  private sent = 0;
  private rest = Buffer.alloc(0);

  async start({ mqtt, mqtts }: Target, login: Good | undefined): Promise<void> {
    const where = { host: '127.0.0.1', localAddress: GOOD };
    const socket =
      mqtts === undefined
        ? connect({ ...where, port: mqtt, noDelay: true })
        : connectTls({ ...where, port: mqtts, rejectUnauthorized: false });
    this.socket = socket;
    socket.on('error', (error) => this.troubles.push(`the device's connection: ${error.message}`));
    socket.on('close', () => {
      if (this.timer !== undefined) this.troubles.push("the device's connection was closed");
    });
    await new Promise<void>((resolve) => {
      socket.write(
        connectPacket({ id: 'good', ...(login && { user: login.user, password: login.password }) }),
      );
      socket.once('data', () => resolve());
    });
    socket.on('data', (data: Buffer) => this.take(data));
    this.timer = setInterval(() => this.publish(), EVERY_MS);
  }

  private publish(): void {
    const n = ++this.sent;
    const id = 1 + (n % 65_000);
    const late = this.waiting.get(id);
    if (late !== undefined) this.troubles.push(`no PUBACK for message ${late.n}`);
    this.waiting.set(id, { n, sentMs: performance.now() });
    this.socket?.write(encodePublish(GOOD_TOPIC, `{"n":${n}}`, 1, id));
  }

  private take(data: Buffer): void {
    const all = Buffer.concat([this.rest, data]);
    const nowMs = performance.now();
    let at = 0;
    for (; at + 4 <= all.length; at += 4) {
      const id = all.readUInt16BE(at + 2);
      const sent = this.waiting.get(id);
      if (all[at] !== 0x40 || sent === undefined) continue;
      this.waiting.delete(id);
      this.acknowledged.add(sent.n);
      this.latenciesMs.push(nowMs - sent.sentMs);
    }
    this.rest = all.subarray(at);
  }

  /** All that it was not answered for within ten seconds is a trouble. */
  async stop(): Promise<void> {
    clearInterval(this.timer);
    this.timer = undefined;
    const deadline = performance.now() + LATE_MS;
    while (this.waiting.size > 0 && performance.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 20));
    for (const { n } of this.waiting.values()) this.troubles.push(`no PUBACK for message ${n}`);
    this.socket?.destroy();
  }
}

interface Answer {
  status: number;
  body: string;
  ms: number;
}

/** Asks for what the device has sent, listens to it, and asks whether the servers live. */
export class GoodReader {
  healthMs: number[] = [];
  answersMs: number[] = [];
  readonly troubles: string[] = [];
  private readonly target: Target;
  private readonly token: string | undefined;
  private readonly agents: HttpAgent[];
  private readonly timers: NodeJS.Timeout[] = [];
  private newest = 0;
  /** Of its stream: newer ones go before older ones where the link was away (law 6), so not in order. */
  private readonly heard = new Map<number, number>();
  private asking = false;
  private stopListening: (() => void) | undefined;

  constructor(target: Target, good: Good | undefined) {
    this.target = target;
    this.token = good?.token;
    const options = { keepAlive: true, localAddress: GOOD };
    this.agents = [0, 1].map(() =>
      target.isSecure
        ? new HttpsAgent({ ...options, rejectUnauthorized: false })
        : new HttpAgent(options),
    );
  }

  private send(side: Ask['side'], path: string, onPart?: (text: string) => void): Promise<Answer> {
    const beganMs = performance.now();
    const make = this.target.isSecure ? requestTls : request;
    return new Promise((resolve) => {
      const failed = (error: Error): void => {
        // A connection that was kept may be closed by the other side just then (RFC 9112, 9.3.1).
        if (sent.reusedSocket && onPart === undefined) resolve(this.send(side, path));
        else resolve({ status: 0, body: error.message, ms: performance.now() - beganMs });
      };
      const sent = make(
        {
          ...{ host: '127.0.0.1', port: portOf(this.target, side), path, timeout: 0 },
          agent: this.agents[path === '/healthz' ? 0 : 1],
          headers: this.token === undefined ? {} : { authorization: `Bearer ${this.token}` },
        },
        (response) => {
          let body = '';
          response.setEncoding('utf8');
          response.on('data', (text: string) =>
            onPart === undefined ? (body += text) : onPart(text),
          );
          response.on('error', failed);
          response.on('end', () =>
            resolve({ status: response.statusCode ?? 0, body, ms: performance.now() - beganMs }),
          );
        },
      );
      if (onPart !== undefined) this.stopListening = () => sent.destroy();
      sent.on('error', failed);
      sent.end();
    });
  }

  start(): void {
    const health = async (side: Ask['side']): Promise<void> => {
      const { status, ms } = await this.send(side, '/healthz');
      this.healthMs.push(ms);
      if (status !== 200) this.troubles.push(`/healthz of the ${side}: ${status}`);
    };
    let beat = 0;
    this.timers.push(
      setInterval(() => void health(beat++ % 2 === 0 ? 'collector' : 'gateway'), 25),
    );
    this.timers.push(setInterval(() => void this.look(), 200));
    void this.listen();
  }

  private async look(): Promise<void> {
    if (this.asking) return;
    this.asking = true;
    const path = `/api/v1/latest?measurement=device&field=n&tag.topic=${encodeURIComponent(GOOD_TOPIC)}`;
    const { status, body, ms } = await this.send('collector', path);
    this.asking = false;
    if (this.timers.length === 0) return;
    this.answersMs.push(ms);
    const value =
      status === 200
        ? (JSON.parse(body) as { series: { value: number }[] }).series[0]?.value
        : undefined;
    if (status !== 200)
      this.troubles.push(`its question was answered ${status}: ${body.slice(0, 100)}`);
    else if (value !== undefined && value < this.newest)
      this.troubles.push(`the newest value went from ${this.newest} to ${value}`);
    this.newest = Math.max(this.newest, value ?? 0);
  }

  /** Each number once. */
  private async listen(): Promise<void> {
    let rest = '';
    const { status } = await this.send(
      'collector',
      `/api/v1/stream?topic=${encodeURIComponent(GOOD_TOPIC)}`,
      (text) => {
        const lines = (rest + text).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          if (!line.startsWith('data: {"gateway"')) continue;
          const { readings } = JSON.parse(line.slice(6)) as {
            readings: { time: number; fields: { n: number } }[];
          };
          for (const { time, fields } of readings) this.hear(fields.n, time);
        }
      },
    );
    if (this.timers.length > 0) this.troubles.push(`its stream was ended (${status})`);
  }

  /** Under a clock that is known better it moves, which is told. */
  private hear(n: number, time: number): void {
    if (this.heard.get(n) === time) this.troubles.push(`its stream told ${n} twice`);
    this.heard.set(n, time);
  }

  /** What the store has of it in the end. */
  async stored(): Promise<Set<number>> {
    const path = `/api/v1/query?measurement=device&field=n&tag.topic=${encodeURIComponent(GOOD_TOPIC)}`;
    const { status, body } = await this.send('collector', path);
    if (status !== 200) return new Set();
    const { series } = JSON.parse(body) as { series: { points: [number, number][] }[] };
    return new Set(series.flatMap(({ points }) => points.map(([, value]) => value)));
  }

  /** What the stages and the ledger say of what is not in the store yet. */
  async standing(): Promise<string> {
    const answers = await Promise.all(
      ['/api/v1/stages', '/api/v1/ledger', '/api/v1/quarantine?limit=3'].map((path) =>
        this.send('collector', path),
      ),
    );
    return answers.map(({ status, body }) => `${status} ${body.slice(0, 1500)}`).join('\n');
  }

  /** A stream that is behind has a moment to come up. `all`: what it must have told since it began. */
  async stop(all: ReadonlySet<number>): Promise<void> {
    const first = Math.min(...this.heard.keys());
    const lacking = (): number[] => [...all].filter((n) => n > first && !this.heard.has(n));
    const deadline = performance.now() + LATE_MS;
    while (lacking().length > 0 && performance.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 50));
    for (const timer of this.timers.splice(0)) clearInterval(timer);
    if (lacking().length > 0) this.troubles.push(`its stream lacks ${lacking().length} numbers`);
    this.stopListening?.();
  }

  close(): void {
    for (const agent of this.agents) agent.destroy();
  }
}

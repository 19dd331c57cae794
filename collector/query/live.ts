/** The live stream: readings as they enter the log, to every listening page, as server-sent events. */
import type { ServerResponse } from 'node:http';
import { messageOf } from '../../shared/errors.ts';
import { decodeReadings } from '../../shared/model/readings-record.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { TOPIC_READINGS, type Log, type LogConsumer } from '../log/log.ts';

const LISTENERS_MAX = 500;
/** A listener that takes nothing is cut when so many bytes wait for it. */
const BEHIND_BYTES_MAX = 1024 * 1024;
/** Readings in one event; of more, the newest. */
const READINGS_MAX = 200;
const HEARTBEAT_MS = 15_000;

export class LiveStream {
  private readonly log: Log;
  private readonly notify: Notify;
  private readonly listeners = new Set<ServerResponse>();
  private consumer: LogConsumer | undefined;
  private running: Promise<void> | undefined;
  private heartbeat: NodeJS.Timeout | undefined;
  private stopped = false;

  constructor(log: Log, notify: Notify) {
    this.log = log;
    this.notify = notify;
  }

  /** `group` is this process's own: every listener's process sees everything. */
  start(group: string): void {
    this.heartbeat = setInterval(() => this.send(': still here\n\n'), HEARTBEAT_MS);
    this.heartbeat.unref();
    this.running = this.follow(group);
  }

  private async follow(group: string): Promise<void> {
    while (!this.stopped) {
      try {
        this.consumer ??= await this.log.consumer({
          group,
          topic: TOPIC_READINGS,
          from: 'end',
          bytesMax: 1024 * 1024,
        });
        const records = await this.consumer.poll(500);
        if (this.listeners.size === 0) continue;
        for (const { value } of records) {
          const { gateway, readings } = decodeReadings(value);
          const newest = readings
            .slice(-READINGS_MAX)
            .map(({ measurement, tags, fields, timeMs }) => ({
              measurement,
              tags,
              fields,
              time: timeMs,
            }));
          this.send(
            `event: readings\ndata: ${JSON.stringify({ gateway, count: readings.length, readings: newest })}\n\n`,
          );
        }
      } catch (error) {
        this.notify({ level: 'warn', event: 'live_stream', text: messageOf(error) });
        await new Promise((resolve) => setTimeout(resolve, 1000).unref());
      }
    }
  }

  private send(text: string): void {
    for (const listener of this.listeners) {
      if (listener.writableLength > BEHIND_BYTES_MAX) listener.destroy();
      else listener.write(text);
    }
  }

  /** Whether there was room for one more. */
  add(response: ServerResponse): boolean {
    if (this.listeners.size >= LISTENERS_MAX) return false;
    response.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      connection: 'keep-alive',
    });
    response.write('retry: 2000\n\n');
    this.listeners.add(response);
    response.on('close', () => this.listeners.delete(response));
    return true;
  }

  async close(): Promise<void> {
    this.stopped = true;
    clearInterval(this.heartbeat);
    for (const listener of this.listeners) listener.end();
    await this.consumer?.close();
    await this.running;
  }
}

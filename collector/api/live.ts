/** The live stream: readings and results as they enter the log, to every listening page, as server-sent events. */
import type { ServerResponse } from 'node:http';
import { decodeReadings } from '../../shared/model/readings-record.ts';
import { maySee } from '../../shared/access/may.ts';
import { READ_EACH } from '../../shared/http/route.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { TOPIC_READINGS, TOPIC_RESULTS, type Log, type StoredRecord } from '../log/log.ts';
import { Follower } from '../log/follow.ts';
import { logPart } from '../log/part.ts';
import type { CollectorPart } from '../part.ts';

/** A listener that takes nothing is cut when so many bytes wait for it. */
const BEHIND_BYTES_MAX = 1024 * 1024;
/** Readings in one event; of more, the newest. */
const READINGS_MAX = 200;
const HEARTBEAT_MS = 15_000;

export class LiveStream {
  private readonly log: Log;
  private readonly notify: Notify;
  /** With which gateways each may see. */
  private readonly listeners = new Map<ServerResponse, (gateway: string) => boolean>();
  private followers: Follower[] = [];
  private heartbeat: NodeJS.Timeout | undefined;

  constructor(log: Log, notify: Notify) {
    this.log = log;
    this.notify = notify;
  }

  /** `group` is this process's own: every listener's process sees everything. */
  start(group: string): void {
    this.heartbeat = setInterval(() => this.send(': still here\n\n'), HEARTBEAT_MS);
    this.heartbeat.unref();
    this.followers = [TOPIC_READINGS, TOPIC_RESULTS].map(
      (topic) =>
        new Follower({
          log: this.log,
          notify: this.notify,
          event: 'live_stream',
          topic,
          from: 'end',
          group: `${group}-${topic}`,
          onRecords: (records) => this.show(records),
        }),
    );
  }

  private show(records: StoredRecord[]): void {
    if (this.listeners.size === 0) return;
    for (const { value } of records) {
      const { gateway, readings } = decodeReadings(value);
      const newest = readings.slice(-READINGS_MAX).map(({ measurement, tags, fields, timeMs }) => ({
        measurement,
        tags,
        fields,
        time: timeMs,
      }));
      const data = JSON.stringify({ gateway, count: readings.length, readings: newest });
      this.send(`event: readings\ndata: ${data}\n\n`, gateway);
    }
  }

  private send(text: string, gateway?: string): void {
    for (const [listener, may] of this.listeners) {
      if (gateway !== undefined && !may(gateway)) continue;
      if (listener.writableLength > BEHIND_BYTES_MAX) listener.destroy();
      else listener.write(text);
    }
  }

  add(response: ServerResponse, may: (gateway: string) => boolean): void {
    response.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      connection: 'keep-alive',
    });
    response.write('retry: 2000\n\n');
    this.listeners.set(response, may);
    response.on('close', () => this.listeners.delete(response));
  }

  async close(): Promise<void> {
    clearInterval(this.heartbeat);
    for (const listener of this.listeners.keys()) listener.end();
    await Promise.all(this.followers.map((follower) => follower.close()));
  }
}

export const livePart: CollectorPart<LiveStream> = {
  name: 'live stream',
  roles: ['query'],
  open: (site) => {
    const live = new LiveStream(site.get(logPart), site.context.notify);
    live.start(`headwater-live-${site.context.newId()}`);
    return live;
  },
  routes: [
    {
      method: 'GET',
      path: '/api/v1/stream',
      isStream: true,
      about: 'Readings as they arrive, as server-sent events named `readings`.',
      right: READ_EACH,
      replies: { 200: { about: 'A stream.', type: 'text/event-stream' } },
      handle: (live, { identity }, response) => {
        live.add(response, (gateway) => maySee(identity, gateway));
        return undefined;
      },
    },
  ],
  close: (live) => live.close(),
};

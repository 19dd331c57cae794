/**
 * How `headwater up` shows the sample: the whole week at once, as fast as acknowledgements allow; after it, where it is
 * shown as if it were this week, the same week again as it happens, each row at its time of day, so that a chart moves.
 *
 * What goes on remembers nothing: a row is published when its time comes, and one whose time came while nothing ran is
 * not made up for.
 */
import type { MqttClient } from 'mqtt';
import { LAKE_TOPICS, lakeGroup } from '../collector/log/topics.ts';
import type { Log } from '../collector/log/log.ts';
import type { MessageBuffer } from '../gateway/buffer/buffer.ts';
import { messageOf } from '../shared/errors.ts';
import { connectTo } from './client.ts';
import { readCsv } from './csv.ts';
import { Progress } from './progress.ts';
import { payloadOf, replay, topicColumns, topicOf } from './replayer.ts';
import {
  SAMPLE_CLIENT,
  SAMPLE_LAST_MS,
  SAMPLE_ROWS,
  SAMPLE_TIME,
  SAMPLE_TOPIC,
  loadSample,
  movedText,
  samplePath,
  saveSample,
  shiftTo,
} from './sample.ts';

const WEEK_MS = 7 * 86_400_000;
/** The longest sleep: a stop is seen within it. */
const SLEEP_MS = 200;

export interface SampleOptions {
  folder: string;
  buffer: MessageBuffer<never>;
  log: Log;
  /** The gateway's MQTT, HOST:PORT. */
  address: string;
  /** As if it were this week, where it is not there with other times already. */
  isNow: boolean;
  nowMs: () => number;
  stopping: () => boolean;
}

const moved = (values: Map<string, string>, ms: number): Map<string, string> =>
  ms === 0
    ? values
    : new Map(values).set(SAMPLE_TIME, movedText(values.get(SAMPLE_TIME) ?? '', ms));

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export class SampleShow {
  private readonly options: SampleOptions;
  private shiftMs = 0;

  constructor(options: SampleOptions) {
    this.options = options;
  }

  /** Publishes what is missing of the week, and resolves when all of it is stored. A stop in between is remembered exactly. */
  async whole(): Promise<void> {
    const { folder, buffer, log, address, isNow, nowMs, stopping } = this.options;
    const fresh = isNow ? shiftTo(nowMs()) : 0;
    const { rows, shiftMs } = await loadSample(folder, buffer, log, fresh);
    this.shiftMs = shiftMs;
    const last = movedText(new Date(SAMPLE_LAST_MS).toISOString().slice(0, 19), shiftMs);
    const when =
      shiftMs === 0
        ? 'with its true times, 10 to 16 March 2019'
        : `measured in March 2019, shown as if it had ended at ${last}Z`;
    if (rows >= SAMPLE_ROWS) {
      process.stdout.write(`sample: ${SAMPLE_ROWS} rows are here already, ${when}\n`);
    } else {
      process.stdout.write(
        `sample: publishing a week of ${SAMPLE_ROWS} rows from air-quality stations in Aberdeen, ${when}${rows > 0 ? `, from row ${rows + 1}` : ''} (--no-sample leaves it out)\n`,
      );
      await saveSample(folder, { rows, shiftMs, clean: false });
      const client = await connectTo(address, SAMPLE_CLIENT);
      const progress = new Progress('sample', SAMPLE_ROWS);
      const result = await replay(client, {
        ...{ file: samplePath(), topic: SAMPLE_TOPIC, fields: undefined, time: undefined },
        ...{ speed: 0, skip: rows, window: 2000, stopped: stopping },
        change: (values) => moved(values, shiftMs),
        onProgress: (done) => progress.show(rows + done),
      });
      client.end(true);
      const done = rows + result.acknowledged;
      progress.show(done, true);
      progress.end();
      await saveSample(folder, { rows: done, shiftMs, clean: true });
      process.stdout.write(`sample: ${done} rows acknowledged in ${result.seconds.toFixed(1)} s\n`);
    }
    await this.stored();
  }

  /**
   * Everything published is on its way through the log; when nothing lags it can be seen. The lake gathers for a minute
   * before it writes: nobody who looks at the page waits for that.
   */
  private async stored(): Promise<void> {
    const { buffer, log, stopping } = this.options;
    const lakes = new Set(LAKE_TOPICS.map(lakeGroup));
    while (!stopping()) {
      const waiting = buffer.stats().waitingMessages ?? 1;
      const lag = log
        .groups()
        .filter(({ group }) => !lakes.has(group))
        .reduce((sum, { lagRecords }) => sum + (lagRecords ?? 1), 0);
      if (waiting === 0 && lag === 0) break;
      await sleep(100);
    }
  }

  /** Begins to publish as it happens, where the week is shown as if it were this one; returns at once. */
  goOn(): void {
    if (this.shiftMs === 0 || this.options.stopping()) return;
    process.stdout.write('sample: its stations go on as it happens: the same week again\n');
    this.publishDue().catch((error: unknown) => {
      if (!this.options.stopping())
        process.stderr.write(`sample: it goes on no more: ${messageOf(error)}\n`);
    });
  }

  private async publishDue(): Promise<void> {
    const { address, nowMs, stopping } = this.options;
    const client = await connectTo(address, `${SAMPLE_CLIENT}-live`);
    const fromMs = nowMs();
    const ended = SAMPLE_LAST_MS + this.shiftMs;
    for (let pass = Math.max(1, Math.ceil((fromMs - ended) / WEEK_MS)); !stopping(); pass++)
      await this.publishPass(client, this.shiftMs + pass * WEEK_MS, fromMs);
  }

  /** The rows of one pass whose time is after `fromMs`, each when its time has come. */
  private async publishPass(client: MqttClient, shiftMs: number, fromMs: number): Promise<void> {
    const { nowMs, stopping } = this.options;
    const inTopic = topicColumns(SAMPLE_TOPIC);
    for await (const { values } of readCsv(samplePath())) {
      const dueMs = Date.parse(`${values.get(SAMPLE_TIME) ?? ''}Z`) + shiftMs;
      if (dueMs <= fromMs) continue;
      for (let wait = dueMs - nowMs(); wait > 0; wait = dueMs - nowMs()) {
        if (stopping()) return;
        await sleep(Math.min(SLEEP_MS, wait));
      }
      const columns = [...values.keys()].filter((name) => !inTopic.includes(name));
      const payload = payloadOf(moved(values, shiftMs), columns);
      await client.publishAsync(topicOf(SAMPLE_TOPIC, values), payload, { qos: 1 });
    }
  }
}

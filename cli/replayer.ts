/**
 * Publishes the rows of a CSV file as the devices that measured them: over MQTT, QoS 1, in order, at true speed, a
 * multiple, or as fast as acknowledgements allow.
 */
import type { MqttClient } from 'mqtt';
import { fromText } from '../shared/codecs/time.ts';
import { HeadwaterError, messageOf } from '../shared/errors.ts';
import { readCsv } from './csv.ts';

export interface ReplayOptions {
  file: string;
  /** `{column}` stands for a row's value. */
  topic: string;
  /** Columns in the payload; undefined: all that are not in the topic. */
  fields: string[] | undefined;
  /** Column with the time of measurement, for the speed. */
  time: string | undefined;
  /** A row as it is published; it may change the time, which the speed goes by. */
  change?: (values: Map<string, string>) => Map<string, string>;
  /** 1 is true speed; 0 is as fast as acknowledgements allow. */
  speed: number;
  /** Rows to leave out at the start. */
  skip: number;
  /** Unacknowledged at once. */
  window: number;
  stopped: () => boolean;
  onProgress: (acknowledged: number) => void;
}

export interface ReplayResult {
  sent: number;
  acknowledged: number;
  seconds: number;
}

const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?$/;

/** Payload of a row: JSON, numbers as they are written in the file, empty values left out. */
export function payloadOf(values: Map<string, string>, columns: readonly string[]): string {
  const parts: string[] = [];
  for (const column of columns) {
    const value = values.get(column) ?? '';
    if (value !== '')
      parts.push(`${JSON.stringify(column)}:${NUMBER.test(value) ? value : JSON.stringify(value)}`);
  }
  return `{${parts.join(',')}}`;
}

export function topicColumns(template: string): string[] {
  return [...template.matchAll(/\{([^}]+)\}/g)].map(([, name]) => name as string);
}

/** The topic of a row; what would be a wildcard or a level of its own is an underscore. */
export const topicOf = (template: string, values: Map<string, string>): string =>
  template.replaceAll(/\{([^}]+)\}/g, (_, name: string) =>
    (values.get(name) ?? '').replaceAll(/[+#/]/g, '_'),
  );

/** Publishes at QoS 1, with no more unacknowledged than its caller waits for. */
class Window {
  sent = 0;
  acknowledged = 0;
  failure: unknown;
  private readonly client: MqttClient;
  private readonly onProgress: (acknowledged: number) => void;
  private wake: (() => void) | undefined;

  constructor(client: MqttClient, onProgress: (acknowledged: number) => void) {
    this.client = client;
    this.onProgress = onProgress;
    client.on('close', () => {
      this.failure ??= new Error('the gateway closed the connection');
      this.wake?.();
    });
  }

  publish(topic: string, payload: string): void {
    this.sent++;
    this.client.publish(topic, payload, { qos: 1 }, (error) => {
      if (error !== undefined && error !== null) this.failure ??= error;
      else this.acknowledged++;
      this.onProgress(this.acknowledged);
      this.wake?.();
    });
  }

  /** Fewer than so many are unacknowledged, or the connection has failed. */
  async below(limit: number): Promise<void> {
    while (this.sent - this.acknowledged >= limit && this.failure === undefined)
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
  }
}

/** Of the payload. Throws USAGE for a column that the file has not. */
function payloadColumns(
  { file, topic, fields, time }: ReplayOptions,
  known: readonly string[],
): readonly string[] {
  const inTopic = topicColumns(topic);
  const asked = [...inTopic, ...(fields ?? []), ...(time === undefined ? [] : [time])];
  const missing = asked.find((name) => !known.includes(name));
  if (missing !== undefined)
    throw new HeadwaterError(
      'USAGE',
      `${file} has no column '${missing}'; it has ${known.join(', ')}`,
    );
  return fields ?? known.filter((name) => !inTopic.includes(name));
}

/** Waits until a row is due, at the speed that was asked for. */
function paceOf({ speed, time, stopped }: ReplayOptions, started: number) {
  let firstMs: number | undefined;
  return async (values: Map<string, string>): Promise<void> => {
    const at = speed > 0 && time !== undefined ? fromText(values.get(time) ?? '')?.ms : undefined;
    if (at === undefined) return;
    firstMs ??= at;
    const due = started + (at - firstMs) / speed;
    while (performance.now() < due && !stopped())
      await new Promise((resolve) => setTimeout(resolve, Math.min(200, due - performance.now())));
  };
}

/** Throws INPUT_FILE, USAGE and NOT_ACKNOWLEDGED. */
export async function replay(client: MqttClient, options: ReplayOptions): Promise<ReplayResult> {
  const { change = (values: Map<string, string>) => values } = options;
  const started = performance.now();
  const pace = paceOf(options, started);
  const window = new Window(client, options.onProgress);
  let columns: readonly string[] | undefined;
  for await (const { number, values: read } of readCsv(options.file)) {
    if (options.stopped() || window.failure !== undefined) break;
    columns ??= payloadColumns(options, [...read.keys()]);
    if (number <= options.skip) continue;
    const values = change(read);
    await pace(values);
    window.publish(topicOf(options.topic, values), payloadOf(values, columns));
    await window.below(options.window);
  }
  await window.below(1);
  const { sent, acknowledged, failure } = window;
  const seconds = (performance.now() - started) / 1000;
  if (failure !== undefined) {
    throw new HeadwaterError(
      'NOT_ACKNOWLEDGED',
      `${acknowledged} of ${sent} rows were acknowledged, then: ${messageOf(failure)}`,
      { cause: failure },
    );
  }
  return { sent, acknowledged, seconds };
}

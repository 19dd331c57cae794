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

/** Throws INPUT_FILE, USAGE and NOT_ACKNOWLEDGED. */
export async function replay(client: MqttClient, options: ReplayOptions): Promise<ReplayResult> {
  const inTopic = topicColumns(options.topic);
  const started = performance.now();
  let sent = 0;
  let acknowledged = 0;
  let failure: unknown;
  let wake: (() => void) | undefined;
  let columns: string[] | undefined;
  let firstMs: number | undefined;
  client.on('close', () => {
    failure ??= new Error('the gateway closed the connection');
    wake?.();
  });
  const room = (limit: number): Promise<void> | undefined =>
    sent - acknowledged < limit || failure !== undefined
      ? undefined
      : new Promise((resolve) => {
          wake = resolve;
        });

  const { change = (values: Map<string, string>) => values } = options;
  for await (const { number, values: read } of readCsv(options.file)) {
    if (options.stopped() || failure !== undefined) break;
    if (columns === undefined) {
      const known = [...read.keys()];
      for (const name of [
        ...inTopic,
        ...(options.fields ?? []),
        ...(options.time === undefined ? [] : [options.time]),
      ]) {
        if (!known.includes(name)) {
          throw new HeadwaterError(
            'USAGE',
            `${options.file} has no column '${name}'; it has ${known.join(', ')}`,
          );
        }
      }
      columns = options.fields ?? known.filter((name) => !inTopic.includes(name));
    }
    if (number <= options.skip) continue;
    const values = change(read);
    if (options.speed > 0 && options.time !== undefined) {
      const at = fromText(values.get(options.time) ?? '')?.ms;
      if (at !== undefined) {
        firstMs ??= at;
        const due = started + (at - firstMs) / options.speed;
        while (performance.now() < due && !options.stopped()) {
          await new Promise((resolve) =>
            setTimeout(resolve, Math.min(200, due - performance.now())),
          );
        }
      }
    }
    const topic = topicOf(options.topic, values);
    sent++;
    client.publish(topic, payloadOf(values, columns), { qos: 1 }, (error) => {
      if (error !== undefined && error !== null) failure ??= error;
      else acknowledged++;
      options.onProgress(acknowledged);
      wake?.();
    });
    for (let wait = room(options.window); wait !== undefined; wait = room(options.window))
      await wait;
  }
  for (let wait = room(1); wait !== undefined; wait = room(1)) await wait;
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

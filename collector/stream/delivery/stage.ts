/**
 * Delivers alerts: one consumer of `results` for each target, so that one that is down holds up no other. What was
 * delivered last of each series is state of the log (`deliver/TARGET/…`), committed with the offsets: an alert goes out
 * once, and once more only if the process ends between the other side's answer and that commit; its id is the same then.
 * Late alerts, and those that a rebuild says again, go to nobody.
 */
import { monotonicMs, processTime, type Time } from '../../../shared/env/env.ts';
import { HeadwaterError, hasCode, messageOf } from '../../../shared/errors.ts';
import { restOf } from '../../../shared/http/retry-after.ts';
import { readingsOf } from '../../../shared/model/readings-record.ts';
import type { Reading } from '../../../shared/model/reading.ts';
import type { Notify } from '../../../shared/telemetry/log.ts';
import {
  HEADER_AGAIN,
  HEADER_STORED,
  TOPIC_RESULTS,
  TOPIC_STATE,
  type Log,
  type Produced,
  type StoredRecord,
} from '../../log/log.ts';
import { asideRecord } from '../../stage/aside.ts';
import type { Stage } from '../../stage/options.ts';
import { runStage } from '../../stage/stage.ts';
import { STREAM } from '../results.ts';
import { ALERTS } from '../rules.ts';
import { Heard } from './heard.ts';
import { alertId, send, type Alert } from './senders.ts';
import type { Delivery } from './targets.ts';

const DELIVERED_PREFIX = 'deliver/';
/** Of all that deliveries keep. */
const STATE_PREFIX = 'deliver';
/** With the waits between, about half a minute. */
const REFUSALS_MAX = 10;

type Target = Delivery['targets'][number];

/** Until when a target wants to be left alone, by the monotonic clock, and what it answered. */
interface Rest {
  untilMs: number;
  why: string;
}

export class DeliveryStages {
  delivered = 0;
  refused = 0;
  private readonly log: Log;
  private readonly notify: Notify;
  private readonly nowMs: () => number;
  private readonly time: Time;
  private stages: Stage[] = [];

  constructor(log: Log, notify: Notify, nowMs: () => number, time: Time = processTime) {
    this.time = time;
    this.log = log;
    this.notify = notify;
    this.nowMs = nowMs;
  }

  start({ targets }: Delivery): void {
    this.stages = targets.map((target) => this.run(target));
  }

  private run(target: Target): Stage {
    const last = new Map<string, string>();
    const prefix = `${DELIVERED_PREFIX}${encodeURIComponent(target.name)}/`;
    /** Alert → how often it was refused. */
    const refusals = new Map<string, number>();
    const rest: Rest = { untilMs: 0, why: '' };
    /** Alert → its quarantine record. */
    const asides = new Map<string, Produced>();
    const places = new Heard(target.name);
    return runStage({
      name: `deliver_${target.name}`,
      // Alerts go in order, and none is left out because others pass.
      touches: 'gathers',
      log: this.log,
      notify: this.notify,
      time: this.time,
      consumer: {
        group: `headwater-deliver-${encodeURIComponent(target.name)}`,
        topic: TOPIC_RESULTS,
        from: 'start',
        bytesMax: 1024 * 1024,
        onAssign: async (partition, committed) => {
          const records = await this.log.state(TOPIC_STATE, partition, STATE_PREFIX);
          for (const { key, value } of records)
            if (key.startsWith(prefix)) last.set(key, value.toString('utf8'));
          return places.load(records, partition, committed, this.nowMs());
        },
      },
      isPlaceOwn: true,
      passOver: (offsets) => places.records(offsets),
      idle: () => Promise.resolve(places.unsaid()),
      step: async (records, offsets) => {
        const state = new Map<string, Produced>();
        for (const record of records) {
          const sinceMs = places.sinceMs(record.partition);
          for (const { key, alert } of alertsOf(record, target, sinceMs)) {
            const at = `${prefix}${key}`;
            // Not again when this step is tried again after another one of its alerts was not taken.
            if (last.get(at) !== alert.id) {
              if (await this.send(target, alert, refusals, rest)) this.delivered++;
              else asides.set(alert.id, aside(record, target, alert));
              last.set(at, alert.id);
            }
            const refused = asides.get(alert.id);
            if (refused !== undefined) state.set(`aside/${alert.id}`, refused);
            state.set(at, {
              topic: TOPIC_STATE,
              partition: record.partition,
              key: at,
              headers: {},
              value: Buffer.from(alert.id),
            });
          }
        }
        return [...state.values(), ...places.records(offsets)];
      },
    });
  }

  /** False: it has been refused so often, for itself, that the others no longer wait for it. */
  private async send(
    target: Target,
    alert: Alert,
    refusals: Map<string, number>,
    rest: Rest,
  ): Promise<boolean> {
    const nowMs = monotonicMs(this.time);
    if (nowMs < rest.untilMs)
      throw new HeadwaterError(
        'UNREACHABLE',
        `${rest.why}, and asks to be left alone for another ${Math.ceil((rest.untilMs - nowMs) / 1000)} s`,
      );
    try {
      await send(target, alert);
    } catch (error) {
      Object.assign(rest, { untilMs: nowMs + restOf(error), why: messageOf(error) });
      if (!hasCode(error, 'RECORD_REFUSED')) throw error;
      const count = (refusals.get(alert.id) ?? 0) + 1;
      refusals.set(alert.id, count);
      if (count < REFUSALS_MAX) throw error;
      this.refused++;
      const text = `${messageOf(error)}: refused ${count} times, so it is in quarantine and the others go on`;
      this.notify({ level: 'error', event: 'alert_refused', text });
      refusals.delete(alert.id);
      return false;
    }
    refusals.delete(alert.id);
    return true;
  }

  running(): readonly Stage[] {
    return this.stages;
  }

  async close(): Promise<void> {
    const { stages } = this;
    this.stages = [];
    await Promise.all(stages.map((stage) => stage.close()));
  }
}

/** A refused alert, for a person to see. */
const aside = (record: StoredRecord, { name }: Target, alert: Alert): Produced =>
  asideRecord(
    { ...record, value: Buffer.from(JSON.stringify(alert)) },
    `target '${name}' refuses this alert of rule '${alert.rule}'`,
  );

function alertsOf(
  { value, headers }: StoredRecord,
  { rules }: Target,
  sinceMs: number,
): { key: string; alert: Alert }[] {
  if (headers[HEADER_AGAIN] !== undefined || headers[HEADER_STORED] !== undefined) return [];
  const batch = readingsOf(value);
  if (batch === undefined) return [];
  const { gateway, epoch, readings, arrivedMs } = batch;
  if (gateway !== STREAM || arrivedMs < sinceMs) return [];
  return readings.flatMap((reading) => {
    const { measurement, tags, fields } = reading;
    const rule = tags['rule'] ?? '';
    if (measurement !== ALERTS || fields['late_bool'] === true) return [];
    if (rules !== undefined && !rules.includes(rule)) return [];
    return [{ key: epoch, alert: alertOf(epoch, rule, reading) }];
  });
}

function alertOf(epoch: string, rule: string, reading: Reading): Alert {
  const { fields, timeMs, sequence, index, tags } = reading;
  const alert: Alert = {
    rule,
    status: fields['active_bool'] === true ? 'firing' : 'resolved',
    time: new Date(timeMs).toISOString(),
    reason: String(fields['reason_text'] ?? ''),
    message: String(fields['message_text'] ?? ''),
    tags,
    id: alertId(epoch, sequence, index),
  };
  const value = fields['value'];
  if (typeof value === 'number') alert.value = value;
  return alert;
}

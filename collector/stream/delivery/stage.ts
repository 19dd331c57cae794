/**
 * Delivers alerts: one consumer of `results` for each target, so that one that is down holds up no other. What was
 * delivered last of each series is state of the log (`deliver/TARGET/…`), committed with the offsets: an alert goes out
 * once, and once more only if the process ends between the other side's answer and that commit; its id is the same then.
 * Late alerts, and those that a rebuild says again, go to nobody.
 */
import { readingsOf } from '../../../shared/model/readings-record.ts';
import type { Reading } from '../../../shared/model/reading.ts';
import type { Notify } from '../../../shared/telemetry/log.ts';
import {
  HEADER_AGAIN,
  TOPIC_RESULTS,
  TOPIC_STATE,
  type Log,
  type Produced,
  type StoredRecord,
} from '../../log/log.ts';
import { runStage, type Stage } from '../../stage/stage.ts';
import type { StageState } from '../../stage/state.ts';
import { STREAM } from '../results.ts';
import { ALERTS } from '../rules.ts';
import { alertId, send, type Alert } from './senders.ts';
import type { Delivery } from './targets.ts';

const DELIVERED_PREFIX = 'deliver/';

type Target = Delivery['targets'][number];

export class DeliveryStages {
  delivered = 0;
  private readonly log: Log;
  private readonly notify: Notify;
  private readonly nowMs: () => number;
  private stages: Stage[] = [];

  constructor(log: Log, notify: Notify, nowMs: () => number) {
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
    /** A target that is new hears of what happens from now on. */
    let sinceMs = 0;
    return runStage({
      name: `deliver_${target.name}`,
      touches: 'elsewhere',
      log: this.log,
      notify: this.notify,
      consumer: {
        group: `headwater-deliver-${encodeURIComponent(target.name)}`,
        topic: TOPIC_RESULTS,
        from: 'start',
        bytesMax: 1024 * 1024,
        onAssign: async (partition, committed) => {
          if (committed === undefined) sinceMs = this.nowMs();
          for (const { key, value } of await this.log.state(TOPIC_STATE, partition, prefix))
            last.set(key, value.toString('utf8'));
          return undefined;
        },
      },
      step: async (records) => {
        const state = new Map<string, Produced>();
        for (const record of records) {
          for (const { key, alert } of alertsOf(record, target, sinceMs)) {
            const at = `${prefix}${key}`;
            // Also when this step is tried again after another one of its alerts was not taken.
            if (last.get(at) === alert.id) continue;
            await send(target, alert);
            this.delivered++;
            last.set(at, alert.id);
            state.set(at, {
              topic: TOPIC_STATE,
              partition: record.partition,
              key: at,
              headers: {},
              value: Buffer.from(alert.id),
            });
          }
        }
        return [...state.values()];
      },
    });
  }

  stageStates(): StageState[] {
    return this.stages.map((stage) => stage.state());
  }

  async close(): Promise<void> {
    const { stages } = this;
    this.stages = [];
    await Promise.all(stages.map((stage) => stage.close()));
  }
}

function alertsOf(
  { value, headers }: StoredRecord,
  { rules }: Target,
  sinceMs: number,
): { key: string; alert: Alert }[] {
  if (headers[HEADER_AGAIN] !== undefined) return [];
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

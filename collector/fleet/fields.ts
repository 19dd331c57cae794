/**
 * What fields are measured in and called, as points of the store: measurement `headwater_fields`, tags `measurement` and
 * `field`, fields `unit_text` and `name_text`. Said once it has been known for a while, and again each day.
 */
import type { FieldMeta } from '../../shared/codecs/codec.ts';
import type { Reading } from '../../shared/model/reading.ts';
import { META_PREFIX } from '../decode/field-notes.ts';
import { TOPIC_LEDGER, type Log } from '../log/log.ts';
import { View } from '../log/view.ts';
import { groupHash } from '../stream/results.ts';

export const FIELDS = 'headwater_fields';
const FIRST_MS = 60_000;
const DAY_MS = 86_400_000;
/** Of more it is not said: a dashboard shows them without a unit. */
const FIELDS_MAX = 5000;

interface Field {
  measurement: string;
  field: string;
  meta: FieldMeta;
  /** By the monotonic clock. */
  sinceMs: number;
  day: number;
}

export class Fields {
  private readonly monotonicMs: () => number;
  private readonly known = new Map<string, Field>();
  private readonly view: View;

  constructor(log: Log, monotonicMs: () => number) {
    this.view = new View(log, TOPIC_LEDGER, 'what fields are measured in');
    this.monotonicMs = monotonicMs;
  }

  async start(): Promise<void> {
    await this.view.start((records) => {
      for (const { key, value } of records)
        if (key.startsWith(META_PREFIX) && value.length > 0)
          this.take(key.slice(META_PREFIX.length), JSON.parse(value.toString('utf8')) as FieldMeta);
    });
  }

  /** Of the series of one name the one that was heard last counts. */
  private take(series: string, meta: FieldMeta): void {
    const [measurement = '', field = ''] = JSON.parse(series) as string[];
    const key = JSON.stringify([measurement, field]);
    const before = this.known.get(key);
    if (before !== undefined && JSON.stringify(before.meta) === JSON.stringify(meta)) return;
    if (before === undefined && this.known.size >= FIELDS_MAX) return;
    this.known.set(key, { measurement, field, meta, sinceMs: this.monotonicMs(), day: 0 });
  }

  /** What is to be said now; `keep` once it is on stable storage. */
  due(
    nowMs: number,
    monotonicMs: number,
  ): { readings: [epoch: string, reading: Reading][]; keep: () => void } {
    const day = Math.floor(nowMs / DAY_MS);
    const fields = [...this.known.values()].filter(
      (each) => each.day !== day && monotonicMs - each.sinceMs >= FIRST_MS,
    );
    const timeMs = day * DAY_MS;
    const readings = fields.map(
      ({ measurement, field, meta: { unit, name } }): [string, Reading] => {
        const tags = { measurement, field };
        const said = {
          ...(unit === undefined ? {} : { unit_text: unit }),
          ...(name === undefined ? {} : { name_text: name }),
        };
        const place = { sequence: timeMs, index: 0, timeMs, ns: 0 };
        return [`fields/${groupHash(tags)}`, { measurement: FIELDS, tags, fields: said, ...place }];
      },
    );
    return {
      readings,
      keep: () => {
        for (const each of fields) each.day = day;
      },
    };
  }

  async close(): Promise<void> {
    await this.view.close();
  }
}

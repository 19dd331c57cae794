/**
 * Units and names of series, as codecs and discovery have said them, and which measurements are results: followed in the ledger
 * topic.
 */
import type { FieldMeta } from '../../shared/codecs/codec.ts';
import { META_PREFIX } from '../decode/field-notes.ts';
import { Made } from '../ledger/made.ts';
import { TOPIC_LEDGER, type Log } from '../log/log.ts';
import { View } from '../log/view.ts';
import { seriesName, type SeriesKey } from '../store/store.ts';

export class SeriesMeta {
  private readonly known = new Map<string, FieldMeta>();
  /** Measurements that rules and batch jobs make, in whatever process. */
  readonly made = new Made();
  private readonly view: View;

  constructor(log: Log) {
    this.view = new View(log, TOPIC_LEDGER, 'what fields are measured in');
  }

  async start(): Promise<void> {
    await this.view.start((records) => {
      for (const record of records) {
        this.made.take(record);
        const { key, value } = record;
        if (!key.startsWith(META_PREFIX)) continue;
        const name = key.slice(META_PREFIX.length);
        if (value.length === 0) this.known.delete(name);
        else this.known.set(name, JSON.parse(value.toString('utf8')) as FieldMeta);
      }
    });
  }

  /** The same series with what is known of it; nothing is while the log has not been read. */
  describe<T extends SeriesKey>(series: T[]): (T & FieldMeta)[] {
    if (this.known.size === 0) return series;
    return series.map((each) => ({ ...each, ...this.known.get(seriesName(each)) }));
  }

  async close(): Promise<void> {
    await this.view.close();
  }
}

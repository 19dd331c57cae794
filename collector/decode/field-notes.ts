/** Units and names of fields, as entries of the ledger topic: said once, and again when they change. */
import { TOPIC_LEDGER, type Produced } from '../log/log.ts';
import { seriesName } from '../store/store.ts';
import type { DecodedReading } from './decoder.ts';

/** Key: this and the series' name. */
export const META_PREFIX = 'meta/';
/** Of a unit or a name: what is longer is none. */
const META_CHARS_MAX = 1024;

export class FieldNotes {
  /** What has been said of fields already, by the tags of their series. */
  private readonly said = new WeakMap<Record<string, string>, Map<string, string>>();

  /** Takes what is known of a reading's fields from it. */
  take(reading: DecodedReading, partition: number, produced: Produced[]): void {
    const { meta, measurement, tags, fields } = reading;
    if (meta === undefined) return;
    delete reading.meta;
    let said = this.said.get(tags);
    if (said === undefined) this.said.set(tags, (said = new Map()));
    for (const [name, what] of meta) {
      const text = JSON.stringify(what);
      if (text.length > META_CHARS_MAX) continue;
      for (const field of [name, `${name}_text`, `${name}_bool`]) {
        const key = `${measurement}\0${field}`;
        if (!Object.hasOwn(fields, field) || said.get(key) === text) continue;
        said.set(key, text);
        produced.push({
          topic: TOPIC_LEDGER,
          partition,
          key: `${META_PREFIX}${seriesName({ measurement, field, tags })}`,
          headers: {},
          value: Buffer.from(text),
        });
      }
    }
  }
}

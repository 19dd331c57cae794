/**
 * State that is larger than its compacted topic takes of a record, in several: `KEY US ID US NUMBER` has a part, and the
 * record of the key itself, which goes last, has the rest and names the others in a header. Whoever reads the topic through
 * this log sees whole values and no part. The parts of a value that was replaced are removed with the next one, as are those
 * that whoever was killed between them had left.
 */
import { randomBytes } from 'node:crypto';
import type { LogRecord, Produced, StoredRecord } from './log.ts';

// US (0x1f) and not NUL, at which node-rdkafka ends a key.
/** `ID/COUNT` of the parts that go before this record's own. */
const HEADER_PARTS = 'headwater-parts';
/** A part's own key, beside that of the value, bytes. */
const PART_KEY_BYTES = 24;
const HEADER_BYTES = 48;
/** Less than so much is not worth a record. */
const PART_BYTES_MIN = 64;
const US = '\u001f';
const PART_KEY = new RegExp(`${US}[0-9a-f]{12}${US}\\d+$`);

/** With the partition that it goes to. */
type Placed = Produced & { partition: number };

export class Parts {
  /** Topic/partition/key → the parts of the value that is there now. */
  private readonly present = new Map<string, string>();
  /** The same → parts that no value names. */
  private readonly unnamed = new Map<string, Unnamed>();

  /** Some value may be in parts, or some parts may be of none. */
  get areThere(): boolean {
    return this.present.size > 0 || this.unnamed.size > 0;
  }

  /** As records of at most `bytesMax` bytes, and the end of the parts of the value before; undefined where no part has room. */
  outgoing(record: Placed, bytes: number, bytesMax: number): Placed[] | undefined {
    if (bytes <= bytesMax && !this.areThere) return [record];
    const { topic, partition, key, value, headers } = record;
    const name = `${topic}/${partition}/${key}`;
    const before = this.present.get(name);
    this.present.delete(name);
    const dead = this.unnamed.get(name)?.dead ?? [];
    const gone = [...new Set([...partKeys(key, before), ...dead])].map((each) => ({
      ...{ topic, partition, key: each, headers: {} },
      value: Buffer.alloc(0),
    }));
    if (bytes <= bytesMax) return [record, ...gone];
    const size = bytesMax - (bytes - value.length) - PART_KEY_BYTES - HEADER_BYTES;
    if (size < PART_BYTES_MIN) return undefined;
    const count = Math.ceil(value.length / size) - 1;
    const named = `${randomBytes(6).toString('hex')}/${count}`;
    this.present.set(name, named);
    const parts = partKeys(key, named).map((each, at) => ({
      ...{ topic, partition, key: each, headers: {} },
      value: value.subarray(at * size, (at + 1) * size),
    }));
    const last = {
      ...record,
      headers: { ...headers, [HEADER_PARTS]: named },
      value: value.subarray(count * size),
    };
    return [...parts, last, ...gone];
  }

  /** For one reader of a topic, which sees each partition in its order. */
  joiner(topic: string): (record: StoredRecord) => StoredRecord | undefined {
    const held = new Map<string, Buffer>();
    return (record) => {
      const { partition, key, value, headers } = record;
      const at = (each: string): string => `${partition}/${each}`;
      if (PART_KEY.test(key)) {
        this.sawPart(`${topic}/${partition}/${key.replace(PART_KEY, '')}`, key, value.length > 0);
        if (value.length === 0) held.delete(at(key));
        else held.set(at(key), value);
        return undefined;
      }
      const named = headers[HEADER_PARTS];
      const name = `${topic}/${partition}/${key}`;
      const keys = partKeys(key, named);
      if (this.areThere) this.sawValue(name, key, keys);
      if (named === undefined) return record;
      const parts = keys.map((each) => held.get(at(each)));
      for (const each of keys) held.delete(at(each));
      // Some of it is gone only where a later value has taken its place.
      if (parts.includes(undefined)) return undefined;
      this.present.set(name, named);
      const { [HEADER_PARTS]: _named, ...rest } = headers;
      return { ...record, headers: rest, value: Buffer.concat([...(parts as Buffer[]), value]) };
    };
  }

  private sawPart(name: string, key: string, isThere: boolean): void {
    const { open, dead } = this.unnamed.get(name) ?? { open: new Set(), dead: new Set() };
    dead.delete(key);
    open.delete(key);
    if (isThere) open.add(key);
    this.keep(name, { open, dead });
  }

  /** What lies before a value and is none of its parts is of none: whoever wrote it was killed, or has replaced it. */
  private sawValue(name: string, key: string, keys: readonly string[]): void {
    const { open, dead } = this.unnamed.get(name) ?? { open: new Set(), dead: new Set() };
    for (const each of [...open, ...partKeys(key, this.present.get(name))]) dead.add(each);
    for (const each of keys) dead.delete(each);
    this.present.delete(name);
    this.keep(name, { open: new Set(), dead });
  }

  private keep(name: string, unnamed: Unnamed): void {
    if (unnamed.open.size + unnamed.dead.size > 0) this.unnamed.set(name, unnamed);
    else this.unnamed.delete(name);
  }
}

interface Unnamed {
  /** Their value may still come. */
  open: Set<string>;
  dead: Set<string>;
}

function partKeys(key: string, named: string | undefined): string[] {
  const [id, count] = (named ?? '').split('/');
  return Array.from({ length: Number(count ?? 0) }, (_, at) => `${key}${US}${id}${US}${at}`);
}

/** Of a log's readers, which know nothing of parts. */
export const joined = (
  join: (record: StoredRecord) => StoredRecord | undefined,
  records: readonly StoredRecord[],
): LogRecord[] => records.flatMap((record) => join(record) ?? []);

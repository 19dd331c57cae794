/**
 * Carries over what is whole in a LevelDB folder that was set aside: every entry of every whole block of its tables and
 * every whole batch of its logs, the newest version of each key. LevelDB's own repair reads unchecked, too.
 *
 * A log's records hold batches: sequence (8), count (4), then per entry type (1), key and, for a value (type 1), value,
 * each with its length as LEB128. Source: LevelDB doc/log_format.md, write_batch.cc.
 */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { KvDatabase, KvOp } from './kv.ts';
import { logRecords } from './log-check.ts';
import { scanTable, splitKey, type KeyVersion } from './table-file.ts';

const BATCH_BYTES = 1024 * 1024;

function* batchEntries(record: Buffer): Generator<KeyVersion> {
  let sequence = record.readBigUInt64LE(0);
  const run = (at: number): [bytes: Buffer, next: number] => {
    let length = 0;
    let next = at;
    for (let scale = 1; ; scale *= 128) {
      const byte = record[next++];
      if (byte === undefined || scale > 2 ** 35) throw new Error('a batch runs over its end');
      length += (byte & 127) * scale;
      if (byte < 128) break;
    }
    if (next + length > record.length) throw new Error('a batch runs over its end');
    return [record.subarray(next, next + length), next + length];
  };
  for (let at = 12; at < record.length; sequence++) {
    const type = record[at];
    const [key, afterKey] = run(at + 1);
    let value: Buffer | undefined;
    at = afterKey;
    if (type === 1) [value, at] = run(afterKey);
    yield {
      key: Buffer.from(key),
      value: value === undefined ? undefined : Buffer.from(value),
      sequence,
    };
  }
}

/** Returns how many entries were carried over, on stable storage. */
export async function carryOver(folder: string, to: KvDatabase): Promise<number> {
  const newest = new Map<string, bigint>();
  const deleted = new Set<string>();
  let batch: KvOp[] = [];
  let bytes = 0;
  const flush = async (sync = false): Promise<void> => {
    if (batch.length > 0) await to.write(batch, { sync });
    batch = [];
    bytes = 0;
  };
  const take = async ({ key, value, sequence }: KeyVersion): Promise<void> => {
    const name = key.toString('latin1');
    const known = newest.get(name);
    if (known !== undefined && known >= sequence) return;
    newest.set(name, sequence);
    if (value === undefined) {
      deleted.add(name);
      return;
    }
    deleted.delete(name);
    batch.push({ type: 'put', key, value });
    bytes += key.length + value.length;
    if (bytes >= BATCH_BYTES) await flush();
  };
  for (const name of (await readdir(folder)).sort()) {
    const path = join(folder, name);
    if (name.endsWith('.ldb')) {
      await scanTable(path, async (entries) => {
        for (const [key, value] of entries) if (key.length >= 8) await take(splitKey(key, value));
      });
    } else if (name.endsWith('.log')) {
      for (const record of logRecords(await readFile(path))) {
        if (record.length < 12) continue;
        const entries: KeyVersion[] = [];
        try {
          entries.push(...batchEntries(record));
        } catch {
          continue; // Its checksum was right, but it is no batch.
        }
        for (const entry of entries) await take(entry);
      }
    }
  }
  for (const name of deleted) batch.push({ type: 'del', key: Buffer.from(name, 'latin1') });
  // One synced write at the end holds for all before it.
  batch.push({ type: 'del', key: Buffer.from([0]) });
  await flush(true);
  return newest.size - deleted.size;
}

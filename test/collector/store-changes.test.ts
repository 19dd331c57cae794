/** What a record changes in a store; and that a file that is suspect is believed only once it is written again and synced. */
import { writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { changesOf } from '../../collector/store/changes.ts';
import { passOver } from '../../collector/store/duckdb-file.ts';
import type { Reading } from '../../shared/model/reading.ts';
import { temporaryFolder } from '../support/process.ts';

const reading = (sequence: number): Reading => ({
  measurement: 'm',
  tags: {},
  fields: { n: sequence },
  sequence,
  index: 0,
  timeMs: sequence,
  ns: 0,
});

describe('changes of a store', () => {
  it('name every removal of a record, before its readings', () => {
    const batch = { gateway: 'g', epoch: 'e', arrivedMs: 1 };
    const changes = changesOf([{ ...batch, readings: [reading(3)], removed: [1, 2].map(reading) }]);
    expect(changes.map(({ identity, put }) => [identity.sequence, put === undefined])).toEqual([
      [1, true],
      [2, true],
      [3, false],
    ]);
  });
});

describe('a file after a failed write', () => {
  it('is written again in its place and synced before it is closed', async () => {
    const path = join(temporaryFolder(), 'file');
    writeFileSync(path, Buffer.alloc(3_000_000, 7));
    const calls: string[] = [];
    const watched = async (...args: Parameters<typeof open>): ReturnType<typeof open> =>
      new Proxy(await open(...args), {
        get(target, name) {
          const value: unknown = Reflect.get(target, name, target);
          if (typeof value !== 'function') return value;
          return (...given: unknown[]): unknown => {
            if (calls.at(-1) !== name) calls.push(String(name));
            return Reflect.apply(value, target, given);
          };
        },
      });
    await passOver(path, true, watched);
    expect(calls).toEqual([
      'read',
      'write',
      'read',
      'write',
      'read',
      'write',
      'read',
      'sync',
      'close',
    ]);
    calls.length = 0;
    await passOver(path, false, watched);
    expect(calls).toEqual(['read', 'close']);
  });
});

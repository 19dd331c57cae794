/** What a log of another package throws is an operating error, by its code; and what it is asked for options. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { optionsOf } from '../../collector/adapters.ts';
import { GuardedLog } from '../../collector/log/guarded.ts';
import type { Log } from '../../collector/log/log.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { temporaryFolder } from '../support/process.ts';

describe('a log that throws everything at every call', () => {
  const coded = (code: string, more: object = {}): Error =>
    Object.assign(new Error('theirs'), { code, ...more });
  const marked = { [Symbol.for('headwater.operating-error')]: true, retryable: true };

  it.each([
    ['an error without a code', new TypeError('undefined is no function'), 'LOG_UNAVAILABLE', true],
    ['a string', 'broken', 'LOG_UNAVAILABLE', true],
    ['nothing', undefined, 'LOG_UNAVAILABLE', true],
    ['a code of the system', coded('ECONNREFUSED'), 'LOG_UNAVAILABLE', true],
    ['a code of ours, without our class', coded('LOG_FENCED'), 'LOG_FENCED', true],
    ['a code of ours that does not pass', coded('LOG_TOO_LARGE'), 'LOG_TOO_LARGE', false],
    ['a marked one of a later version', coded('LOG_MOVED', marked), 'LOG_UNAVAILABLE', true],
  ])('%s', async (_, thrown, code, retryable) => {
    const fail = (): never => {
      throw thrown;
    };
    const reject = (): Promise<never> => Promise.resolve().then(fail);
    const broken: Log = {
      kind: 'broken',
      partitions: 1,
      open: reject,
      append: fail, // Not even a promise.
      consumer: () => Promise.resolve({ poll: reject, commit: reject, ended: fail, close: reject }),
      state: reject,
      watch: fail,
      groups: fail,
      forget: reject,
      first: fail,
      health: fail,
      warnings: fail,
      close: reject,
    };
    const log = new GuardedLog(broken, 'theirs');
    const consumer = await log.consumer({ group: 'g', topic: 't', from: 'start', bytesMax: 1 });
    const calls = [
      log.open(),
      log.append('t', []),
      log.state('t', 0, ''),
      log.watch('t', () => undefined),
      log.forget('g'),
      log.close(),
      log.first?.('t', 0) ?? Promise.resolve('it has none'),
      consumer.poll(0),
      consumer.commit({ produce: [], offsets: new Map() }),
      consumer.close(),
    ];
    for (const call of calls) {
      const error: unknown = await call.catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(HeadwaterError);
      expect(error).toMatchObject({ code, retryable });
      expect((error as Error).message).toContain('log theirs: ');
    }
    expect(log.committedBy).toBeUndefined();
    expect([...consumer.ended()]).toEqual([]);
    expect(log.groups()).toEqual([]);
    expect(log.health().up).toBe(false);
    expect(log.warnings()).toHaveLength(1);
  });
});

describe('options of an adapter', () => {
  const spec = {
    host: { type: 'string', default: 'h', about: '' },
    password: { type: 'string', default: '', secret: true, about: '' },
    leaseMs: { type: 'integer', default: 5, min: 1, max: 9, unit: 'ms', about: '' },
  } as const;
  const options = (
    query: string,
    environment: Record<string, string> = {},
    values: Record<string, unknown> = {},
  ): object =>
    optionsOf('some-log', spec, new URLSearchParams(query), {
      environment,
      file: 'c.yaml',
      values: new Map(Object.entries(values)),
    });

  it('come from the address, the environment, the file, their default: the first of them that names one', () => {
    const file = { 'some-log.leaseMs': 7, 'some-log.host': 'file' };
    expect(options('', {}, {})).toEqual({ host: 'h', password: '', leaseMs: 5 });
    expect(options('', {}, file)).toMatchObject({ host: 'file', leaseMs: 7 });
    expect(options('', { HEADWATER_SOME_LOG_LEASE_MS: '8' }, file)).toMatchObject({ leaseMs: 8 });
    expect(options('leaseMs=9', { HEADWATER_SOME_LOG_LEASE_MS: '8' }, file)).toMatchObject({
      leaseMs: 9,
    });
  });

  it('a secret comes from the environment or a private file, and never from an address or the file', () => {
    const path = join(temporaryFolder(), 'password');
    writeFileSync(path, 'a-long-enough-secret\n', { mode: 0o600 });
    expect(options('', {}, { 'some-log.passwordFile': path })).toMatchObject({
      password: 'a-long-enough-secret',
    });
    expect(options('', { HEADWATER_SOME_LOG_PASSWORD: 'x' })).toMatchObject({ password: 'x' });
    chmodSync(path, 0o644);
    expect(() => options('', {}, { 'some-log.passwordFile': path })).toThrow('chmod 600');
    expect(() => options('password=x')).toThrow(
      /is a secret: give it by HEADWATER_SOME_LOG_PASSWORD/,
    );
    expect(() => options('', {}, { 'some-log.password': 'x' })).toThrow('is a secret');
  });

  it('one that is unknown or out of range is one sentence', () => {
    expect(() => options('leaseMS=3')).toThrow(
      "'leaseMS' is no option of the adapter some-log; it has host, password, leaseMs",
    );
    expect(() => options('', {}, { 'some-log.lease': 3 })).toThrow("'some-log.lease' is no option");
    expect(() => options('leaseMs=99')).toThrow('between 1 and 9 ms');
  });
});

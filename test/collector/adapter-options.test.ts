/** Where the options of somebody else's adapter come from. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { optionsOf } from '../../collector/adapters.ts';
import { temporaryFolder } from '../support/process.ts';

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

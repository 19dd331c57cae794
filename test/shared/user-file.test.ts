/** What a person may name by mistake or malice where a file is wanted: each one sentence, at once. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { readCertificates } from '../../shared/access/tls.ts';
import { hashOf, readTokens } from '../../shared/access/tokens.ts';
import { Passwords, isPrivate, passwordLine } from '../../shared/config/secrets.ts';
import { loadConfig } from '../../shared/config/spec.ts';
import { readUserFile } from '../../shared/config/user-file.ts';
import { loadJobs } from '../../collector/batch/job.ts';
import { loadMappings } from '../../collector/decode/mapping/mapping.ts';
import { RuleFile } from '../../collector/stream/rule-file.ts';
import { temporaryFolder } from '../support/process.ts';

let folder = '';
let pipe = '';

beforeAll(() => {
  folder = temporaryFolder();
  pipe = join(folder, 'pipe.sql');
  execFileSync('mkfifo', [pipe]);
});

describe('a file that a setting names', () => {
  it('is read through links, and anything else is refused with its kind', () => {
    const [file, link, lost, huge] = ['file', 'link', 'lost', 'huge'].map((n) => join(folder, n));
    writeFileSync(file ?? '', 'text');
    symlinkSync('file', link ?? '');
    symlinkSync('nowhere', lost ?? '');
    writeFileSync(huge ?? '', '');
    truncateSync(huge ?? '', 2 ** 40);
    expect(readUserFile(link ?? '').toString()).toBe('text');
    expect(() => readUserFile(pipe)).toThrow(`${pipe} is a pipe, not a file`);
    expect(() => readUserFile(folder)).toThrow(`${folder} is a folder, not a file`);
    expect(() => readUserFile('/dev/zero')).toThrow('/dev/zero is a device, not a file');
    expect(() => readUserFile(lost ?? '')).toThrow(/ENOENT/);
    expect(() => readUserFile(huge ?? '')).toThrow(/has more than 64 MiB/);
  });

  it('may come from an editor of Windows: its line ends and its mark are none of the content', async () => {
    const files = ['users', 'tokens', 'config.yaml'].map((name) => join(folder, name));
    const [users = '', tokens = '', config = ''] = files;
    const windows = (file: string, lines: string[], mark = '\ufeff'): void =>
      writeFileSync(file, `${mark}${lines.join('\r\n')}\r\n`, { mode: 0o600 });
    const line = await passwordLine('sensor', Buffer.from('geheim'));
    windows(users, [line, line.replace('sensor', 'pump')]);
    const passwords = new Passwords(users);
    expect(await passwords.verify('sensor', Buffer.from('geheim'))).toBe(true);
    expect(await passwords.verify('pump', Buffer.from('geheim'))).toBe(true);
    windows(tokens, [`ops:admin:*:${hashOf('right').toString('hex')}`]);
    expect(readTokens(tokens)).toHaveLength(1);
    const spec = { id: { type: 'string', default: '', about: '' } } as const;
    windows(config, ['id: kitchen']);
    const sources = { file: config, flags: {}, environment: {} };
    expect(loadConfig(spec, sources)).toEqual({ id: 'kitchen' });
    writeFileSync(config, Buffer.from('\ufeffid: kitchen\r\n', 'utf16le'));
    expect(() => loadConfig(spec, sources)).toThrow(
      `${config}: ${config} is UTF-16 text, as PowerShell writes it: save it as UTF-8`,
    );
  });

  it.each<[string, () => unknown]>([
    ['the configuration', () => loadConfig({}, { file: pipe, flags: {}, environment: {} })],
    ['a certificate', () => readCertificates(pipe, 'tls.certFile')],
    ['mappings', () => loadMappings(pipe)],
    ['a job', () => loadJobs(folder, false)],
  ])('%s: a pipe keeps nobody waiting', (_, read) => {
    expect(read).toThrow(/pipe\.sql is a pipe, not a file/);
  });

  it('rules: a pipe keeps nobody waiting', async () => {
    await expect(new RuleFile(pipe, () => undefined).load()).rejects.toThrow(
      /is a pipe, not a file/,
    );
  });

  it('a script that a mapping names may be no pipe either', () => {
    const file = join(folder, 'mappings.yaml');
    writeFileSync(file, 'mappings:\n  - topic: a\n    script: { file: pipe.sql }\n');
    expect(() => loadMappings(file)).toThrow(/is a pipe, not a file/);
  });

  it('a folder of jobs may have a folder in it that is called like one', () => {
    const own = join(temporaryFolder(), 'jobs');
    mkdirSync(join(own, 'x.sql'), { recursive: true });
    expect(() => loadJobs(own, false)).toThrow(/x\.sql is a folder, not a file/);
  });
});

describe('a secret is private', () => {
  const who = { uid: 1000, groups: [1000, 2000] };

  it.each([
    ["its owner's alone", 0o600, 1000, 1000, true],
    ['as Kubernetes mounts it with fsGroup', 0o440, 0, 2000, true],
    ["root's, for its group to read", 0o640, 0, 2000, true],
    ["root's, of a group that is not ours", 0o640, 0, 3000, false],
    ["root's, for its group to write", 0o660, 0, 2000, false],
    ["root's, for everybody", 0o444, 0, 2000, false],
    ["a person's, for a group", 0o640, 1000, 2000, false],
  ])('%s', (_, mode, uid, gid, is) => {
    expect(isPrivate({ mode: 0o100000 | mode, uid, gid }, who)).toBe(is);
  });

  it('root has no need of it', () => {
    expect(isPrivate({ mode: 0o100440, uid: 0, gid: 0 }, { uid: 0, groups: [0] })).toBe(false);
  });
});

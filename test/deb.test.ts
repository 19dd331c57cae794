/** The package of the gateway: what is in it, and that it is the same from the same commit. `npm run deb:try` installs it. */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { ROOT, temporaryFolder } from './support/process.ts';

const isThere = (command: string): boolean => spawnSync(command, ['--version']).status === 0;
const dpkg = (...args: string[]): string =>
  execFileSync('dpkg-deb', args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });

function build(): string {
  const out = temporaryFolder();
  // armhf alone: it has no Node of its own, which takes a minute to pack.
  const args = ['scripts/deb.mjs', '--arch', 'armhf', '--out', out];
  const text = execFileSync(process.execPath, args, {
    cwd: ROOT,
    encoding: 'utf8',
    env: { ...process.env, SOURCE_DATE_EPOCH: '1790000000' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return text.trim();
}

describe.skipIf(!isThere('dpkg-deb'))('the package (needs dpkg-deb)', () => {
  let file: string;
  beforeAll(() => {
    file = build();
  });

  it('is the same, byte for byte, when it is built again', () => {
    const hash = (path: string): string =>
      createHash('sha256').update(readFileSync(path)).digest('hex');
    expect(hash(build())).toBe(hash(file));
  });

  it('says what it needs, whose settings it keeps, and belongs to root', () => {
    expect(dpkg('--info', file, 'control')).toMatch(/Depends: nodejs \(>= 20\.11\), libc6/);
    expect(dpkg('--info', file, 'conffiles')).toBe('/etc/headwater/gateway.yaml\n');
    const lines = dpkg('--contents', file).trim().split('\n');
    expect(lines.filter((line) => !line.includes(' root/root '))).toEqual([]);
    expect(lines.filter((line) => /^.rw.rw|^.{8}w/.test(line))).toEqual([]);
  });

  it('has the one native module that the board needs, the licences, and nothing of the collector', () => {
    const names = dpkg('--contents', file);
    expect(names).toContain('classic-level/prebuilds/linux-arm/');
    expect(names).not.toMatch(/prebuilds\/(?!linux-arm\/)\w/);
    expect(names).toContain('aedes/LICENSE');
    expect(names).not.toMatch(/duckdb|node-rdkafka|nodemailer|typescript\/|\.d\.ts|\.map\b/);
  });

  it.skipIf(!isThere('systemd-analyze'))('its unit is hardened: an exposure below 2', () => {
    const folder = temporaryFolder();
    execFileSync('dpkg-deb', ['--extract', file, folder]);
    const unit = join(folder, 'lib/systemd/system/headwater-gateway.service');
    expect(readFileSync(unit, 'utf8')).toMatch(/^ExecStart=\/usr\/bin\/node /m);
    const args = ['security', '--offline=true', '--no-pager', unit];
    const said = execFileSync('systemd-analyze', args, { encoding: 'utf8' });
    expect(Number(/exposure level .*: ([\d.]+)/.exec(said)?.[1])).toBeLessThan(2);
  });
});

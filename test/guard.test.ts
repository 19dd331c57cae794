/** What a boot does with an upgrade that the plug has cut, on a made-up machine; on real ones: `npm run deb:try`, `npm run flash:try`. */
import { execFileSync } from 'node:child_process';
import { existsSync, linkSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ROOT, temporaryFolder } from './support/process.ts';

const UNIT = 'lib/systemd/system/headwater-gateway.service';
const ENTRY = (status: string, version: number): string =>
  `Package: headwater-gateway\nStatus: install ${status}\nVersion: ${version}\n`;

/** Version 1 is kept; of version 2 the program is there in part. */
function machine(state: string, isUnitNew: boolean, more: NodeJS.ProcessEnv = {}) {
  const folder = temporaryFolder();
  const at = (path: string): string => join(folder, path);
  const write = (path: string, text: string, mode = 0o644): void => {
    mkdirSync(join(at(path), '..'), { recursive: true });
    writeFileSync(at(path), text, { mode });
  };
  const kept = 'usr/lib/headwater-gateway.previous';
  for (const [path, text] of [
    ['usr/lib/headwater-gateway/a', '2'],
    ['usr/lib/headwater-gateway/b', '1'],
    [`${kept}/app/a`, '1'],
    [`${kept}/app/b`, '1'],
    [`${kept}/unit`, '1'],
    [`${kept}/version`, '1'],
    [`${kept}/pending`, 'active'],
    [`${kept}/boot`, 'the one before'],
    [`${kept}/status`, ENTRY('ok installed', 1)],
    [`${kept}/info/headwater-gateway.list`, '1'],
    ['var/lib/dpkg/info/headwater-gateway.list', '2'],
    ['var/lib/dpkg/status', `Package: a\n\n${ENTRY(state, 2)}\nPackage: z\n`],
    ['etc/systemd/system/x', ''],
    ['lib/systemd/system/x', ''],
  ] as const)
    write(path, text);
  if (isUnitNew) write(UNIT, '2');
  else linkSync(at(`${kept}/unit`), at(UNIT));
  write('bin/dpkg', '#!/bin/sh\n', 0o755);
  const said = `case "$*" in *db:Status*) echo ${state.split(' ')[1]};; *Version*) echo 2;; *Status*) echo "install ${state}";; esac`;
  const copy = `[ "$1" != -s ] || sed -n '/^Package: h/,/^$/p' ${at('var/lib/dpkg/status')}`;
  write('bin/dpkg-query', `#!/bin/sh\n${said}\n${copy}\n`, 0o755);
  const guard = readFileSync(join(ROOT, 'packaging/common/guard'), 'utf8');
  write(
    'guard',
    guard.replaceAll(/(^[A-Z]+=|\[ -d |in )(?=\/(?:usr|lib|etc|var|run|proc))/gm, `$1${folder}`),
  );
  const env = { ...process.env, ...more, PATH: `${at('bin')}:${process.env['PATH']}` };
  return {
    write,
    run: (what: string) => execFileSync('sh', [at('guard'), what], { env, encoding: 'utf8' }),
    read: (path: string) => readFileSync(at(path), 'utf8'),
    has: (path: string) => existsSync(at(path)),
  };
}

it.each([
  false,
  true,
])('a program of two versions is the whole old one before the service starts, and dpkg is told so (the unit was replaced: %s)', (isUnitNew) => {
  const { run, read, has } = machine('reinstreq half-installed', isUnitNew);
  expect(run('mend')).toMatch(/ROLLED BACK to 1: the new version was cut short/);
  expect(read('usr/lib/headwater-gateway/a')).toBe('1');
  expect(read(UNIT)).toBe('1');
  expect(read('var/lib/dpkg/status').trim()).toBe(
    `Package: a\n\n${ENTRY('ok installed', 1)}\nPackage: z`,
  );
  expect(read('var/lib/dpkg/info/headwater-gateway.list')).toBe('1');
  expect(has('usr/lib/headwater-gateway.previous/pending')).toBe(false);
  expect(has('usr/lib/headwater-gateway.previous/rolled-back')).toBe(true);
});

it('what was whole is left to be judged', () => {
  const { run, read } = machine('ok unpacked', true);
  expect(run('mend')).toBe('');
  expect(read('usr/lib/headwater-gateway/a')).toBe('2');
});

it('armed once more by the new version, while dpkg unpacks, it takes nothing for cut at whatever moment a boot is looked for', () => {
  const { run, read, has, write } = machine('reinstreq half-installed', true);
  const kept = 'usr/lib/headwater-gateway.previous';
  const looks = '"${0%/*}/../looks"';
  write('looks', '');
  run('arm');
  // Whoever asks for the boot's name has `mend` look first, and it is asked for while the file is written.
  write(
    'bin/cat',
    `#!/bin/sh
case "$*" in *boot_id*)
  if [ -z "$MENDING" ]; then MENDING=1 sh "\${0%/*}/../guard" mend >>${looks}; echo looked >>${looks}; fi ;;
esac
exec /bin/cat "$@"
`,
    0o755,
  );
  run('arm');
  expect(read('looks').trim().split('\n')).toEqual(['looked']);
  expect([has(`${kept}/pending`), has(`${kept}/rolled-back`)]).toEqual([true, false]);
  expect(read('usr/lib/headwater-gateway/a')).toBe('2');
});

/** A systemd whose service stands, as time goes on, as `property` says; a second takes no time. */
function watched(property: string, more: NodeJS.ProcessEnv = {}) {
  const made = machine('ok installed', true, more);
  made.write('run/systemd/system/x', '');
  made.write('bin/sleep.count', '');
  made.write('bin/sleep', '#!/bin/sh\necho . >>"$0.count"\n', 0o755);
  made.write(
    'bin/systemctl',
    `#!/bin/sh
t=$(wc -l <"\${0%/*}/sleep.count" )
case "$*" in
  is-active*) echo active ;;
  *MainPID*) echo "\${pid:-7}" ;;
  *NRestarts*) echo "\${restarts:-0}" ;;
  *Result*) [ $((t % 3)) = 2 ] && echo success || echo exit-code ;;
  *ExecMainStatus*) echo 1 ;;
esac
`.replace('case', `${property}\ncase`),
    0o755,
  );
  made.write('bin/journalctl', '#!/bin/sh\necho "headwater: it will not"\necho Stopped\n', 0o755);
  return made.run('watch');
}

it('a version that stays up is taken, whatever the one before it had ended', () => {
  const soon = { GUARD_HEALTHY_S: '20' };
  expect(watched('restarts=9; [ "$t" -lt 3 ] || restarts=0', soon)).toMatch(
    /2 is healthy; 1 is kept/,
  );
});

it('a version that ends again and again goes back at once, and how it ended is said', () => {
  expect(watched('restarts=$t; pid=$t')).toMatch(
    /ROLLED BACK to 1: the new version ended 5 times \(exit-code, status 1\); it says: it will not\. /,
  );
});

it('a version that hangs once it is ready goes back: its watchdog ends it before it counts as healthy', () => {
  const often = { GUARD_HEALTHY_S: '9', GUARD_WITHIN_S: '30' };
  expect(watched('pid=$((t / 8))', often)).toMatch(
    /ROLLED BACK to 1: the new version did not stay up for 9 s within 30 s/,
  );
  const unit = readFileSync(join(ROOT, 'packaging/gateway/headwater-gateway.service'), 'utf8');
  const guard = readFileSync(join(ROOT, 'packaging/common/guard'), 'utf8');
  const seconds = (text: string, name: RegExp): number => Number(name.exec(text)?.[1]);
  const healthy = seconds(guard, /GUARD_HEALTHY_S:-(\d+)/);
  // The last word of a process that hangs may have been said a while after it was ready.
  expect(healthy).toBeGreaterThanOrEqual(seconds(unit, /^WatchdogSec=(\d+)$/m) * 1.5);
  const within = seconds(guard, /GUARD_WITHIN_S:-(\d+)/);
  expect(within).toBeGreaterThan(seconds(unit, /^TimeoutStartSec=(\d+)$/m) + healthy);
});

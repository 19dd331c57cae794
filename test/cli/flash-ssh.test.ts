/**
 * `headwater flash --ssh`, through a command in the place of ssh that runs what it is sent here, on a made-up machine with a
 * dpkg and a systemd of its own; and labels. With a real sshd, dpkg and package: `npm run deb:try`.
 */
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { flash } from '../../cli/flash.ts';
import { joinTokenText } from '../../shared/access/join-token.ts';
import { temporaryFolder } from '../support/process.ts';

let folder: string;
let machine: string;
let args: string[];

/** A command that the machine has. */
function command(name: string, script: string): void {
  writeFileSync(join(folder, 'bin', name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
}

function token(gateway: string): string {
  const path = join(folder, `${gateway}.token`);
  const [urls, collectors] = [['https://c.example:8886'], ['mqtts://c.example:8885']];
  const fingerprint = `${'AB:'.repeat(31)}AB`;
  const secret = 's'.repeat(32);
  writeFileSync(path, joinTokenText({ gateway, urls, collectors, fingerprint, secret }));
  return path;
}

const there = (path: string): string => readFileSync(join(machine, path), 'utf8');

async function run(...more: string[]): Promise<string> {
  const said: string[] = [];
  const take = (part: unknown): boolean => {
    said.push(String(part));
    return true;
  };
  vi.spyOn(process.stdout, 'write').mockImplementation(take);
  vi.spyOn(process.stderr, 'write').mockImplementation(take);
  await flash([...args, ...more]);
  return said.join('');
}

beforeEach(() => {
  folder = temporaryFolder();
  machine = join(folder, 'machine');
  for (const name of ['bin', 'tmp', 'machine/run/systemd/system', 'machine/var/lib'])
    mkdirSync(join(folder, name), { recursive: true });
  const deb = join(folder, 'headwater-gateway_0.1.0_arm64.deb');
  writeFileSync(deb, 'the package');
  args = ['--package', deb];
  command(
    'ssh',
    `
while [ "$1" != -- ]; do shift; done
case $2 in away) echo 'ssh: connect to host away port 22: Connection refused' >&2; exit 255;; esac
echo "$2" >>${join(folder, 'sent')}
exec sh -c "$3"`,
  );
  const here = `s#/var/lib#${machine}/var/lib#; s#/etc/headwater#${machine}/etc/headwater#g; s#/run/systemd#${machine}/run/systemd#; s#/usr/lib/head#${machine}/usr/lib/head#`;
  command(
    'tar',
    `case $1 in -xf) /bin/tar "$@" && sed -i '${here}' "$4/install.sh";; *) exec /bin/tar "$@";; esac`,
  );
  const data = join(machine, 'var/lib/headwater-gateway');
  command(
    'dpkg',
    `case $1 in --print-architecture) echo arm64; exit;; esac\nmkdir -p ${data} && cp gateway.deb ${machine}/installed`,
  );
  command('id', 'echo 0');
  // No such user here.
  command(
    'install',
    'while [ $# -gt 2 ]; do shift; done; if [ "$1" = 0755 ]; then mkdir -p "$2"; else cp "$1" "$2"; fi',
  );
  command(
    'systemctl',
    `[ "$1" = is-active ] || { mkdir -p ${data}/data/identity; echo pem > ${data}/data/identity/own.pem; }`,
  );
  vi.stubEnv('TMPDIR', join(folder, 'tmp'));
  vi.stubEnv('PATH', `${join(folder, 'bin')}:${process.env['PATH']}`);
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  process.exitCode = undefined;
});

it('a machine that runs gets package, settings and token over one connection, and is a gateway; a newer package later needs no token', async () => {
  const settings = join(folder, 'gateway.yaml');
  writeFileSync(settings, 'data: x\n');
  const first = ['--token', token('roof-1'), '--ssh', 'pi@roof-1.local'];
  expect(await run(...first, '--settings', settings)).toBe('roof-1: the gateway runs there\n');
  expect(there('installed')).toBe('the package');
  expect(there('etc/headwater/gateway.yaml')).toBe('data: x\n');
  expect(there('var/lib/headwater-gateway/join.token')).toMatch(/./);
  expect(await run(...first)).toMatch(
    /^headwater: roof-1: pi@roof-1.local: it is an enrolled gateway already: leave the token out/,
  );
  expect(process.exitCode).toBe(1);
  expect(await run('--ssh', 'roof-1.local')).toBe('roof-1.local: the gateway runs there\n');
});

it('several machines take the rows of a table in order; one that is away stops no other, and a report is kept', async () => {
  const table = join(folder, 'cards.csv');
  writeFileSync(table, 'name\nb-1\nb-2\nb-3\n');
  for (const name of ['b-1', 'b-2', 'b-3']) token(name);
  const said = await run('--table', table, '--tokens', folder, '--ssh', 'away', '--ssh', 'here');
  expect(said).toMatch(/headwater: b-1: away: ssh does not come through: ssh: connect .* refused/);
  expect(said).toMatch(/b-2: the gateway runs there\n1 of the table are left/);
  expect(readFileSync(join(folder, 'cards-report.csv'), 'utf8')).toMatch(
    /b-1,ssh:away,.*,failed\n[\s\S]*b-2,ssh:here,.*,written/,
  );
});

it('what the machine cannot take is said in one sentence, and nothing is left on this one', async () => {
  const one = ['--token', token('roof-1'), '--ssh', 'here'];
  for (const [name, script, why] of [
    ['dpkg', 'echo amd64', /here: it is amd64, and the package for arm64/],
    [
      'dpkg',
      'case $1 in --p*) echo arm64;; *) echo "dpkg: error: disk full" >&2; exit 2;; esac',
      /here: dpkg: error: disk full/,
    ],
    [
      'dpkg',
      'case $1 in --p*) echo arm64;; *) printf "dpkg: error processing archive gateway.deb (--install):\\n no space left\\ndpkg-deb: error: broken pipe\\nErrors were encountered:\\n gateway.deb\\n"; exit 1;; esac',
      /here: dpkg: error processing archive gateway.deb \(--install\):  no space left$/m,
    ],
    ['df', 'printf "head\\n/dev/sda1 9 9 15360 9%% /\\n"', /here: \/usr has 15 MB left, and the/],
    ['sudo', 'exit 1', /may not become root without a password/],
    [
      'tar',
      'case $1 in -xf) cat >/dev/null; echo "tar: x: No space left"; echo "tar: Exiting"; exit 2;; esac; exec /bin/tar "$@"',
      /into .*: tar: x: No space left$/m,
    ],
  ] as const) {
    if (name === 'sudo') command('id', '[ "$1" = -u ] && echo 1000 || echo pi');
    command(name, script);
    expect(await run(...one)).toMatch(why);
  }
  expect(readdirSync(join(folder, 'tmp'))).toEqual([]);
});

it('an upgrade ends as its guard decides, also where the new version does not start: the command says which version runs', async () => {
  expect(await run('--token', token('roof-1'), '--ssh', 'here')).toMatch(/the gateway runs there/);
  const kept = join(machine, 'usr/lib/headwater-gateway.previous');
  mkdirSync(kept, { recursive: true });
  writeFileSync(join(kept, 'version'), '0.1.0\n');
  command('dpkg-deb', 'case $* in *Version*) echo 0.2.0;; *) echo 9;; esac');
  command('systemctl', '[ "$1" = is-active ]');
  for (const [word, said, code] of [
    ['true', 'here: the gateway runs there\n', undefined],
    [
      `echo 'the new version ended 5 times' >${kept}/rolled-back`,
      'headwater: here: 0.2.0 does not stay, 0.1.0 runs there again: the new version ended 5 times; journalctl -u headwater-gateway says more\n',
      1,
    ],
  ] as const) {
    writeFileSync(join(kept, 'pending'), 'active\n');
    // A second of its waiting is where the guard decides.
    command('sleep', `${word}; rm -f ${kept}/pending`);
    expect(await run('--ssh', 'here')).toBe(said);
    expect(process.exitCode).toBe(code);
  }
});

it('a first version that does not start is no success', async () => {
  command('systemctl', 'exit 1');
  expect(await run('--token', token('roof-1'), '--ssh', 'here')).toMatch(
    /roof-1: here: it was installed, and does not start: journalctl -u headwater-gateway says why\n$/,
  );
});

it('image and machine are two ways, and a host is no option', async () => {
  const one = ['--token', token('roof-1')];
  await expect(run(...one)).rejects.toThrow(/name the image: .*--ssh HOST/);
  await expect(run('x.img', ...one, '--ssh', 'here')).rejects.toThrow(/--ssh needs no image/);
  await expect(run(...one, '--ssh', 'here', '--wifi-ssid', 'x')).rejects.toThrow(
    /--wifi-ssid is for cards/,
  );
  await expect(run(...one, '--ssh', 'here', '--jobs', '0')).rejects.toThrow(/--jobs 0/);
  for (const host of ['ssh://-oProxyCommand=x', 'a b', '$(x)', 'a@-b', ''])
    await expect(run(...one, `--ssh=${host}`), host).rejects.toThrow(
      /--ssh .* is no \[USER@\]HOST/,
    );
  expect(await run(...one, '--ssh', 'here', '--dry-run')).toMatch(
    /roof-1 → ssh:here.*\nNothing was done/,
  );
  expect(existsSync(join(folder, 'sent'))).toBe(false);
});

it('labels: one for each row, also for those that are written, and what a name holds is text', async () => {
  const table = join(folder, 'cards.csv');
  writeFileSync(table, 'name,wifi_ssid,wifi_country\nb-1,<b>Barn & yard,DE\nb-2,,\n');
  writeFileSync(join(folder, 'cards-report.csv'), 'b-1,x,y,written\n');
  for (const name of ['b-1', 'b-2']) token(name);
  const sheet = join(folder, 'labels.html');
  const all = ['--table', table, '--tokens', folder, '--labels', sheet];
  await run(...all, '--ssh', 'here', '--dry-run');
  const html = readFileSync(sheet, 'utf8');
  expect(html.match(/<svg/g)).toHaveLength(2);
  expect(html).toContain('Wi-Fi &#60;b&#62;Barn &#38; yard');
});

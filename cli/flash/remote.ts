/**
 * The gateway on a machine that runs already, by this machine's own ssh: one connection (one password, one question), over
 * whose input a tar with package, token and script goes. What stands there already is kept: buffer, identity, settings.
 */
import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HeadwaterError } from '../../shared/errors.ts';
import { inParts, type Report, type Work } from './batch.ts';
import type { Card, Payload } from './provision.ts';
import { endsClean, inScratch } from './scratch.ts';

const CONNECT_SECONDS = 20;
const SAID_CHARS_MAX = 4000;
/** What ssh itself ends with: nothing was done there. */
const SSH_FAILED = 255;

/** Beside what the package takes: settings, the guard's copy, the journal. */
const SPARE_KIB = 16 * 1024;
/** Longer than the guard of an upgrade takes with a dpkg that was cut, and with a version that never starts (packaging/common/guard). */
const GUARD_SECONDS = 1500;
/** Every refusal is one sentence on stderr, before anything is changed where that can be. */
const INSTALL = `set -eu
cd "$(dirname "$0")"
data=/var/lib/headwater-gateway
kept=/usr/lib/headwater-gateway.previous
fail() { echo "$1" >&2; exit 1; }
# Whole or not at all, also where the power goes: MODE OWNER FILE TARGET.
put() {
  $root install -m "$1" -o "$2" -g "$2" "$3" "$4.new"
  $root sync -f "$4.new"
  $root mv "$4.new" "$4"
}
command -v dpkg >/dev/null || fail 'it has no dpkg: the package is for Debian, Raspberry Pi OS and what is made of them'
[ "$(dpkg --print-architecture)" = "$(cat architecture)" ] ||
  fail "it is $(dpkg --print-architecture), and the package for $(cat architecture): give the package of that architecture"
[ -d /run/systemd/system ] || fail 'it does not run systemd, which starts the gateway'
root=
if [ "$(id -u)" != 0 ]; then
  sudo -n true 2>/dev/null || fail "$(id -un) may not become root without a password: log in as root, or allow sudo"
  root='sudo -n'
fi
if $root test -s $data/data/identity/own.pem && [ -e join.token ]; then
  fail 'it is an enrolled gateway already: leave the token out to bring a newer package; headwater enroll --revoke and dpkg -P make it a new one'
fi
need=$(dpkg-deb --field gateway.deb Installed-Size 2>/dev/null || echo 0)
dpkg-deb --field gateway.deb Version >version 2>/dev/null || echo 'the new version' >version
left=$(df -Pk /usr | awk 'NR == 2 { print $4 }')
[ "$left" -gt $((need + ${SPARE_KIB})) ] ||
  fail "/usr has $((left / 1024)) MB left, and the package takes $((need / 1024)) beside what runs there: make room"
$root install -d -m 0755 /etc/headwater
if [ -e gateway.yaml ]; then put 0644 root gateway.yaml /etc/headwater/gateway.yaml; fi
$root env DEBIAN_FRONTEND=noninteractive dpkg --force-confold --install gateway.deb >dpkg.log 2>&1 || {
  said=$(sed -n '/^dpkg: error/,+1p' dpkg.log | head -n 2)
  fail "$(echo "\${said:-dpkg: $(tail -n 3 dpkg.log)}" | tr '\\n' ' ')"
}
if [ -e passwords ]; then put 0600 headwater-gateway passwords /etc/headwater/passwords; fi
if [ -e join.token ]; then put 0600 headwater-gateway join.token $data/join.token; fi
# Of an upgrade the package's own guard is the judge, also of one that does not start: its word is this command's.
if $root test -e $kept/pending; then
  $root systemctl restart headwater-gateway || true
  left=${GUARD_SECONDS}
  while $root test -e $kept/pending; do
    left=$((left - 1))
    [ $left -gt 0 ] || fail 'it was installed, and its guard has not decided yet whether it stays: journalctl -u headwater-gateway-guard says more'
    sleep 1
  done
  ! $root test -e $kept/rolled-back ||
    fail "$(cat version) does not stay, $($root cat $kept/version) runs there again: $($root cat $kept/rolled-back); journalctl -u headwater-gateway says more"
else
  $root systemctl restart headwater-gateway ||
    fail 'it was installed, and does not start: journalctl -u headwater-gateway says why'
fi
left=60
until $root test -s $data/data/identity/own.pem; do
  $root systemctl is-active --quiet headwater-gateway ||
    fail "it was installed, and does not run: journalctl -u headwater-gateway says why"
  [ -e join.token ] || break
  left=$((left - 1))
  [ $left -gt 0 ] || { echo waits; exit 0; }
  sleep 1
done
$root systemctl is-active --quiet headwater-gateway || fail 'it was installed, and does not run: journalctl -u headwater-gateway says why'
echo runs
`;

/** tar's last line says nothing of what it met first. */
const UNPACK = `umask 077; d=$(mktemp -d) || exit 1; trap 'rm -rf "$d"' EXIT; said=$(tar -xf - -C "$d" 2>&1) || { echo "the package cannot be put into $d: $(echo "$said" | head -n 1)" >&2; exit 1; }; sh "$d/install.sh"`;

/** What ends with what: both, so that a tar that fails is not taken for a machine that does. */
function piped(folder: string, host: string): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve, reject) => {
    const tar = spawn('tar', ['-cf', '-', '-C', folder, '.'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const options = ['-o', `ConnectTimeout=${CONNECT_SECONDS}`, '-o', 'ServerAliveInterval=15'];
    // Behind the dashes a host is never an option; a login shell that is no sh gets one.
    const ssh = spawn('ssh', [
      ...options,
      '--',
      host,
      `exec sh -c '${UNPACK.replaceAll("'", `'\\''`)}'`,
    ]);
    const said = { out: '', err: '' };
    const add = (to: 'out' | 'err') => (part: Buffer) =>
      (said[to] = (said[to] + part.toString('utf8')).slice(-SAID_CHARS_MAX));
    ssh.stdout.on('data', add('out'));
    ssh.stderr.on('data', add('err'));
    // Who hangs up says why by its end.
    ssh.stdin.on('error', () => undefined);
    tar.stdout.pipe(ssh.stdin);
    for (const child of [tar, ssh])
      child.once('error', (error) => {
        tar.kill();
        ssh.kill();
        reject(error);
      });
    ssh.once('close', (code) => {
      tar.kill();
      resolve({ code: code ?? SSH_FAILED, ...said });
    });
  });
}

/** Throws USAGE. */
export function checkHost(host: string): void {
  // What begins with a dash could become an option of what ssh itself starts.
  if (!/^(?:ssh:\/\/)?[A-Za-z0-9_.%+@[\]:-]+$/.test(host) || /^-|@-|\/\/-/.test(host))
    throw new HeadwaterError(
      'USAGE',
      `--ssh ${host} is no [USER@]HOST, ssh://[USER@]HOST:PORT or name of your ssh configuration`,
    );
}

type Installed = 'runs' | 'waits';

/**
 * `waits`: it runs, and the collector has not answered it within a minute. Throws UNREACHABLE when ssh does not come
 * through, and CONFIG_INVALID with what the machine says.
 */
async function installBySsh(
  host: string,
  payload: Payload,
  token: Card['token'] | undefined,
): Promise<Installed> {
  // Who is named by the machine alone needs it no second time.
  const about = token === undefined ? '' : `${host}: `;
  return await inScratch(async (folder) => {
    const files: [string, string | Buffer][] = [
      ['install.sh', INSTALL],
      ['architecture', payload.architecture],
      ['gateway.deb', payload.deb],
      ...(token === undefined ? [] : [['join.token', `${token.trim()}\n`] as [string, string]]),
      ...(payload.gatewayYaml === ''
        ? []
        : [['gateway.yaml', payload.gatewayYaml] as [string, string]]),
      ...(payload.passwords === '' ? [] : [['passwords', payload.passwords] as [string, string]]),
    ];
    for (const [name, content] of files)
      await writeFile(join(folder, name), content, { mode: 0o600 });
    const { code, out, err } = await piped(folder, host);
    const last = err.trim().split('\n').at(-1) ?? '';
    if (code === SSH_FAILED)
      throw new HeadwaterError('UNREACHABLE', `${about}ssh does not come through: ${last}`);
    const end = out.trim().split('\n').at(-1);
    if (code === 0 && (end === 'runs' || end === 'waits')) return end;
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `${about}${last === '' ? `it ended with ${code}` : last}`,
    );
  });
}

const INSTALLED = {
  runs: 'the gateway runs there',
  waits:
    "the gateway runs there and takes readings; the collector has not let it in yet: 'headwater enroll --list' and its journal say more",
};

interface Remote {
  hosts: readonly string[];
  /** In the order of the hosts; none: a newer package for gateways that are there. */
  cards: readonly Card[] | undefined;
  payload: Payload;
  isDry: boolean;
}

/** One that fails stops no other. */
export async function overSsh(
  { hosts, cards, payload, isDry }: Remote,
  jobs: number | undefined,
  report: Report,
): Promise<void> {
  const work = hosts.flatMap((host, index): Work[] => {
    const card = cards?.[index];
    if (cards !== undefined && card === undefined) return [];
    const make = async () => INSTALLED[await installBySsh(host, payload, card?.token)];
    return [{ name: card?.name ?? host, place: `ssh:${host}`, make }];
  });
  if (isDry) {
    for (const { name, place } of work)
      process.stdout.write(`${name} → ${place}, package for ${payload.architecture}\n`);
    process.stdout.write('Nothing was done.\n');
    return;
  }
  const stop = endsClean('the same call goes on with what was not done');
  const failed = await inParts(work, jobs ?? work.length, report).finally(stop);
  if (failed > 0) process.exitCode = 1;
  const left = (cards?.length ?? 0) - hosts.length;
  if (left > 0)
    process.stdout.write(
      `${left} of the table are left: name the next machines and say the same again\n`,
    );
}

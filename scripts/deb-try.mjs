/**
 * `npm run deb:try [-- --package FILE] [--kills N] [--only-ssh] [--only-booted] [--spoilt ends,…]`: the package in a Debian of its own (mmdebstrap, chroot): installed, upgraded
 * with messages in its buffer, broken on purpose and rolled back by its guard, killed in the middle of upgrades and brought up
 * by what runs at a boot, removed, installed again, purged; and installed by `headwater flash --ssh` through a real sshd;
 * then under a systemd that runs (systemd-nspawn): versions that are not to stay, and ends in the middle of upgrades. Needs root, mmdebstrap, dpkg and systemd-container.
 */
import { execFileSync, spawn } from 'node:child_process';
import {
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { connectAsync } from 'mqtt';
import { freePort, root } from './here.mjs';
import { booted } from './deb-booted.mjs';
import { SPOILT, later, marked } from './later.mjs';
import { flagsOf } from './flags.mjs';

const { values } = flagsOf(import.meta.url, {
  options: {
    package: { type: 'string' },
    kills: { type: 'integer', default: 12 },
    'only-ssh': { type: 'boolean' },
    'only-booted': { type: 'boolean' },
    spoilt: {
      type: 'string',
      list: true,
      choices: Object.keys(SPOILT),
      default: Object.keys(SPOILT),
    },
  },
});
const work = mkdtempSync(join(tmpdir(), 'headwater-deb-try-'));
const tree = join(work, 'root');
const say = (text) => process.stderr.write(`deb: ${text}\n`);
const run = (command, args, options = {}) =>
  execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], ...options });
const inside = (...args) => run('chroot', [tree, ...args]);
const must = (is, what) => {
  if (!is) throw new Error(`not so: ${what}`);
  say(what);
};
const DATA = '/var/lib/headwater-gateway';
/** Of the user root there. */
const SSH = join('/root', '.ssh');
const here = (path) => join(tree, path);
/** Its links point into the root, not into this machine's. */
const isThere = (path) => lstatSync(here(path), { throwIfNoEntry: false }) !== undefined;

/** As the unit starts it, and as its user. Resolves with what `use` gives. */
async function serving(use) {
  const port = await freePort();
  const unit = readFileSync(here('/lib/systemd/system/headwater-gateway.service'), 'utf8');
  const command = /^ExecStart=(.*)$/m.exec(unit)[1].split(' ');
  const child = spawn(
    'chroot',
    [
      '--userspec=headwater-gateway:headwater-gateway',
      tree,
      ...command,
      '--mqtt',
      `127.0.0.1:${port}`,
      '--gateway-http',
      '127.0.0.1:0',
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const ended = new Promise((resolve) => child.once('close', resolve));
  let text = '';
  try {
    const address = await new Promise((resolve, reject) => {
      child.stderr.on('data', (part) => (text += part));
      child.stdout.on('data', (part) => {
        text += part;
        const http = /http=(\S+)/.exec(text)?.[1];
        if (http !== undefined) resolve(http);
      });
      child.once('close', () => reject(new Error(`it did not start: ${text}`)));
    });
    return await use(port, address);
  } finally {
    child.kill('SIGTERM');
    await ended;
  }
}

/** Messages in its buffer; what an earlier run has left is counted after a start. */
async function waiting(http) {
  for (;;) {
    const { waitingMessages } = await (await fetch(`http://${http}/api/v1/buffer`)).json();
    if (typeof waitingMessages === 'number') return waitingMessages;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function install(deb) {
  cpSync(deb, here(`/tmp/${basename(deb)}`));
  return inside('dpkg', '-i', `/tmp/${basename(deb)}`);
}

const APP = '/usr/lib/headwater-gateway';
const KEPT = '/usr/lib/headwater-gateway.previous';
const installed = () => inside('dpkg-query', '-W', '-f', '${Version}', 'headwater-gateway');

/** Whether the program that is there starts, as the unit starts it: what systemd would see. */
const HEALTH = `#!/bin/sh
command=$(sed -n 's/^ExecStart=//p' /lib/systemd/system/headwater-gateway.service)
cd /var/lib/headwater-gateway || exit 1
setpriv --reuid headwater-gateway --regid headwater-gateway --clear-groups $command --mqtt 127.0.0.1:0 --gateway-http 127.0.0.1:0 >/tmp/health.out 2>&1 &
left=100
until grep -q '^ready' /tmp/health.out; do
  left=$((left - 1))
  if [ $left = 0 ] || ! kill -0 $! 2>/dev/null; then exit 1; fi
  sleep 0.2
done
kill $!
wait $! || true
exit 0
`;

/** What runs at the next boot, or at once where systemd is there. */
function watch() {
  return run('chroot', [tree, `${KEPT}/guard`, 'watch'], {
    env: { ...process.env, GUARD_HEALTH: '/tmp/healthy' },
  });
}

async function publish(port, n) {
  const client = await connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 0 });
  await client.publishAsync('a/b', JSON.stringify({ n }), { qos: 1 });
  await client.endAsync();
}

let count = 0;
/** Everything that was acknowledged so far is there; one more is acknowledged. */
async function holds(what) {
  const before = await serving(async (port, http) => {
    const found = await waiting(http);
    await publish(port, count);
    return found;
  });
  must(before === count, `${what}: ${before} of ${count} that were acknowledged are there`);
  count++;
}

function rolledBack(why) {
  must(/ROLLED BACK/.test(watch()), `${why}: the guard puts the version of before back`);
  must(isThere(`${KEPT}/rolled-back`) && !isThere(`${KEPT}/pending`), 'and says so, once');
}

/** dpkg and all that it has started end at a random moment, as by the plug; then what a boot runs. */
async function killed(deb, kills) {
  const ends = { 'not begun': 0, finished: 0, 'rolled back': 0 };
  for (let round = 0; round < kills; round++) {
    const file = later(deb, `0.3.${round}`, work, marked(`0.3.${round}`));
    cpSync(file, here('/tmp/next.deb'));
    rmSync(file);
    const before = installed();
    const child = spawn('chroot', [tree, 'dpkg', '-i', '/tmp/next.deb'], {
      detached: true,
      stdio: 'ignore',
    });
    let isGone = false;
    const gone = new Promise((resolve) => {
      child.once('close', () => {
        isGone = true;
        resolve();
      });
    });
    // Mostly while files are replaced, which begins when the version of before is kept.
    const isEarly = round % 4 === 0;
    while (!isEarly && !isGone && !isThere(`${KEPT}/pending`))
      await new Promise((resolve) => setTimeout(resolve, 5));
    await Promise.race([gone, new Promise((resolve) => setTimeout(resolve, Math.random() * 3000))]);
    if (!isGone && child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    await gone;
    const isGuarded = isThere(`${KEPT}/pending`);
    must(isGuarded || installed() === before, 'no upgrade begins without its guard');
    const isWhole = () => {
      const answer = inside(
        'sh',
        '-c',
        `cd ${APP}; if [ -e trial.mjs ]; then bin/node trial.mjs 2>&1; fi`,
      );
      return !answer.includes(' and ');
    };
    let mended = '';
    if (isGuarded) {
      // As at a boot, before the service.
      writeFileSync(here(`${KEPT}/boot`), 'another');
      mended = inside(`${KEPT}/guard`, 'mend');
      must(isWhole(), 'what the service starts with is of one version');
    } else inside(`${APP}/guard`, 'tidy');
    const said = `${mended}${isGuarded ? watch() : ''}`;
    must(
      inside('dpkg', '--audit') === '' &&
        inside('sh', '-c', 'apt-get check 2>&1; :').search(/^E:/m) < 0,
      `${isGuarded ? '' : 'not guarded: '}dpkg and apt have nothing left over`,
    );
    const end = /ROLLED BACK/.test(said) ? 'rolled back' : said === '' ? 'not begun' : 'finished';
    ends[end]++;
    must(!isThere(`${KEPT}/pending`), `killed in ${before} → 0.3.${round}: ${end}`);
    await holds('after it');
  }
  say(`${kills} kills: ${JSON.stringify(ends)}`);
}

/** A systemd that starts the unit as it says, in a root where none runs. */
const SYSTEMCTL = `#!/bin/sh
unit=/lib/systemd/system/headwater-gateway.service
if [ "$1" = --no-block ]; then shift; fi
case $1 in
  restart)
    # By the package itself as well, before there is a token.
    if [ -e /tmp/gateway.pid ]; then
      old=$(cat /tmp/gateway.pid)
      kill "$old" 2>/dev/null || true
      while kill -0 "$old" 2>/dev/null; do sleep 0.1; done
    fi
    chown headwater-gateway:headwater-gateway /var/lib/headwater-gateway/join.token 2>/dev/null
    command=$(sed -n 's/^ExecStart=//p' $unit)
    cd /var/lib/headwater-gateway && setpriv --reuid headwater-gateway --regid headwater-gateway --clear-groups \
      $command --mqtt 127.0.0.1:0 --gateway-http 127.0.0.1:0 >/tmp/gateway.out 2>&1 & echo $! >/tmp/gateway.pid ;;
  start)
    # The guard of an upgrade; dpkg itself still runs.
    (
      until [ "$(dpkg-query -W -f '\${db:Status-Status}' headwater-gateway)" = installed ]; do sleep 0.5; done
      GUARD_HEALTH=true exec /usr/lib/headwater-gateway.previous/guard watch
    ) >/tmp/guard.out 2>&1 & ;;
  is-active) kill -0 "$(cat /tmp/gateway.pid)" ;;
  enable | disable) exec /bin/systemctl "$@" ;;
  *) exit 0 ;;
esac
`;

/** From a machine that runs to an enrolled gateway, by the command of docs/flash.md. */
async function overSsh(deb) {
  const collector = spawn(
    process.execPath,
    [
      'cli/bin.mjs',
      'collector',
      ...['--data', join(work, 'collector'), '--lake', 'none', '--http', '127.0.0.1:0'],
      ...['--uplinks', '127.0.0.1:0', '--enroll', '127.0.0.1:0'],
    ],
    { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const sshd = { port: await freePort(), child: undefined };
  try {
    const http = await new Promise((resolve, reject) => {
      let text = '';
      collector.once('close', () => reject(new Error(`the collector did not start: ${text}`)));
      collector.stdout.on('data', (part) => {
        text += part;
        const found = / http=(\S+)/.exec(text)?.[1];
        if (found !== undefined) resolve(found);
      });
    });
    const cli = (...args) =>
      run(process.execPath, ['cli/bin.mjs', ...args], {
        cwd: root,
        stdio: ['ignore', 'pipe', 'pipe'],
      });
    cli('enroll', 'roof-1', '--http', http, '--out', join(work, 'tokens'));
    run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(work, 'key')]);
    mkdirSync(here(SSH), { recursive: true, mode: 0o700 });
    cpSync(join(work, 'key.pub'), here(join(SSH, 'authorized_keys')));
    mkdirSync(here('/run/sshd'), { recursive: true });
    mkdirSync(here('/run/systemd/system'), { recursive: true });
    mkdirSync(here('/usr/local/bin'), { recursive: true });
    writeFileSync(here('/usr/local/bin/systemctl'), SYSTEMCTL, { mode: 0o755 });
    const options = ['Port=' + sshd.port, 'ListenAddress=127.0.0.1', 'UsePAM=no', 'PidFile=none'];
    sshd.child = spawn(
      'chroot',
      [tree, '/usr/sbin/sshd', '-D', '-e', ...options.flatMap((each) => ['-o', each])],
      { stdio: 'ignore' },
    );
    const config = join(work, 'ssh_config');
    writeFileSync(
      config,
      `Host machine\n HostName 127.0.0.1\n Port ${sshd.port}\n User root\n IdentityFile ${join(work, 'key')}\n StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n LogLevel ERROR\n`,
    );
    // The ssh of this machine, with a configuration of this trial's own.
    mkdirSync(join(work, 'bin'));
    writeFileSync(join(work, 'bin/ssh'), `#!/bin/sh\nexec /usr/bin/ssh -F ${config} "$@"\n`, {
      mode: 0o755,
    });
    const flash = (...args) =>
      run(
        process.execPath,
        ['cli/bin.mjs', 'flash', '--ssh', 'machine', '--package', deb, ...args],
        {
          cwd: root,
          env: { ...process.env, PATH: `${join(work, 'bin')}:${process.env.PATH}` },
        },
      ).trim();
    const token = join(work, 'tokens/roof-1.token');
    const began = performance.now();
    must(
      flash('--token', token) === 'roof-1: the gateway runs there',
      'over ssh: installed, enrolled, runs',
    );
    say(`${((performance.now() - began) / 1000).toFixed(1)} s from the command to its end`);
    const { gateways } = await (await fetch(`http://${http}/api/v1/gateways`)).json();
    must(
      gateways.some(({ gateway, connected }) => gateway === 'roof-1' && connected),
      'its collector has it',
    );
    must(!isThere(`${DATA}/join.token`), 'the token is wiped there');
    must(flash() === 'machine: the gateway runs there', 'a package later, without a token');
    const again = (() => {
      try {
        return flash('--token', token);
      } catch (error) {
        return error.stderr;
      }
    })();
    must(/is an enrolled gateway already/.test(again), 'it is given no second name');
  } finally {
    for (const pid of ['/tmp/gateway.pid'].filter(isThere))
      try {
        process.kill(Number(readFileSync(here(pid), 'utf8')), 'SIGTERM');
      } catch {
        // It has ended.
      }
    sshd.child?.kill('SIGTERM');
    collector.kill('SIGTERM');
  }
  inside('dpkg', '-P', 'headwater-gateway');
}

const underSystemd = (deb) => booted({ tree, work, deb, say }, values.spoilt, values.kills);

async function main() {
  const deb =
    values.package ??
    run(process.execPath, ['scripts/deb.mjs', '--plain', '--arch', 'amd64', '--out', work], {
      cwd: root,
    }).trim();
  say('making a Debian');
  mkdirSync(tree);
  run('mmdebstrap', [
    '--mode=root',
    '--variant=minbase',
    '--include=passwd,systemd-sysv,dbus,procps,openssh-server',
    'bookworm',
    tree,
    'http://deb.debian.org/debian',
  ]);
  if (values['only-ssh']) return await overSsh(deb);
  if (values['only-booted']) return await underSystemd(deb);
  install(deb);
  must(
    inside('dpkg', '-s', 'headwater-gateway').includes('install ok installed'),
    'it is installed',
  );
  must(
    isThere('/etc/systemd/system/multi-user.target.wants/headwater-gateway.service'),
    'its service is enabled',
  );
  must(
    inside('stat', '-c', '%U %a', DATA).trim() === 'headwater-gateway 700',
    'its data folder is its own',
  );
  const token = 'settings of the owner';
  await holds('a new one');
  writeFileSync(
    here('/etc/headwater/gateway.yaml'),
    `# ${token}\n${readFileSync(here('/etc/headwater/gateway.yaml'), 'utf8')}`,
  );
  writeFileSync(here('/tmp/healthy'), HEALTH, { mode: 0o755 });
  install(later(deb, '0.1.1', work));
  must(installed() === '0.1.1', 'it is upgraded');
  must(
    readFileSync(here('/etc/headwater/gateway.yaml'), 'utf8').includes(token),
    'the settings are those of before',
  );
  must(isThere(`${KEPT}/pending`), 'the version of before is kept until it is decided');
  must(/0.1.1 is healthy; 0.1.0 is kept/.test(watch()), 'the guard finds it healthy');
  await holds('upgraded');
  const spoilt = later(deb, '0.1.2', work, SPOILT.ends);
  install(spoilt);
  const broken = await serving(() => 'started').catch((error) => error.message);
  must(/spoilt/.test(broken), 'a spoilt version does not start');
  rolledBack('spoilt');
  await holds('rolled back');
  const halfway = later(deb, '0.1.3', work, (stage) =>
    writeFileSync(join(stage, 'DEBIAN/postinst'), '#!/bin/sh\nexit 1\n', { mode: 0o755 }),
  );
  try {
    install(halfway);
    throw new Error('a package whose script fails was installed');
  } catch (error) {
    if (error.status !== 1) throw error;
  }
  rolledBack('a package whose script fails');
  await holds('rolled back');
  const empty = later(deb, '0.1.4', work, (stage) => {
    rmSync(join(stage, 'usr/lib/headwater-gateway/guard'));
    rmSync(join(stage, 'lib/systemd/system/headwater-gateway.service'));
  });
  install(empty);
  rolledBack('a package without unit and guard');
  must(isThere('/lib/systemd/system/headwater-gateway.service'), 'its unit is back');
  await holds('rolled back');
  install(later(deb, '0.1.5', work));
  must(/0.1.5 is healthy/.test(watch()), 'a later version is taken as usual');
  await killed(deb, values.kills);
  install(later(deb, '0.4.0', work));
  watch();
  await holds('upgraded at last');
  inside('dpkg', '-r', 'headwater-gateway');
  must(
    !isThere('/usr/lib/headwater-gateway') && isThere(`${DATA}/data/buffer`),
    'removed: the program is gone, the buffer is there',
  );
  must(
    !isThere('/etc/systemd/system/multi-user.target.wants/headwater-gateway.service'),
    'its service is disabled',
  );
  must(!isThere(KEPT), 'no version is kept any more');
  install(deb);
  await holds('installed again');
  inside('dpkg', '-P', 'headwater-gateway');
  must(!isThere(DATA) && !isThere('/etc/headwater') && !isThere(KEPT), 'purged: nothing is left');
  await overSsh(deb);
  rmSync(here('/usr/local/bin/systemctl'));
  await underSystemd(deb);
}

let failed = false;
try {
  await main();
} catch (error) {
  failed = true;
  say(`FAILED: ${error.stderr ?? ''}${error.message}`);
} finally {
  rmSync(work, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);

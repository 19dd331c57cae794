// The machine of `npm run flash:try -- --uml`: what is on the card, on a kernel that is a process (User-Mode Linux), in a network of its
// own. Without KVM it is many times faster than emulation, and loses as much when it is killed. Needs user-mode-linux and iproute2.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { start } from './flash-machine.mjs';
import { ROOT_AT } from './flash-stock.mjs';

const [HOST, GUEST] = ['10.0.2.2', '10.0.2.15'];
const IN_IT = 'HEADWATER_FLASH_NETWORK';
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
const run = (command, ...args) =>
  execFileSync(command, args, { encoding: 'utf8', env, stdio: ['ignore', 'pipe', 'pipe'] });

/**
 * This process again, in a network that nobody else has; returns there. What is fetched is fetched before, by `prepare`, which
 * gets a folder for it and gives arguments for the process in there.
 */
export function ownNetwork(prepare) {
  if (process.env[IN_IT] === undefined) {
    const folder = mkdtempSync(join(tmpdir(), 'headwater-uml-'));
    let status = null;
    try {
      const args = [...process.argv.slice(1), ...prepare(folder)];
      ({ status } = spawnSync('unshare', ['--net', process.execPath, ...args], {
        stdio: 'inherit',
        env: { ...env, [IN_IT]: '1' },
      }));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    process.exit(status ?? 1);
  }
  run('ip', 'link', 'set', 'lo', 'up');
  run('ip', 'tuntap', 'add', 'tap0', 'mode', 'tap');
  run('ip', 'addr', 'add', `${HOST}/24`, 'dev', 'tap0');
  run('ip', 'link', 'set', 'tap0', 'up');
}

/** As QEMU's network has them: a process of its own, since this one waits for ssh at times. */
const FORWARD = `
import { connect, createServer } from 'node:net';
for (const [at, port, to, toPort] of JSON.parse(process.argv[1]))
  createServer((socket) => {
    const other = connect(toPort, to);
    for (const [one, two] of [[socket, other], [other, socket]]) {
      one.pipe(two);
      one.on('error', () => two.destroy());
      one.on('close', () => two.destroy());
    }
  }).listen(port, at);
`;
let forwards;

/** It has no DHCP there, and no watchdog. */
function prepare(card) {
  const at = `${card}?offset=${ROOT_AT}`;
  const there = spawnSync('debugfs', ['-R', 'stat /etc/systemd/network/05-trial.network', at], {
    env,
    encoding: 'utf8',
  });
  if (!there.stderr.includes('not found')) return;
  const folder = mkdtempSync(join(tmpdir(), 'headwater-uml-'));
  const file = (name, text) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const network = file(
    'network',
    `[Match]\nName=eth0\n[Network]\nAddress=${GUEST}/24\nGateway=${HOST}\n`,
  );
  const watchdog = file('watchdog', '[Manager]\nRuntimeWatchdogSec=0\n');
  const commands = file(
    'commands',
    `cd /etc/systemd/network\nwrite ${network} 05-trial.network\ncd /etc/systemd/system.conf.d\nwrite ${watchdog} 99-trial.conf\n`,
  );
  // What a plug has left in its journal goes in first.
  spawnSync('e2fsck', ['-fy', at], { env, stdio: 'ignore' });
  run('debugfs', '-w', '-f', commands, at);
}

export function bootUml(card, ports, log) {
  prepare(card);
  const pairs = [
    ['127.0.0.1', ports.mqtt, GUEST, 1883],
    ['127.0.0.1', ports.ssh, GUEST, 22],
    [HOST, ports.uplinks, '127.0.0.1', ports.uplinks],
    [HOST, ports.enroll, '127.0.0.1', ports.enroll],
  ];
  forwards ??= start(
    process.execPath,
    ['--input-type=module', '-e', FORWARD, JSON.stringify(pairs)],
    '/dev/null',
  );
  return start(
    'linux.uml',
    [
      ...['mem=512M', `ubda=${card}`, 'root=/dev/ubda1', 'rw', 'eth0=tuntap,tap0'],
      ...['con=null', 'con0=null,fd:1', 'console=tty0'],
    ],
    log,
    { detached: true },
  );
}

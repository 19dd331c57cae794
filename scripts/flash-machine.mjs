// The machine of `npm run flash:try`: QEMU with a card, what is published to it, and what is asked of it over ssh.
import { execFileSync, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'mqtt';
import { root } from './here.mjs';

export async function until(what, probe, ms) {
  const endMs = performance.now() + ms;
  let problem = '';
  for (;;) {
    const found = await Promise.resolve()
      .then(probe)
      .catch((error) => {
        problem = String(error.stderr ?? '').trim() || error.message;
      });
    if (found) return found;
    if (performance.now() > endMs)
      throw new Error(`not within ${ms / 1000} s: ${what}${problem === '' ? '' : ` (${problem})`}`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

const running = new Map();
/** One with a group of its own: all that it has started as well. */
const strike = (child, isGroup, signal) => {
  try {
    process.kill(isGroup ? -child.pid : child.pid, signal);
  } catch {
    // It has ended already.
  }
};
/** For the end of a trial, however it ends. */
export function endAll() {
  for (const [child, isGroup] of running) strike(child, isGroup, 'SIGKILL');
}

export function start(command, args, log, { detached = false } = {}) {
  const child = spawn(command, args, { cwd: root, detached, stdio: ['ignore', 'pipe', 'pipe'] });
  running.set(child, detached);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (part) => (text += part));
  const gone = new Promise((resolve) => child.once('close', resolve));
  return {
    text: () => text,
    end: async (signal) => {
      strike(child, detached, signal);
      await gone;
      running.delete(child);
      writeFileSync(log, text);
    },
  };
}

/** QEMU starts the kernel itself: its firmware takes minutes without KVM. */
export const boot = ({ kernel, initrd }, card, ports, log, more = []) =>
  start(
    'qemu-system-x86_64',
    [
      ...['-machine', 'q35', '-cpu', 'max', '-accel', 'tcg,thread=multi', '-smp', '2', '-m', '512'],
      ...['-nographic', '-no-reboot', '-kernel', kernel, '-initrd', initrd],
      '-append',
      'root=/dev/vda1 rw console=ttyS0 systemd.default_device_timeout_sec=300',
      ...['-drive', `file=${card},format=raw,if=virtio`],
      '-netdev',
      `user,id=n,hostfwd=tcp:127.0.0.1:${ports.mqtt}-:1883,hostfwd=tcp:127.0.0.1:${ports.ssh}-:22`,
      ...['-device', 'virtio-net-pci,netdev=n', '-device', 'virtio-rng-pci'],
      ...more,
    ],
    log,
  );

/** What ssh wants to reach it; also for `headwater flash --ssh`, which starts the ssh that is first on the path. */
export function sshTo(work, port) {
  const config = join(work, 'ssh_config');
  const options = [
    ...[
      'HostName 127.0.0.1',
      `Port ${port}`,
      'User headwater',
      `IdentityFile ${join(work, 'key')}`,
    ],
    ...['StrictHostKeyChecking no', 'UserKnownHostsFile /dev/null', 'LogLevel ERROR'],
    ...['BatchMode yes', 'ConnectTimeout 60'],
  ];
  writeFileSync(config, `Host machine\n ${options.join('\n ')}\n`);
  return {
    args: ['-F', config, 'machine'],
    /** As root there; not waited for. */
    begin: (script) => {
      const child = spawn('ssh', ['-F', config, 'machine', 'sudo', '-n', 'sh', '-s'], {
        stdio: ['pipe', 'ignore', 'ignore'],
      });
      child.stdin.end(script);
      running.set(child, false);
      child.once('close', () => running.delete(child));
    },
    /** As root there. */
    run: (script, timeout = 120_000) =>
      execFileSync('ssh', ['-F', config, 'machine', 'sudo', '-n', 'sh', '-s'], {
        input: script,
        encoding: 'utf8',
        timeout,
        stdio: ['pipe', 'pipe', 'pipe'],
      }),
  };
}

/** QEMU takes connections for a machine that is not there yet, and closes them: the client is then silent for ever. */
export async function device(port) {
  const client = connect(`mqtt://127.0.0.1:${port}`, {
    username: 'sensor',
    password: 'a-long-secret',
    reconnectPeriod: 0,
    clientId: 'trial',
  });
  client.on('error', () => undefined);
  try {
    await new Promise((resolve, reject) => {
      client.once('connect', resolve);
      client.once('close', () => reject(new Error('closed')));
      setTimeout(() => reject(new Error('silent')), 10_000);
    });
    return client;
  } catch (error) {
    client.end(true);
    throw error;
  }
}

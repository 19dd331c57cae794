// The package under a systemd that runs, in a container of its own (systemd-nspawn): versions that are not to stay, and a container that
// ends in the middle of upgrades. It has no kernel of its own, so it costs little and loses no caches: `flash:try --uml` does.
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { connectAsync } from 'mqtt';
import { until } from './flash-machine.mjs';
import { freePort } from './here.mjs';
import { SPOILT, later, marked } from './later.mjs';

const UNIT = 'headwater-gateway.service';
const GUARD = 'headwater-gateway-guard.service';
const KEPT = '/usr/lib/headwater-gateway.previous';

export class Booted {
  constructor({ tree, work, deb, say }) {
    Object.assign(this, { tree, work, deb, say, next: 0, version: 0 });
    this.acknowledged = 0;
  }

  chroot(...args) {
    return execFileSync('chroot', [this.tree, ...args], { encoding: 'utf8', stdio: 'pipe' });
  }

  /** In its namespaces, by its own commands. */
  inside(script) {
    return execFileSync(
      'nsenter',
      ['-t', String(this.init), '-m', '-p', '-u', '-i', '--', '/bin/sh', '-c', script],
      { encoding: 'utf8', stdio: 'pipe', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } },
    ).trim();
  }

  async prepare() {
    this.mqtt = await freePort();
    this.http = await freePort();
    this.put(this.deb);
    this.chroot('dpkg', '-i', `/var/tmp/${basename(this.deb)}`);
    writeFileSync(
      join(this.tree, 'etc/headwater/gateway.yaml'),
      `data: /var/lib/headwater-gateway/data\nid: trial\nmqtt.listen: 127.0.0.1:${this.mqtt}\nhttp.listen: 127.0.0.1:${this.http}\n`,
    );
  }

  put(deb) {
    cpSync(deb, join(this.tree, 'var/tmp', basename(deb)));
  }

  async boot() {
    this.text = '';
    this.machine = spawn(
      'systemd-nspawn',
      [
        ...['--quiet', '--directory', this.tree, '--register=no', '--keep-unit', '--boot'],
        ...['--machine', `headwater-${process.pid}`, '--console=pipe'],
      ],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        // Where the host's systemd is none, there is no one hierarchy for all.
        env: { ...process.env, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: '0' },
      },
    );
    for (const stream of [this.machine.stdout, this.machine.stderr])
      stream.on('data', (part) => (this.text = (this.text + part).slice(-5000)));
    this.gone = new Promise((resolve) => this.machine.once('close', resolve));
    this.init = await until(
      'its first process',
      () =>
        execFileSync('pgrep', ['-P', String(this.machine.pid)], { encoding: 'utf8' })
          .trim()
          .split('\n')[0],
      60_000,
    );
    await this.serves();
  }

  async serves() {
    await until(
      'the gateway',
      async () => (await fetch(`http://127.0.0.1:${this.http}/healthz`)).ok,
      180_000,
    ).catch((error) => {
      throw new Error(`${error.message}: ${this.text}`);
    });
  }

  /** All of it at once, as by the plug. */
  async end() {
    execFileSync('kill', ['-KILL', String(this.init)]);
    await this.gone;
  }

  async publish(count) {
    const client = await connectAsync(`mqtt://127.0.0.1:${this.mqtt}`, { reconnectPeriod: 0 });
    for (let n = 0; n < count; n++) {
      await client.publishAsync('a/b', JSON.stringify({ n: this.next++ }), { qos: 1 });
      this.acknowledged++;
    }
    await client.endAsync();
  }

  /** Everything that was acknowledged is there, and nothing twice. */
  async holds(what) {
    await this.serves();
    const waiting = await until(
      'what waits',
      async () => {
        const { waitingMessages } = await (
          await fetch(`http://127.0.0.1:${this.http}/api/v1/buffer`)
        ).json();
        return typeof waitingMessages === 'number' ? { waitingMessages } : undefined;
      },
      60_000,
    );
    if (waiting.waitingMessages !== this.acknowledged)
      throw new Error(`${what}: ${waiting.waitingMessages} of ${this.acknowledged} are there`);
    await this.publish(5);
  }

  made(spoil) {
    const version = `0.7.${++this.version}`;
    const file = later(this.deb, version, this.work, spoil);
    this.put(file);
    rmSync(file);
    return { version, path: `/var/tmp/${basename(file)}` };
  }

  /** The guard's word on a version. */
  async word(version) {
    return await until(
      `the guard's word on ${version}`,
      () =>
        this.inside(`journalctl -b -o cat -u ${GUARD} --no-pager || true`)
          .split('\n')
          .find((line) => /ROLLED BACK|is healthy/.test(line) && line.includes(version)),
      900_000,
    );
  }

  async upgraded(how, spoil, wanted) {
    const { version, path } = this.made(spoil);
    const beginMs = performance.now();
    this.inside(`dpkg -i ${path} >/dev/null 2>&1 || true`);
    const said = await this.word(version);
    const seconds = ((performance.now() - beginMs) / 1000).toFixed(0);
    if (!wanted.test(said)) throw new Error(`${how}: ${said}`);
    await this.holds(how);
    this.say(`${how}: decided after ${seconds} s, all ${this.acknowledged - 5} there: ${said}`);
  }

  /** The whole container ends at a random moment of an upgrade, while messages come in. */
  async cut() {
    const { version, path } = this.made(marked(`0.7.${this.version + 1}`));
    await this.holds('before');
    this.inside(`systemd-run --quiet dpkg -i ${path}`);
    const endMs = performance.now() + Math.random() * 8000;
    while (performance.now() < endMs) {
      await this.publish(1).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await this.end();
    await this.boot();
    const state = await until(
      'what dpkg and the guard make of it',
      () => {
        if (this.inside(`test -e ${KEPT}/pending && echo pending || true`) !== '') return undefined;
        return this.inside(
          `dpkg --audit; dpkg-query -W -f '\${Version} \${db:Status-Status}' headwater-gateway`,
        );
      },
      900_000,
    );
    const program = this.inside(
      'cd /usr/lib/headwater-gateway; if [ -e trial.mjs ]; then bin/node trial.mjs 2>&1; fi',
    );
    if (!state.endsWith(' installed') || state.includes('\n') || / and /.test(program))
      throw new Error(`cut in ${version}: ${state} ${program}`);
    await this.holds(`cut in ${version}`);
    return state.startsWith(version) ? 'of the new version' : 'of the one before';
  }
}

/** `spoilt`: names of SPOILT. */
export async function booted(options, spoilt, cuts) {
  const machine = new Booted(options);
  await machine.prepare();
  await machine.boot();
  try {
    await machine.publish(20);
    await machine.upgraded('a later version', () => undefined, /is healthy/);
    for (const how of spoilt) await machine.upgraded(`one that ${how}`, SPOILT[how], /ROLLED BACK/);
    await machine.upgraded('a later one that is good', () => undefined, /is healthy/);
    const ends = {};
    for (let round = 0; round < cuts; round++) {
      const end = await machine.cut();
      ends[end] = (ends[end] ?? 0) + 1;
    }
    const service = machine.inside(`systemctl is-active ${UNIT}`);
    options.say(
      `${cuts} times ended in upgrades: dpkg speaks ${JSON.stringify(ends)}; ${machine.acknowledged} acknowledged, all there; the service is ${service}`,
    );
  } finally {
    await machine.end().catch(() => undefined);
  }
}

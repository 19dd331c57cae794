/**
 * `npm run flash:try [-- --stages first,plug,upgrade,…] [--work DIR] [--plugs N] [--spoilt ends,…] [--size MB] [--package FILE]
 * [--uml] [--keep]`: from a stock image to a reading on the collector, with nobody at the keyboard, and what may happen to such a machine. A Debian image is made of
 * packages (mmdebstrap, once a machine), given to `headwater flash` with a join token, and booted in QEMU. Stages, each of which
 * begins with a boot after the plug was pulled, and with a look whether all that was acknowledged has arrived, once:
 *
 *   first     (with its plug pulled --cuts times, 0) boots in 1970, enrols itself, a reading arrives; the machine is asked whether it is as it should be
 *   plug      the plug is pulled while readings come in that nobody fetches, --plugs times (1)
 *   upgrade   a later version by `headwater flash --ssh`: the guard finds it healthy
 *   rollback  versions that end at once, never get ready, end or hang after a while, or do not know the folder: the guard puts the one of before back
 *   hang      the process is stopped: systemd starts it again
 *   kill      the plug is pulled in the middle of upgrades, --plugs times
 *   wear      what is written to the card at 1, 10 and 100 messages a second, and the memory taken
 *
 * A part of them with `--work DIR`: the next call goes on there; with `--uml` on a kernel that is a process, which boots many times
 * faster than one that is emulated (all but the looks of `first` and `plug` at the board's watchdog). Needs root, qemu-system-x86, mmdebstrap, fdisk, e2fsprogs and ssh.
 */
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { assertCard, assertMachine } from './flash-asserts.mjs';
import { boot, device, endAll, sshTo, start, until } from './flash-machine.mjs';
import { stock } from './flash-stock.mjs';
import { freePort, root } from './here.mjs';
import { bootUml, ownNetwork } from './flash-uml.mjs';
import { SPOILT, later, marked } from './later.mjs';
import { flagsOf } from './flags.mjs';

const NAMES = ['first', 'plug', 'upgrade', 'rollback', 'hang', 'kill', 'wear'];
const { values } = flagsOf(import.meta.url, {
  options: {
    package: { type: 'string' },
    stages: { type: 'string', list: true, choices: NAMES, default: NAMES },
    work: { type: 'string' },
    cuts: { type: 'integer', default: 0 },
    plugs: { type: 'integer', default: 1 },
    spoilt: {
      type: 'string',
      list: true,
      choices: Object.keys(SPOILT),
      default: Object.keys(SPOILT),
    },
    size: { type: 'integer', default: 3000 },
    uml: { type: 'boolean' },
    keep: { type: 'boolean' },
  },
});
const say = (text) => process.stderr.write(`flash: ${text}\n`);
const run = (command, args, options = {}) =>
  execFileSync(command, args, {
    encoding: 'utf8',
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    ...options,
  });
const packed = (folder) =>
  run(process.execPath, ['scripts/deb.mjs', '--arch', 'amd64', '--out', folder]).trim();
if (values.uml)
  ownNetwork((folder) => {
    stock(folder, say);
    const isMade = values.package !== undefined || !values.stages.includes('first');
    return isMade ? [] : ['--package', packed(folder)];
  });
const work = values.work ?? mkdtempSync(join(tmpdir(), 'headwater-flash-try-'));
mkdirSync(work, { recursive: true });
const at = (name) => join(work, name);
const seconds = (sinceMs) => `${((performance.now() - sinceMs) / 1000).toFixed(0)} s`;
const headwater = (...args) => run(process.execPath, ['cli/bin.mjs', ...args]);
/** Emulated, on a machine that does other things as well. */
const BOOT_MS = 1_200_000;
const { plugs, stages } = values;

/** What is known from one stage to the next. */
let state;
const keep = () => writeFileSync(at('state.json'), JSON.stringify(state));

let files;
const stocked = () => (files ??= stock(work, say));
let central;
let machine;
let boots = 0;

async function collector() {
  const { ports } = state;
  const here = (name) => `127.0.0.1:${ports[name]}`;
  const flags = {
    data: at('collector'),
    lake: 'none',
    uplink: '127.0.0.1:0',
    http: here('http'),
    uplinks: here('uplinks'),
    enroll: here('enroll'),
    'enroll-names': '10.0.2.2',
  };
  const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
  const log = at(`collector-${Date.now()}.log`);
  central = start(process.execPath, ['cli/bin.mjs', 'collector', ...args], log);
  await until('the collector', () => central.text().includes('ready '), 60_000);
}

async function flashed() {
  execFileSync(process.execPath, ['scripts/build.mjs'], { cwd: root, stdio: 'ignore' });
  const deb = values.package ?? packed(work);
  state = { deb, ports: {}, acknowledged: [], next: 0, version: 0 };
  for (const name of ['http', 'uplinks', 'enroll', 'mqtt', 'ssh'])
    state.ports[name] = await freePort();
  await collector();
  const http = `127.0.0.1:${state.ports.http}`;
  headwater('enroll', 'trial-1', '--site', 'bench', '--http', http, '--out', at('tokens'));
  writeFileSync(
    at('gateway.yaml'),
    'data: /var/lib/headwater-gateway/data\nenroll.tokenFile: /var/lib/headwater-gateway/join.token\nmqtt.listen: 0.0.0.0:1883\nmqtt.passwordFile: /etc/headwater/passwords\nallowPlaintext: true\n',
  );
  const password = run(process.execPath, ['cli/bin.mjs', 'password', 'sensor'], {
    input: 'a-long-secret',
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  writeFileSync(at('passwords'), password, { mode: 0o600 });
  rmSync(at('key'), { force: true });
  run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at('key')]);
  const beginMs = performance.now();
  const options = {
    package: deb,
    token: at('tokens/trial-1.token'),
    settings: at('gateway.yaml'),
    passwords: at('passwords'),
    'ssh-key': at('key.pub'),
    to: at('card.img'),
    size: values.size,
  };
  headwater(
    'flash',
    stocked().image,
    ...Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]),
  );
  const size = (statSync(deb).size / 1e6).toFixed(1);
  say(`flashed in ${seconds(beginMs)}; the package has ${size} MB`);
}

/** Publishes as many as there are in a second, awaited; those that were acknowledged are noted. */
async function publish(client, perSecond, isDone) {
  let lost = false;
  const closed = new Promise((resolve) => client.once('close', resolve));
  void closed.then(() => (lost = true));
  const acknowledged = [];
  while (!lost && !isDone()) {
    const numbers = Array.from({ length: perSecond }, () => state.next++);
    const oneSecond = new Promise((resolve) => setTimeout(resolve, 1000));
    await Promise.race([
      Promise.all(
        numbers.map(async (n) => {
          await client.publishAsync('trial/climate', JSON.stringify({ n }), { qos: 1 });
          acknowledged.push(n);
        }),
      ).catch(() => undefined),
      closed,
    ]);
    await oneSecond;
  }
  state.acknowledged.push(...acknowledged);
  keep();
  return acknowledged.length;
}

async function arrived(ms = 300_000) {
  const url = `http://127.0.0.1:${state.ports.http}/api/v1/query?measurement=climate&field=n`;
  let there = [];
  let missing = state.acknowledged;
  await until(
    'everything that was acknowledged',
    async () => {
      const { series } = await (await fetch(url)).json();
      there = series.flatMap(({ points }) => points.map(([, value]) => value));
      const set = new Set(there);
      missing = state.acknowledged.filter((n) => !set.has(n));
      return missing.length === 0;
    },
    ms,
  ).catch((error) => {
    throw new Error(`${error.message}: ${missing.length} of ${state.acknowledged.length} missing`);
  });
  const twice = there.length - new Set(there).size;
  if (twice > 0) throw new Error(`${twice} readings are there twice`);
}

function powered(more = []) {
  const log = at(`console-${Date.now()}.log`);
  boots++;
  machine = values.uml
    ? bootUml(at('card.img'), state.ports, log)
    : boot(stocked(), at('card.img'), state.ports, log, more);
}

/** Power on: it is back when it acknowledges. */
async function powerOn(more = []) {
  const beginMs = performance.now();
  powered(more);
  const client = await until('an acknowledgement', () => device(state.ports.mqtt), BOOT_MS);
  await publish(client, 1, once());
  say(`first PUBACK ${seconds(beginMs)} after power-on`);
  return client;
}

function once() {
  let isFirst = true;
  return () => {
    const isDone = !isFirst;
    isFirst = false;
    return isDone;
  };
}

async function pullPlug(client) {
  client?.removeAllListeners('close');
  await machine.end('SIGKILL');
  client?.end(true);
}

const ssh = () => sshTo(work, state.ports.ssh);
/** ssh comes up after the gateway. */
const sshUp = () => until('ssh', () => ssh().run('true\n', 90_000) === '', 600_000);

/** Readings that nobody fetches while `during` goes on, whose end is the plug. */
async function unsent(client, during) {
  await central.end('SIGTERM');
  const before = state.acknowledged.length;
  let isDone = false;
  const publishing = publish(client, 20, () => isDone);
  await during();
  isDone = true;
  await pullPlug(client);
  await publishing;
  say(`plug pulled with ${state.acknowledged.length - before} acknowledged and not sent`);
  await collector();
}

async function back() {
  const client = await powerOn();
  await arrived();
  say(`all ${state.acknowledged.length} that were acknowledged arrived, none twice`);
  return client;
}

const GUARD = 'headwater-gateway-guard.service';
/** What the guard has decided since the machine was started. */
async function decided(client, version) {
  let isDone = false;
  const publishing = publish(client, 5, () => isDone);
  const said = await until(
    `the guard's word on ${version}`,
    () => {
      const text = ssh().run(`journalctl -b -o cat -u ${GUARD} || true\n`);
      return text
        .split('\n')
        .find((line) => /ROLLED BACK|is healthy/.test(line) && line.includes(version));
    },
    900_000,
  );
  isDone = true;
  await publishing;
  return said;
}

/** An upgrade needs room for the package, for what it unpacks, and for nothing else of this trial's. */
function checkRoom() {
  const free = Number(
    ssh().run('rm -f ~headwater/next.deb; df --output=avail -B 1000000 / | tail -n 1\n'),
  );
  if (free < 380) throw new Error(`the machine's disk has ${free} MB left: a larger --size`);
}

const nextVersion = () => `0.9.${++state.version}`;
function bring(spoil) {
  checkRoom();
  const version = nextVersion();
  keep();
  const deb = later(state.deb, version, work, spoil);
  const bin = at('bin');
  mkdirSync(bin, { recursive: true });
  writeFileSync(join(bin, 'ssh'), `#!/bin/sh\nexec /usr/bin/ssh -F ${at('ssh_config')} "$@"\n`, {
    mode: 0o755,
  });
  ssh();
  const env = { ...process.env, PATH: `${bin}:${process.env.PATH}` };
  const args = ['cli/bin.mjs', 'flash', '--ssh', 'machine', '--package', deb];
  let answer;
  try {
    answer = run(process.execPath, args, { env }).trim();
  } catch (error) {
    answer = error.stderr.trim();
  }
  rmSync(deb);
  return { version, answer };
}

/** What dpkg says, after which the plug is pulled, and within how long; while it unpacks at any moment of that. */
const MOMENTS = [
  ['Setting up', 4000],
  ['Unpacking', 0],
  ['Preparing', 3000],
  ['Unpacking', 0],
  ['trial-done', 40_000],
  ['Unpacking', 0],
];

const STAGES = {
  first: async () => {
    await flashed();
    for (let cut = 0; cut < values.cuts; cut++) {
      powered();
      const waitMs = (0.1 + Math.random()) * (values.uml ? 60_000 : 240_000);
      await new Promise((resolve) => setTimeout(resolve, waitMs));
      await pullPlug();
      say(`plug pulled ${(waitMs / 1000).toFixed(0)} s after power-on`);
    }
    const beginMs = performance.now();
    const client = await powerOn(['-rtc', 'base=1970-01-01T00:00:10']);
    await arrived();
    say(`enrolled, and the reading is at the collector ${seconds(beginMs)} after power-on`);
    process.stdout.write(headwater('gateways', '--http', `127.0.0.1:${state.ports.http}`));
    await sshUp();
    await until(
      'the end of the first boot',
      () =>
        ssh().run(
          'test ! -e /var/lib/headwater-flash && cloud-init status --wait >/dev/null; echo done\n',
          300_000,
        ),
      600_000,
    );
    assertMachine(ssh(), say, values.uml);
    return client;
  },
  plug: async () => {
    let client = await back();
    for (let pull = 0; pull < plugs; pull++) {
      const waitMs = 5000 + Math.random() * 15_000;
      await unsent(client, () => new Promise((resolve) => setTimeout(resolve, waitMs)));
      client = await back();
    }
    assertCard(at('card.img'), readFileSync(at('tokens/trial-1.token'), 'utf8'));
    await sshUp();
    assertMachine(ssh(), say, values.uml);
    say('the join token cannot be read from the card any more, the key is its own');
    return client;
  },
  upgrade: async () => {
    const client = await back();
    await sshUp();
    const { version, answer } = bring(() => undefined);
    if (!answer.endsWith('the gateway runs there')) throw new Error(`--ssh: ${answer}`);
    say(`--ssh brought ${version}`);
    await reconnected(client, async (next) => say(`guard: ${await decided(next, version)}`));
  },
  rollback: async () => {
    await back();
    await sshUp();
    for (const how of values.spoilt) {
      const { version, answer } = bring(SPOILT[how]);
      say(`${version}, which ${how}: ${answer}`);
      const said = await until(
        `the guard's word on ${version}`,
        () => ssh().run(`journalctl -b -o cat -u ${GUARD} | grep ${version} || true\n`).trim(),
        900_000,
      );
      if (!said.includes('ROLLED BACK')) throw new Error(`not rolled back: ${said}`);
      say(`guard: ${said.split('\n')[0]}`);
      await reconnected(undefined, (client) => publish(client, 5, once()));
      await arrived();
      say(`the one of before runs again, all ${state.acknowledged.length} arrived`);
    }
  },
  hang: async () => {
    await back();
    await sshUp();
    const restarts = () =>
      Number(ssh().run('systemctl show -p NRestarts --value headwater-gateway\n'));
    const before = restarts();
    ssh().run('kill -STOP $(systemctl show -p MainPID --value headwater-gateway)\n');
    const beginMs = performance.now();
    await until('the restart of a process that hangs', () => restarts() > before, 600_000);
    say(`a process that hangs was ended ${seconds(beginMs)} later`);
    await reconnected(undefined, (client) => publish(client, 5, once()));
    await arrived();
  },
  kill: async () => {
    let client = await back();
    const ends = {};
    await sshUp();
    if (state.version > 0) await settled(`0.9.${state.version}`);
    for (let pull = 0; pull < plugs; pull++) {
      await sshUp();
      checkRoom();
      const version = nextVersion();
      keep();
      const deb = later(state.deb, version, work, marked(version));
      execFileSync('ssh', [...ssh().args, 'cat >next.deb'], { input: readFileSync(deb) });
      rmSync(deb);
      // The guard of the one before may have started the gateway again.
      client.end(true);
      client = await until('the gateway again', () => device(state.ports.mqtt), 300_000);
      const [line, spanMs] = MOMENTS[(state.version - 1) % MOMENTS.length];
      await unsent(client, async () => {
        const told = async (what) => {
          const said = () => machine.text().slice(from);
          const isOver = () => said().includes(what) || said().includes('trial-done');
          await until(`dpkg's '${what}'`, isOver, 300_000);
          if (!said().includes(what)) throw new Error(`dpkg did not begin: ${said()}`);
          return performance.now();
        };
        const from = machine.text().length;
        ssh().begin(
          "sync; systemd-run --quiet --unit=trial-upgrade sh -c 'dpkg -i ~headwater/next.deb >/dev/console 2>&1; echo trial-done >/dev/console'\n",
        );
        const begunMs = await told(line === 'Preparing' ? line : 'Unpacking headwater');
        if (line === 'Setting up') state.unpackMs = (await told(`${line} headwater`)) - begunMs;
        if (line === 'trial-done') await told(line);
        const waitMs = Math.random() * (line === 'Unpacking' ? (state.unpackMs ?? 10_000) : spanMs);
        await new Promise((resolve) => setTimeout(resolve, waitMs));
        say(`${version}: ${(waitMs / 1000).toFixed(1)} s after '${line}'`);
      });
      client = await back();
      await sshUp();
      const end = await settled(version);
      ends[`${line}: ${end}`] = (ends[`${line}: ${end}`] ?? 0) + 1;
    }
    say(`${plugs} plugs pulled in upgrades: ${JSON.stringify(ends)}`);
    return client;
  },
  wear: async () => {
    await back();
    await sshUp();
    for (const rate of [0, 1, 10, 100]) await wear(rate);
  },
};

/** The guard has decided, dpkg has nothing left over, and what runs is one of the two versions. */
async function settled(version) {
  const ask = `
guard=$([ -e /usr/lib/headwater-gateway.previous/pending ] && echo pending)
echo "guard=$guard"
echo "installed=$(dpkg-query -W -f '\${Version} \${db:Status-Status}' headwater-gateway)"
echo "audit=$(dpkg --audit | tr '\\n' ' ')"
echo "back=$(journalctl -b -o cat -u ${GUARD} | grep -c 'ROLLED BACK')"
echo "apt=$(apt-get check 2>&1 | grep '^E:' | tr '\\n' ' ')"
cd /usr/lib/headwater-gateway
echo "started=$(journalctl -b -o cat -u headwater-gateway | grep '^trial: ' | sort -u | tr '\\n' ';')"
if [ -e trial.mjs ]; then bin/node trial.mjs 2>&1 | sed 's/^/now=/'; fi
`;
  let last = '';
  const answer = await until(
    'the guard after the plug',
    () => {
      last = ssh().run(ask);
      return last.includes('guard=\n') ? last : undefined;
    },
    900_000,
  ).catch((error) => {
    throw new Error(`${error.message}: ${last}`);
  });
  const isBack = !answer.includes('back=0');
  if (!/audit=\s*\n[\s\S]*apt=\s*\n/.test(answer))
    throw new Error(`dpkg has something left: ${answer}`);
  if (/ and /.test(answer)) throw new Error(`a program of two versions: ${answer}`);
  const end = isBack
    ? 'rolled back'
    : answer.includes(`installed=${version} installed`)
      ? 'finished'
      : 'not begun';
  say(`${version}: ${end}`);
  return end;
}

/** The gateway was started again meanwhile. */
async function reconnected(client, use) {
  client?.end(true);
  const next = await until('the gateway again', () => device(state.ports.mqtt), 300_000);
  try {
    return await use(next);
  } finally {
    next.removeAllListeners('close');
    next.end(true);
  }
}

const WEAR_S = 60;
async function wear(rate) {
  const ask =
    "sync; awk '{print $7 * 512}' /sys/block/vda/stat; awk '/^VmRSS/ {print $2}' /proc/$(systemctl show -p MainPID --value headwater-gateway)/status\n";
  await reconnected(undefined, async (client) => {
    const [before] = ssh().run(ask).split('\n').map(Number);
    const endMs = performance.now() + WEAR_S * 1000;
    const beginMs = performance.now();
    if (rate === 0) await new Promise((resolve) => setTimeout(resolve, WEAR_S * 1000));
    const count = rate === 0 ? 0 : await publish(client, rate, () => performance.now() > endMs);
    const [after, kib] = ssh().run(ask).split('\n').map(Number);
    const took = (performance.now() - beginMs) / 1000;
    const aDay = ((after - before) / took) * 86_400;
    say(
      `${rate} messages a second (${(count / took).toFixed(1)} came): ${(aDay / 1e6).toFixed(0)} MB a day are written to the card by the whole system, the gateway takes ${Math.round(kib / 1024)} MB`,
    );
  });
}

async function main() {
  if (!stages.includes('first')) {
    if (!existsSync(at('state.json')))
      throw new Error(`${work} has no machine: begin with --stages first --work ${work}`);
    state = JSON.parse(readFileSync(at('state.json'), 'utf8'));
    await collector();
  }
  for (const stage of stages) {
    say(`— ${stage}`);
    const client = await STAGES[stage]();
    keep();
    await pullPlug(client);
  }
  await central.end('SIGTERM');
  say(
    `${boots} boots; all ${state.acknowledged.length} that were acknowledged arrived, none twice`,
  );
}

// Machines have groups of their own: who ends this trial ends them as well.
for (const signal of ['SIGINT', 'SIGTERM'])
  process.once(signal, () => {
    endAll();
    process.exit(1);
  });
let failed = false;
try {
  await main();
} catch (error) {
  failed = true;
  say(`FAILED: ${error.stderr ?? ''}${error.message}`);
  if (machine !== undefined) {
    await machine.end('SIGKILL');
    process.stderr.write(`${machine.text().slice(-3000)}\n`);
  }
} finally {
  endAll();
  if (values.keep || failed || values.work !== undefined) say(`what was made is in ${work}`);
  else rmSync(work, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);

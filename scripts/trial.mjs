// What trials of whole servers share: a version built from git, servers of it, readings that are acknowledged and asked for again.
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { connectAsync } from 'mqtt';
import { root } from './here.mjs';

/** This version, built. */
export function builtHere() {
  const stdio = ['ignore', 'ignore', 'inherit'];
  execFileSync(process.execPath, ['scripts/build.mjs'], { cwd: root, stdio });
  return root;
}

/** An earlier one, in a folder `before` of `work`, with the packages that are installed here. */
export function builtFrom(commit, work) {
  const folder = join(work, 'before');
  mkdirSync(folder);
  const archive = execFileSync('git', ['archive', commit], {
    cwd: root,
    maxBuffer: 512 * 1024 * 1024,
  });
  execFileSync('tar', ['-x', '-C', folder], { input: archive });
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  const stdio = ['ignore', 'ignore', 'inherit'];
  execFileSync(process.execPath, ['scripts/build.mjs'], { cwd: folder, stdio });
  return folder;
}

const running = new Set();

/** A server of a version, once it is ready: its addresses, what it says, and its end. Rejects with what it said and its `code`. */
export async function start(version, args, environment = {}) {
  const child = spawn(process.execPath, ['cli/bin.mjs', ...args], {
    cwd: version,
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  let text = '';
  const gone = new Promise((resolve) => child.once('close', (code) => resolve(code)));
  const end = async (signal = 'SIGTERM') => {
    child.kill(signal);
    await gone;
    running.delete(child);
  };
  const address = await new Promise((resolve, reject) => {
    const look = (chunk) => {
      text += chunk;
      const line = /^ready (.*)$/m.exec(text)?.[1];
      if (line !== undefined)
        resolve(Object.fromEntries(line.split(' ').map((each) => each.split('='))));
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
    void gone.then((code) => reject(Object.assign(new Error(text), { code })));
    setTimeout(() => reject(new Error(`not ready within 60 s: ${text}`)), 60_000).unref();
  });
  return { ...address, end, text: () => text };
}

/** For the end of a trial, however it ends. */
export function endAll() {
  for (const child of running) child.kill('SIGKILL');
}

export async function until(what, probe, ms = 60_000) {
  const endMs = performance.now() + ms;
  for (;;) {
    if (await probe()) return;
    if (performance.now() > endMs) throw new Error(`not within ${ms / 1000} s: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

let next = 0;
/** Resolves with their numbers, once all are acknowledged. */
export async function publish(mqtt, count) {
  const client = await connectAsync(`mqtt://${mqtt}`, { reconnectPeriod: 0 });
  const numbers = Array.from({ length: count }, () => next++);
  await Promise.all(
    numbers.map((n) => client.publishAsync('trial/climate', JSON.stringify({ n }), { qos: 1 })),
  );
  await client.endAsync();
  return numbers;
}

/** Every one of these numbers is at the collector, and nothing is there twice. */
export async function arrived(http, wanted, what, say) {
  let missing = wanted;
  await until(
    () => `${what}: ${missing.length} of ${wanted.length} are missing`,
    async () => {
      const answer = await fetch(`http://${http}/api/v1/query?measurement=climate&field=n`);
      const { series } = await answer.json();
      const there = series.flatMap(({ points }) => points.map(([, value]) => value));
      const set = new Set(there);
      if (there.length > set.size)
        throw new Error(`${what}: ${there.length - set.size} are there twice`);
      missing = wanted.filter((n) => !set.has(n));
      return missing.length === 0;
    },
  );
  say(`${what}: ${wanted.length} of ${wanted.length}, none twice`);
}

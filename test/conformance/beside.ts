/**
 * `npm run mqtt:beside [-- PART-OF-A-NAME]`: the situations of situations.ts against Mosquitto 2.1.2 and this gateway, what each saw line by line.
 * What differs has its reason in differences.ts (docs/conformance.md shows it); one without a reason, and a reason for what no
 * longer differs, fail. Not part of `npm test`: most of its two minutes it waits.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../support/free-port.ts';
import { start, startGateway, temporaryFolder, until, type Child } from '../support/process.ts';
import { accepts, bringPeers } from '../services/servers.ts';
import { DIFFERENCES } from './differences.ts';
import { RESTARTS, SITUATIONS, Scene, type Asked } from './situations.ts';
import { flagsOf } from '../../scripts/flags.mjs';

const { words } = flagsOf(import.meta.url, { words: { max: 1 } });
const [only = ''] = words;

interface Running extends Asked {
  stop(): Promise<void>;
}

async function mosquitto(): Promise<Running> {
  bringPeers();
  const folder = temporaryFolder();
  mkdirSync(join(folder, 'data'));
  const port = await freePort();
  const file = join(folder, 'mosquitto.conf');
  const asRoot = process.getuid?.() === 0 ? 'user root\n' : '';
  writeFileSync(
    file,
    `${asRoot}listener ${port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location ${join(folder, 'data')}/\n`,
  );
  let child: Child;
  const begin = async (): Promise<void> => {
    child = start('mosquitto', ['-c', file]);
    await until('Mosquitto', () => accepts(port));
  };
  await begin();
  return {
    port: () => port,
    // In order: it writes what it keeps when it stops.
    restart: async () => {
      await child.kill('SIGTERM');
      await begin();
    },
    stop: async () => void (await child.kill('SIGTERM')),
  };
}

async function ours(): Promise<Running> {
  const data = temporaryFolder();
  const begin = () => startGateway(undefined, ['--data', data]);
  let gateway = await begin();
  return {
    port: () => gateway.port('mqtt'),
    restart: async () => {
      await gateway.kill('SIGKILL');
      gateway = await begin();
    },
    stop: async () => void (await gateway.kill()),
  };
}

/** Situation → what was seen. */
async function seenBy(broker: Running): Promise<Map<string, string[]>> {
  const seen = new Map<string, string[]>();
  const scenes = new Map<string, Scene>();
  const sceneOf = (name: string): Scene => {
    const scene = scenes.get(name) ?? new Scene(broker, `s${scenes.size}`);
    scenes.set(name, scene);
    return scene;
  };
  const play = async (name: string, act: (scene: Scene) => Promise<void>): Promise<void> => {
    const scene = sceneOf(name);
    await act(scene).catch((error: unknown) => void scene.saw.push(`failed: ${String(error)}`));
    seen.set(name, scene.saw);
  };
  const names = Object.entries(SITUATIONS).filter(([name]) => name.includes(only));
  for (let at = 0; at < names.length; at += 6)
    await Promise.all(names.slice(at, at + 6).map(([name, act]) => play(name, act)));
  const restarts = Object.entries(RESTARTS).filter(([name]) => name.includes(only));
  await Promise.all(restarts.map(([name, [before]]) => play(name, before)));
  await new Promise((resolve) => setTimeout(resolve, 1500));
  await broker.restart();
  await Promise.all(restarts.map(([name, [, after]]) => play(name, after)));
  return seen;
}

const brokers = [await ours(), await mosquitto()];
const [own, other] = await Promise.all(brokers.map(seenBy));
for (const broker of brokers) await broker.stop();
let same = 0;
const failures: string[] = [];
for (const [name, mine] of own ?? []) {
  const theirs = other?.get(name) ?? [];
  const differs = mine.join('\n') !== theirs.join('\n');
  const why = DIFFERENCES[name];
  if (!differs) same++;
  if (!differs && why !== undefined) failures.push(`${name}: no longer differs`);
  if (!differs) continue;
  process.stdout.write(`\n${name}\n`);
  for (const [at, line] of mine.entries())
    process.stdout.write(
      line === theirs[at]
        ? `    ${line}\n`
        : `  ours      ${line}\n  Mosquitto ${theirs[at] ?? ''}\n`,
    );
  for (const line of theirs.slice(mine.length)) process.stdout.write(`  Mosquitto ${line}\n`);
  process.stdout.write(`  ${why ?? 'NO REASON'}\n`);
  if (why === undefined) failures.push(`${name}: differs without a reason`);
}
process.stdout.write(
  `\n${own?.size} situations, ${same} the same, ${(own?.size ?? 0) - same} different, ${failures.length} without a reason or with one too many\n`,
);
for (const failure of failures) process.stdout.write(`${failure}\n`);
process.exitCode = failures.length === 0 ? 0 : 1;

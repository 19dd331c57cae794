/** `npm start` on a fresh clone: how long until a chart moves, and until one's own reading is at the front of the page. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { openBrowser, openTab } from '../support/browser.ts';
import { freePort } from '../support/free-port.ts';
import { ROOT, crowding, temporaryFolder, until } from '../support/process.ts';
import type { Told } from './roles.ts';

const CHROMIUM = '/usr/bin/chromium';
/** From `npm start` to a moving chart. */
const MOVING_SECONDS = 10;
const TICKS = 100;

/** Processor seconds of a process group and of its children that have ended. */
function cpuOf(group: number): number {
  let ticks = 0;
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const [, fields = ''] = readFileSync(`/proc/${name}/stat`, 'utf8').split(/\) (?=\S )/);
      const values = fields.split(' ').map(Number);
      // state ppid pgrp … utime stime cutime cstime
      if (values[2] === group)
        ticks += [11, 12, 13, 14].reduce((sum, at) => sum + (values[at] ?? 0), 0);
    } catch {
      // It has ended meanwhile.
    }
  }
  return ticks / TICKS;
}

interface Started {
  child: ChildProcess;
  output: () => string;
}

function npmStart(flags: string[]): Started {
  const child = spawn('npm', ['start', '--', ...flags], { cwd: ROOT, detached: true });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  return { child, output: () => output };
}

async function stop({ child }: Started): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  process.kill(-child.pid, 'SIGINT');
  await ended;
}

export async function anyone(): Promise<Told> {
  const told: Told = { steps: [], failure: undefined, left: [] };
  let began = performance.now();
  const step = (what: string): number => {
    const seconds = (performance.now() - began) / 1000;
    told.steps.push({ what, seconds });
    began = performance.now();
    return seconds;
  };
  // Only where it listens is changed: other work on this machine may have the usual ports.
  const [mqtt, http, own] = [await freePort(), await freePort(), await freePort()];
  const started = npmStart([
    ...['--data', temporaryFolder(), '--mqtt', `127.0.0.1:${mqtt}`, '--http', `127.0.0.1:${http}`],
    ...['--gateway-http', `127.0.0.1:${own}`, '--uplink', '127.0.0.1:0'],
  ]);
  try {
    const url = await until(
      'the address of the page',
      () => /Page {3}(\S+)/.exec(started.output())?.[1],
    );
    const named = step('npm start names the page');
    if (!existsSync(CHROMIUM)) {
      told.left.push(`the page: ${CHROMIUM} is not there`);
      return told;
    }
    const browser = await openBrowser();
    try {
      const { page, errors } = await openTab(browser, url);
      await page.waitForSelector('#chart canvas');
      const points = (): Promise<string | null> => page.textContent('#note');
      await until('points', async () => /\d points/.test((await points()) ?? '') || undefined);
      const first = await points();
      await until('another point', async () => (await points()) !== first || undefined);
      const moving = named + step('a chart moves on it');
      const cpu = cpuOf(started.child.pid ?? 0);
      told.steps.push({
        what: `from npm start to there: ${moving.toFixed(1)} s, with ${cpu.toFixed(1)} s of CPU (build, collector, gateway)`,
        seconds: 0,
      });
      if (moving > MOVING_SECONDS * crowding())
        told.failure = `${moving.toFixed(1)} s from npm start to a moving chart, goal ${MOVING_SECONDS}`;
      const line = /Try {4}(.*)/.exec(started.output())?.[1] ?? '';
      began = performance.now();
      const { status, stdout, stderr } = spawnSync('bash', ['-c', line], {
        cwd: ROOT,
        encoding: 'utf8',
      });
      if (status !== 0) told.failure = `${line}\nended with ${status}: ${stdout}${stderr}`;
      await until('its row at the front', async () =>
        (await page.locator('.row').first().textContent())?.includes('home/kitchen/climate'),
      );
      step('the line that it prints: published, and at the front of the page');
      if (errors.length > 0) told.failure = `the page says: ${errors.join('; ')}`;
    } finally {
      await browser.close();
    }
  } catch (error) {
    told.failure = `${String(error)}\n${started.output()}`;
  } finally {
    await stop(started);
  }
  return told;
}

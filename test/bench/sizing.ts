/**
 * `npm run sizing`: what memory, disk and processor a board or a server needs, measured where it is run; the rows of the table
 * "How large" in docs/run.md. Runs from a checkout after `npm ci`, also on the board itself, about three minutes, and needs nothing else.
 *
 * Memory and bytes are of the software; rates and seconds are of the machine and of what else it does.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { climate, encodePublish, runLoad } from '../support/load.ts';
import { ready, run, start, startDevice, temporaryFolder, until } from '../support/process.ts';
import { connected } from '../support/raw-mqtt.ts';
import { getJson, settled, type StageLag } from '../support/reconcile.ts';
import { costOf, machine, quantile } from './measure.ts';
import { flagsOf } from '../../scripts/flags.mjs';

const LONE = 1000;
const SENSOR_MESSAGES = 5;

const row = (...cells: string[]): void => void process.stdout.write(`| ${cells.join(' | ')} |\n`);
const megabytes = (bytes: number): string => `${Math.round(bytes / 1e6)} MB`;
const count = (value: number): string => Math.round(value).toLocaleString('en');

/** Resident, shared libraries and all. */
function residentBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
}

const diskBytes = (folder: string): number =>
  Number(execFileSync('du', ['-sk', folder], { encoding: 'utf8' }).split('\t')[0]) * 1024;

async function lone(port: number): Promise<number[]> {
  const client = await connected(port, 'lone');
  const times: number[] = [];
  for (let each = 1; each <= LONE; each++) {
    const before = performance.now();
    client.send(encodePublish('site/lone/climate', climate(each), 1, each));
    await new Promise<void>((resolve) => client.socket.once('data', () => resolve()));
    times.push(performance.now() - before);
  }
  client.socket.destroy();
  return times.sort((a, b) => a - b);
}

async function gateway(messages: number): Promise<void> {
  const data = temporaryFolder();
  const device = await startDevice(['--data', data]);
  const idle = residentBytes(device.pid);
  const times = await lone(device.port('mqtt'));
  const loneBytes = diskBytes(data) / LONE;
  row(
    'gateway, a lone message',
    `acknowledged after ${quantile(times, 0.5).toFixed(1)} ms (p99 ${quantile(times, 0.99).toFixed(1)} ms), ${count(loneBytes)} bytes on disk`,
    `${LONE} one after another`,
  );
  const before = costOf(device.pid);
  const disk = diskBytes(data);
  const { acknowledged, seconds } = await runLoad({
    ...{ host: '127.0.0.1', port: device.port('mqtt'), connections: 10, messages, window: 1000 },
    payload: climate,
    topic: (connection) => `site/device${connection}/climate`,
  });
  const cost = costOf(device.pid).cpuSeconds - before.cpuSeconds;
  row(
    'gateway, full load',
    `${count(acknowledged / seconds)} messages a second, ${((cost / acknowledged) * 100_000).toFixed(2)} s of processor for 100,000, ${count((diskBytes(data) - disk) / acknowledged)} bytes on disk a message`,
    `${count(messages)} messages of 57 bytes over 10 connections`,
  );
  row(
    'gateway, memory',
    `${megabytes(idle)} idle, ${megabytes(residentBytes(device.pid))} after that`,
    'resident',
  );
  await device.kill('SIGKILL');
}

async function hasLake(http: string): Promise<boolean> {
  const { stages } = await getJson<{ stages: StageLag[] }>(`http://${http}/api/v1/status`);
  return stages.every(({ lagRecords }) => lagRecords === 0);
}

async function whole(series: number): Promise<void> {
  const data = temporaryFolder();
  const at = '127.0.0.1:0';
  const server = await ready(
    start(
      process.execPath,
      [
        ...['cli/bin.mjs', 'up', '--no-sample', '--data', data, '--mqtt', at, '--http', at],
        ...['--gateway-http', at, '--uplink', at],
      ],
      { HEADWATER_LAKE_FLUSH_SECONDS: '5' },
    ),
    'up',
  );
  const { pid } = server;
  const idle = residentBytes(pid);
  const cpu = costOf(pid).cpuSeconds;
  const sent = await run([
    ...['simulate', '--kinds', 'climate', '--sensors', String(series / 2), '--every', '1m'],
    ...['--start', 'now-5m', '--for', `${SENSOR_MESSAGES}m`, '--clients', '10'],
    ...['--mqtt', server.address['mqtt'] ?? ''],
  ]);
  const messages = Number(/^(\d+) messages acknowledged/.exec(sent.stdout)?.[1]);
  if (sent.code !== 0 || !(messages > 0)) throw new Error(sent.output);
  const http = server.address['http'] ?? '';
  await settled(server.address['gateway-http'] ?? '', http, 300_000);
  await until('the lake', () => hasLake(http), 120_000);
  const used = (costOf(pid).cpuSeconds - cpu) / messages;
  row(
    `gateway and collector in one process, ${count(series)} series`,
    `${megabytes(idle)} idle, ${megabytes(residentBytes(pid))} after ${count(messages)} messages, ${(used * 100_000).toFixed(1)} s of processor for 100,000`,
    `resident; \`headwater simulate --kinds climate --sensors ${series / 2} --every 1m --start now-5m --for 5m\``,
  );
  const bytes = (name: string): string =>
    count(diskBytes(join(data, 'collector', name)) / messages);
  row(
    'the same, disk a message of two numbers and a time',
    `${bytes('log')} bytes of log, ${bytes('store')} of store, ${bytes('lake')} of lake`,
    '`du` when nothing lagged',
  );
  await server.kill('SIGTERM');
}

const { values } = flagsOf(import.meta.url, {
  options: {
    only: { type: 'string', choices: ['gateway', 'whole'], about: 'alone, or with its collector' },
    series: {
      type: 'integer',
      list: true,
      min: 2,
      default: [200, 2000, 20_000],
      about: 'of the whole',
    },
    messages: { type: 'integer', min: 2, default: 300_000, about: "of the gateway's load" },
  },
});
const { only, series, messages } = values;
const { cpu, cores, node, kernel, memoryBytes } = machine();
process.stdout.write(
  `${cpu}, ${cores} cores, ${megabytes(Number(memoryBytes))}, ${kernel}, Node ${node}\n\n`,
);
row('what', 'figure', 'how');
row('---', '---', '---');
if (only !== 'whole') await gateway(messages);
if (only !== 'gateway') for (const each of series) await whole(each);
process.exit(0);

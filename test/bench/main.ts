/**
 * `npm run bench`: what Headwater takes and costs, beside the tools that people use, in the same run, by the same
 * pre-encoded load; without a flag everything, about ten minutes. Prints JSON, writes it and SVG plots to bench-results/. `--smoke` only shows that everything runs.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  bring,
  bringPeers,
  startInflux2,
  startMosquitto,
  startTelegraf,
  type Influx,
} from '../services/servers.ts';
import { climate as payload, runLoad, encodePublish, type LoadResult } from '../support/load.ts';
import {
  startCollector,
  ready,
  ROOT,
  start,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';
import { connected } from '../support/raw-mqtt.ts';
import { benchConnect } from './connect.ts';
import { benchGateways } from './gateways.ts';
import { benchVersions } from './versions.ts';
import { costOf, machine, median, quantile } from './measure.ts';
import { barChart } from './plot.ts';
import { benchProcessing } from './processing.ts';
import { benchQueries } from './queries.ts';
import { flagsOf } from '../../scripts/flags.mjs';

const only = (about: string) => ({ type: 'boolean', about }) as const;
const { values: flags } = flagsOf(import.meta.url, {
  options: {
    'only-end-to-end': only('from device to InfluxDB 2, beside Mosquitto with Telegraf'),
    'only-connect': only('with passwords, access rules and TLS; codecs'),
    'only-mqtt5': only('MQTT 5 beside our 3.1.1 and Mosquitto 2.1 on both; fan-out; idle clients'),
    'only-processing': only('decode, stream and lake stages'),
    'only-queries': only('10 million readings asked and exported, beside InfluxDB 1.8'),
    gateways: { type: 'integer', min: 1, about: 'simulated, on Kafka, and nothing else' },
    smoke: { type: 'boolean', about: 'small sizes, which show that everything runs; no figures' },
    install: { type: 'boolean', about: 'with --smoke: install the servers first, as without it' },
  },
});
const { smoke } = flags;
const ROUNDS = smoke ? 1 : 5;
const MESSAGES = smoke ? 20_000 : 400_000;
const BACKLOG = smoke ? 40_000 : 2_000_000;
const END_TO_END = smoke ? 10_000 : 200_000;
const CONNECTIONS = 10;
const out = join(ROOT, 'bench-results');
const say = (text: string): void => void process.stderr.write(`${text}\n`);

const load = (
  port: number,
  messages: number,
  measurement: string,
  window = 1000,
): Promise<LoadResult> =>
  runLoad({
    host: '127.0.0.1',
    port,
    connections: CONNECTIONS,
    messages,
    window,
    payload,
    topic: (connection) => `site/device${connection}/${measurement}`,
  });

const rate = ({ acknowledged, seconds }: LoadResult): number => Math.round(acknowledged / seconds);

async function lone(port: number, count: number): Promise<{ p50Ms: number; p99Ms: number }> {
  const client = await connected(port, 'lone');
  const times: number[] = [];
  for (let i = 1; i <= count; i++) {
    const before = performance.now();
    client.send(encodePublish('site/lone/climate', payload(i), 1, i));
    await new Promise<void>((resolve) => client.socket.once('data', () => resolve()));
    times.push(performance.now() - before);
  }
  client.socket.destroy();
  times.sort((a, b) => a - b);
  return { p50Ms: quantile(times, 0.5), p99Ms: quantile(times, 0.99) };
}

/** As it runs on a device: with the flags that `gateway/bin.mjs` names for itself. */
const FLAGS = (readFileSync(join(ROOT, 'gateway/bin.mjs'), 'utf8').split('\n')[0] ?? '')
  .split(' ')
  .filter((word) => word.startsWith('--'));
const gateway = (folder: string, ...more: string[]): Promise<Headwater> =>
  ready(
    start(process.execPath, [
      ...FLAGS,
      'gateway/bin.mjs',
      '--data',
      folder,
      '--mqtt',
      '127.0.0.1:0',
      '--http',
      '127.0.0.1:0',
      '--id',
      'bench',
      ...more,
    ]),
    'gateway',
  );

async function ingress() {
  say('1/4 QoS 1 acknowledged after fsync, beside Mosquitto without persistence');
  const [ours, mosquitto] = [await gateway(temporaryFolder()), await startMosquitto()];
  const mine: number[] = [];
  const theirs: number[] = [];
  const latencies: { p50Ms: number; p99Ms: number }[] = [];
  await load(ours.port('mqtt'), MESSAGES / 10, 'warm');
  await load(mosquitto.port, MESSAGES / 10, 'warm');
  const before = costOf(ours.pid);
  for (let round = 0; round < ROUNDS; round++) {
    const result = await load(ours.port('mqtt'), MESSAGES, `r${round}`);
    if (result.acknowledged !== MESSAGES)
      throw new Error(`only ${result.acknowledged} of ${MESSAGES} acknowledged`);
    mine.push(rate(result));
    latencies.push({
      p50Ms: quantile(result.latenciesMs, 0.5),
      p99Ms: quantile(result.latenciesMs, 0.99),
    });
    theirs.push(rate(await load(mosquitto.port, MESSAGES, `r${round}`)));
    say(`    round ${round + 1}: ${mine.at(-1)} / ${theirs.at(-1)} messages a second`);
  }
  const after = costOf(ours.pid);
  const moderate = await load(ours.port('mqtt'), MESSAGES / 4, 'moderate', 64);
  const alone = await lone(ours.port('mqtt'), smoke ? 50 : 500);
  const aloneTheirs = await lone(mosquitto.port, smoke ? 50 : 500);
  await ours.kill();
  await mosquitto.stop();
  const ratios = mine.map((value, index) => value / (theirs[index] ?? Number.NaN));
  return {
    headwaterPerSecond: median(mine),
    mosquittoPerSecond: median(theirs),
    ratioMedian: median(ratios),
    ratioLeast: Math.min(...ratios),
    pubackMs: {
      p50: median(latencies.map(({ p50Ms }) => p50Ms)),
      p99: median(latencies.map(({ p99Ms }) => p99Ms)),
      unacknowledged: CONNECTIONS * 1000,
    },
    pubackMsWindow64: {
      p50: quantile(moderate.latenciesMs, 0.5),
      p99: quantile(moderate.latenciesMs, 0.99),
      perSecond: rate(moderate),
    },
    loneMs: alone,
    loneMsMosquitto: aloneTheirs,
    cpuSecondsPer100k: ((after.cpuSeconds - before.cpuSeconds) / (ROUNDS * MESSAGES)) * 100_000,
    diskBytesPerMessage: (after.writtenBytes - before.writtenBytes) / (ROUNDS * MESSAGES),
    payloadBytes: payload(1).length,
  };
}

async function backlog() {
  say(`2/4 a backlog of ${BACKLOG} messages`);
  const folder = temporaryFolder();
  const ours = await gateway(folder);
  const steps: {
    backlog: number;
    anonymousBytes: number;
    perSecond: number;
    cpuSecondsPer100k: number;
  }[] = [];
  for (let quarter = 1; quarter <= 4; quarter++) {
    const before = costOf(ours.pid);
    const result = await load(ours.port('mqtt'), BACKLOG / 4, `q${quarter}`);
    const { anonymousBytes, cpuSeconds } = costOf(ours.pid);
    steps.push({
      backlog: (BACKLOG / 4) * quarter,
      anonymousBytes,
      perSecond: rate(result),
      cpuSecondsPer100k: ((cpuSeconds - before.cpuSeconds) / result.acknowledged) * 100_000,
    });
    say(
      `    ${steps.at(-1)?.backlog} waiting: ${Math.round(anonymousBytes / 1e6)} MB, ${rate(result)} messages a second`,
    );
  }
  await ours.kill('SIGKILL');
  const began = performance.now();
  const again = await gateway(folder);
  const client = await connected(again.port('mqtt'), 'first');
  client.send(encodePublish('site/first', 'x', 1, 1));
  await client.bytes(8);
  const firstPubackMs = performance.now() - began;
  client.socket.destroy();
  const counted = await until('the count of the backlog', async () => {
    const { waitingMessages } = (await (
      await fetch(`http://${again.address['http']}/api/v1/buffer`)
    ).json()) as { waitingMessages?: number };
    return waitingMessages;
  });
  const restarted = costOf(again.pid);
  await again.kill();
  return {
    steps,
    firstPubackMs,
    countedAfterRestart: counted,
    anonymousBytesAfterRestart: restarted.anonymousBytes,
  };
}

async function countIn(influx: Influx, measurement: string): Promise<number> {
  const response = await fetch(`http://${influx.address}/query`, {
    method: 'POST',
    headers: {
      authorization: `Token ${influx.token}`,
      'content-type': 'application/x-www-form-urlencoded',
    },
    body: new URLSearchParams({
      db: 'bucket',
      q: `SELECT count(temperature) FROM "${measurement}"`,
    }).toString(),
  });
  const { results } = (await response.json()) as {
    results: { series?: { values: [string, number][] }[] }[];
  };
  return results[0]?.series?.[0]?.values[0]?.[1] ?? 0;
}

async function arrive(influx: Influx, measurement: string, messages: number): Promise<void> {
  let last = -1;
  let still = 0;
  await until(
    `${messages} points of ${measurement}`,
    async () => {
      const count = await countIn(influx, measurement);
      still = count === last ? still + 1 : 0;
      last = count;
      return count >= messages || still > 250 ? true : undefined;
    },
    180_000,
  );
}

/** Bytes on loopback between two processes cannot be told apart by interface: what the gateway says it sent is used. */
async function sentBytes(address: string | undefined): Promise<number> {
  const text = await (await fetch(`http://${address}/metrics`)).text();
  return Number(/^headwater_uplink_sent_bytes_total (\d+)$/m.exec(text)?.[1]);
}

async function endToEnd() {
  say(`3/4 ${END_TO_END} messages from device to InfluxDB 2, beside Mosquitto with Telegraf`);
  const mine: {
    perSecond: number;
    edgeCpu: number;
    centreCpu: number;
    wireBytes: number;
    stored: number;
  }[] = [];
  const theirs: { perSecond: number; edgeCpu: number; stored: number }[] = [];
  for (let round = 0; round < (smoke ? 1 : 3); round++) {
    const influx = await startInflux2();
    const collector = await startCollector(['--store', influx.store], {
      HEADWATER_INFLUXDB_TOKEN: influx.token,
    });
    const edge = await gateway(
      temporaryFolder(),
      '--collector',
      `mqtt://${collector.address['uplink']}`,
    );
    await load(edge.port('mqtt'), 2000, 'warm');
    await arrive(influx, 'warm', 2000);
    const [edgeBefore, centreBefore, wireBefore] = [
      costOf(edge.pid),
      costOf(collector.pid),
      await sentBytes(edge.address['http']),
    ];
    const began = performance.now();
    await load(edge.port('mqtt'), END_TO_END, 'headwater');
    await arrive(influx, 'headwater', END_TO_END);
    const seconds = (performance.now() - began) / 1000;
    const stored = await countIn(influx, 'headwater');
    mine.push({
      perSecond: Math.round(stored / seconds),
      edgeCpu: ((costOf(edge.pid).cpuSeconds - edgeBefore.cpuSeconds) / END_TO_END) * 100_000,
      centreCpu:
        ((costOf(collector.pid).cpuSeconds - centreBefore.cpuSeconds) / END_TO_END) * 100_000,
      wireBytes: ((await sentBytes(edge.address['http'])) - wireBefore) / END_TO_END,
      stored,
    });
    await edge.kill();
    await collector.kill();
    const mosquitto = await startMosquitto();
    const agent = startTelegraf(mosquitto.address, influx, 'site/+/+');
    await until('telegraf to subscribe', async () => {
      await load(mosquitto.port, 10, 'warm');
      return (await countIn(influx, 'telegraf')) > 0 || undefined;
    });
    const agentBefore = costOf(agent.pid);
    const had = await countIn(influx, 'telegraf');
    const theirBegan = performance.now();
    await load(mosquitto.port, END_TO_END, 'telegraf');
    await arrive(influx, 'telegraf', had + END_TO_END);
    const theirSeconds = (performance.now() - theirBegan) / 1000;
    const theirStored = (await countIn(influx, 'telegraf')) - had;
    theirs.push({
      perSecond: Math.round(theirStored / theirSeconds),
      edgeCpu: ((costOf(agent.pid).cpuSeconds - agentBefore.cpuSeconds) / END_TO_END) * 100_000,
      stored: theirStored,
    });
    await agent.kill('SIGKILL');
    await mosquitto.stop();
    await influx.stop();
    say(
      `    round ${round + 1}: ${mine.at(-1)?.perSecond} / ${theirs.at(-1)?.perSecond} messages a second`,
    );
  }
  const pick = (key: 'perSecond' | 'edgeCpu' | 'centreCpu' | 'wireBytes'): number =>
    median(mine.map((each) => each[key]));
  return {
    messages: END_TO_END,
    headwater: {
      perSecond: pick('perSecond'),
      edgeCpuSecondsPer100k: pick('edgeCpu'),
      collectorCpuSecondsPer100k: pick('centreCpu'),
      wireBytesPerMessage: pick('wireBytes'),
      storedLeast: Math.min(...mine.map(({ stored }) => stored)),
    },
    mosquittoTelegraf: {
      perSecond: median(theirs.map(({ perSecond }) => perSecond)),
      telegrafCpuSecondsPer100k: median(theirs.map(({ edgeCpu }) => edgeCpu)),
      storedLeast: Math.min(...theirs.map(({ stored }) => stored)),
    },
    ratio: pick('perSecond') / median(theirs.map(({ perSecond }) => perSecond)),
  };
}

if (!smoke || flags.install) bringPeers('influxdb2', 'telegraf', 'kafka', 'rdkafka');
if (flags['only-end-to-end']) {
  process.stdout.write(`${JSON.stringify(await endToEnd(), null, 2)}\n`);
  process.exit(0);
}
const connectFigures = (): ReturnType<typeof benchConnect> => {
  say('4/4 with passwords, access rules and TLS, beside Mosquitto with the same; codecs');
  return benchConnect(gateway, payload, MESSAGES, smoke ? 1 : 5, smoke);
};
if (flags['only-connect']) {
  const figures = await connectFigures();
  mkdirSync(out, { recursive: true });
  writeFileSync(
    join(out, 'connect.json'),
    `${JSON.stringify({ machine: machine(), ...figures }, null, 2)}\n`,
  );
  process.stdout.write(`${JSON.stringify(figures, null, 2)}\n`);
  process.exit(0);
}
if (flags['only-processing']) {
  const figures = { machine: machine(), ...(await benchProcessing(smoke, say)) };
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, 'processing.json'), `${JSON.stringify(figures, null, 2)}\n`);
  process.stdout.write(`${JSON.stringify(figures, null, 2)}\n`);
  process.exit(0);
}
if (flags['only-queries']) {
  bring('influxdb1');
  const figures = { machine: machine(), ...(await benchQueries(smoke, say)) };
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, 'queries.json'), `${JSON.stringify(figures, null, 2)}\n`);
  process.stdout.write(`${JSON.stringify(figures, null, 2)}\n`);
  process.exit(0);
}
if (flags.gateways !== undefined) {
  const most = flags.gateways;
  if (!Number.isInteger(most) || most < 1) {
    process.stderr.write('bench: --gateways is a number from 1\n');
    process.exit(2);
  }
  bring('kafka', 'rdkafka');
  const fleet = await benchGateways(most, smoke);
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, 'gateways.json'), `${JSON.stringify(fleet, null, 2)}\n`);
  process.stdout.write(`${JSON.stringify(fleet, null, 2)}\n`);
  process.exit(0);
}

if (flags['only-mqtt5']) {
  bring('mosquitto2');
  const versions = { machine: machine(), smoke, ...(await benchVersions(gateway, payload, smoke)) };
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, 'mqtt5.json'), `${JSON.stringify(versions, null, 2)}\n`);
  process.stdout.write(`${JSON.stringify(versions, null, 2)}\n`);
  process.exit(0);
}

const result = {
  machine: machine(),
  smoke,
  ingress: await ingress(),
  backlog: await backlog(),
  endToEnd: await endToEnd(),
  connect: await connectFigures(),
  processing: await benchProcessing(smoke, say),
};
mkdirSync(out, { recursive: true });
writeFileSync(join(out, 'bench.json'), `${JSON.stringify(result, null, 2)}\n`);
const per = (value: number): string => `${Math.round(value).toLocaleString('en')}/s`;
writeFileSync(
  join(out, 'ingress.svg'),
  barChart('QoS 1 messages acknowledged a second', [
    {
      label: 'Headwater, after fsync',
      value: result.ingress.headwaterPerSecond,
      text: per(result.ingress.headwaterPerSecond),
      ours: true,
    },
    {
      label: 'Mosquitto, no persistence',
      value: result.ingress.mosquittoPerSecond,
      text: per(result.ingress.mosquittoPerSecond),
      ours: false,
    },
  ]),
);
writeFileSync(
  join(out, 'end-to-end.svg'),
  barChart('Messages a second from device to InfluxDB', [
    {
      label: 'Headwater',
      value: result.endToEnd.headwater.perSecond,
      text: per(result.endToEnd.headwater.perSecond),
      ours: true,
    },
    {
      label: 'Mosquitto + Telegraf',
      value: result.endToEnd.mosquittoTelegraf.perSecond,
      text: per(result.endToEnd.mosquittoTelegraf.perSecond),
      ours: false,
    },
  ]),
);
writeFileSync(
  join(out, 'backlog-memory.svg'),
  barChart(
    'Anonymous memory of the gateway over its backlog',
    result.backlog.steps.map(({ backlog, anonymousBytes }) => ({
      label: `${backlog.toLocaleString('en')} waiting`,
      value: anonymousBytes,
      text: `${Math.round(anonymousBytes / 1e6)} MB`,
      ours: true,
    })),
  ),
);
process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
process.exit(0);

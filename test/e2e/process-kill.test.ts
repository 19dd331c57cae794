/**
 * kill -9 of the processing roles at seeded moments: windows, lake and batch results equal those of one undisturbed run.
 * Embedded, the whole collector is killed; on Kafka the roles stream, lake and batch, each in a process of its own.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectAsync } from 'mqtt';
import { describe, expect, it } from 'vitest';
import { sharedKafka, type SharedKafka } from '../services/shared.ts';
import { freePort } from '../support/free-port.ts';
import { apart, collectorSettings, pointsOf, processed } from '../support/lake.ts';
import {
  ROOT,
  run,
  startCollector,
  startGateway,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';
import { forwarded, getJson, settled } from '../support/reconcile.ts';
import { FULL, seeded } from '../support/seed.ts';

const RULES = `rules:
  - { name: hourly, from: { measurement: room }, window: 1h, compute: [count, sum, mean, min, max, p95, stddev] }
  - { name: sliding, from: { measurement: room, field: co2 }, window: { size: 30m, every: 10m } }
  - { name: felt, from: { measurement: room }, derive: { felt: "temperature - (100 - humidity) / 5" } }
  - { name: stuffy, from: { measurement: room, field: co2 }, alert: { above: 1000, clear: 800, for: 5m } }
`;
const MEASUREMENTS = ['room', 'hourly', 'sliding', 'felt', 'alerts', 'daily_summary'];
const SLICES = FULL ? 20 : 3;
/** More than two days of it, so that a day is over, and with HEADWATER_FULL=1 the week. */
const READINGS = FULL ? Number.POSITIVE_INFINITY : 3000;
/** Every so manieth of them. */
const EACH = FULL ? 1 : 3;

/** An office, one reading a minute, or in three. */
const payloads = readFileSync(join(ROOT, 'data/uci-occupancy-datatraining.csv'), 'utf8')
  .trim()
  .split('\n')
  .slice(1, READINGS + 1)
  .filter((_line, at) => at % EACH === 0)
  .map((line) => {
    const [, time = '', temperature, humidity, light, co2] = line.replaceAll('"', '').split(',');
    return JSON.stringify({
      time: `${time.replace(' ', 'T')}Z`,
      temperature: Number(temperature),
      humidity: Number(humidity),
      light: Number(light),
      co2: Number(co2),
    });
  });

/** A point of `daily_summary`, as text. */
const isOfBatch = (point: string): boolean => point.includes('["source","room"]');

/** What came of it all. */
interface Outcome {
  points: string[];
  rows: number;
  killed: number;
}

interface Role {
  /** Extra flags; none for all roles in one. */
  flags: string[];
  data: string;
  http: string;
  child: Headwater;
}

const { seed, next } = seeded();

async function launch(
  flags: string[],
  data: string,
  http: string,
  settings: string,
): Promise<Headwater> {
  return await startCollector(['--data', data, '--http', http, '--config', settings, ...flags]);
}

/** With expected results, which come while it runs, it is killed again and again. */
async function trial(
  expected: Promise<Outcome> | undefined,
  kafka: SharedKafka | undefined,
): Promise<Outcome> {
  const isKilled = expected !== undefined;
  const rules = join(temporaryFolder(), 'rules.yaml');
  writeFileSync(rules, RULES);
  const lake = temporaryFolder();
  const settings = collectorSettings({
    'lake.flushSeconds': 1,
    // The readings are of 2015.
    'decode.deviceTimePastDays': 7300,
    'stream.rules': rules,
    ...(kafka === undefined ? {} : { 'kafka.topicPrefix': kafka.topicPrefix }),
  });
  const uplink = `127.0.0.1:${await freePort()}`;
  const common = ['--lake', lake, ...(kafka === undefined ? [] : ['--log', kafka.log])];
  const parts =
    kafka === undefined
      ? [['--uplink', uplink]]
      : [
          ['--roles', 'ingest,decode,store,query', '--uplink', uplink],
          ['--roles', 'stream'],
          ['--roles', 'lake'],
          ['--roles', 'batch'],
        ];
  const roles: Role[] = [];
  for (const part of parts) {
    const flags = [...common, ...part];
    const data = temporaryFolder();
    const http = `127.0.0.1:${await freePort()}`;
    roles.push({ flags, data, http, child: await launch(flags, data, http, settings) });
  }
  const victims = kafka === undefined ? roles : roles.slice(1);
  let killed = 0;
  const strike = async (): Promise<void> => {
    if (!isKilled) return;
    await new Promise((resolve) => setTimeout(resolve, next() * 1500));
    const victim = victims[Math.floor(next() * victims.length)] as Role;
    await victim.child.kill('SIGKILL');
    killed++;
    victim.child = await launch(victim.flags, victim.data, victim.http, settings);
  };
  // It is back soon after a collector is: what took ten seconds would be late, and no matter of the kills.
  const gateway = await startGateway(uplink, ['--id', 'gw'], {
    HEADWATER_UPLINK_RECONNECT_MS_MAX: '500',
  });
  const client = await connectAsync(`mqtt://${gateway.address['mqtt']}`);
  const size = Math.ceil(payloads.length / SLICES);
  for (let from = 0; from < payloads.length; from += size) {
    // Else the slice may overtake what waits on the gateway, which rules would rightly take for late.
    await forwarded(gateway.address['http'] ?? '');
    await Promise.all(
      payloads
        .slice(from, from + size)
        .map((payload) => client.publishAsync('office/1/room', payload, { qos: 1 })),
    );
    await strike();
  }
  await client.endAsync();
  const main = roles[0]?.http ?? '';
  const all = roles.map(({ http }) => http);
  await settled(gateway.address['http'] ?? '', main, 120_000);
  await processed(all);
  const batch = roles.at(-1)?.http ?? '';
  const job = ['batch', 'backfill', 'daily_summary', '--http', batch];
  if (isKilled) {
    await run([...job, '--no-wait']);
    await new Promise((resolve) => setTimeout(resolve, next() * 300));
    const victim = roles.at(-1) as Role;
    await victim.child.kill('SIGKILL');
    killed++;
    victim.child = await launch(victim.flags, victim.data, victim.http, settings);
  }
  const rows = async (): Promise<number> => {
    const { zones } = await getJson<{ zones: { zone: string; rows: number }[] }>(
      `http://${main}/api/v1/lake`,
    );
    return zones.find(({ zone }) => zone === 'readings')?.rows ?? 0;
  };
  const look = async (): Promise<Outcome> => {
    const points = (await Promise.all(MEASUREMENTS.map((name) => pointsOf(main, name)))).flat();
    return { points, rows: await rows(), killed };
  };
  // A member of a group that was killed is missed after its session's ten seconds: only then its lag is known.
  await until(
    'the lake to have all rows',
    async () => (await rows()) >= payloads.length || undefined,
    60_000,
  );
  const { code, output } = await run(job);
  expect(code, output).toBe(0);
  await processed(all);
  if (expected !== undefined) {
    const { points } = await expected;
    await until(
      'the results to be there',
      async () => apart((await look()).points, points, isOfBatch) === undefined || undefined,
      60_000,
    ).catch(() => undefined); // What differs is said by the caller.
  }
  const outcome = await look();
  await gateway.kill();
  for (const { child } of roles) await child.kill();
  return outcome;
}

/** What comes of it when nobody is killed, whatever the log: one run for all of them. */
let undisturbed: Promise<Outcome> | undefined;

describe.each([
  ['embedded', undefined],
  ['Kafka, roles apart', sharedKafka],
] as const)('%s', (_name, kafka) => {
  it('killed or not, the results are the same', async () => {
    const running = (undisturbed ??= trial(undefined, undefined));
    const [calm, stormy] = await Promise.all([running, trial(running, await kafka?.())]);
    expect(calm.rows).toBe(payloads.length);
    expect(stormy.rows, `seed ${seed}`).toBe(payloads.length);
    expect(calm.points.length).toBeGreaterThan(payloads.length * 5);
    expect(apart(stormy.points, calm.points, isOfBatch), `seed ${seed}`).toBeUndefined();
    expect(stormy.killed).toBeGreaterThanOrEqual(SLICES);
  }, 600_000);
});

/** Histograms of both sides under real traffic: they grow by what has come, and what they say agrees with itself and Prometheus. */
import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Collector } from '../../collector/collector.ts';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { TOPIC_RAW } from '../../collector/log/log.ts';
import { Latency } from '../../collector/stage/latency.ts';
import { loadConfig } from '../../shared/config/spec.ts';
import { realEnv } from '../../shared/env/env.ts';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { encodePublish } from '../support/load.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { connected } from '../support/raw-mqtt.ts';

const MESSAGES = 40;
const hasPromtool = spawnSync('promtool', ['--version']).status === 0;

interface Read {
  /** Cumulative counts in the order of the page, by their bound. */
  buckets: [le: number, count: number][];
  sum: number;
  count: number;
}

/** Of one histogram; `labels` as they are written, before `le`. */
function histogramIn(text: string, name: string, labels = ''): Read {
  const lines = text.split('\n');
  const value = (suffix: string): number => {
    const start = `${name}${suffix}${labels === '' ? '' : `{${labels}}`} `;
    return Number(lines.find((line) => line.startsWith(start))?.slice(start.length));
  };
  const start = `${name}_bucket{${labels === '' ? '' : `${labels},`}le="`;
  const buckets = lines
    .filter((line) => line.startsWith(start))
    .map((line): [number, number] => {
      const [le = '', count = ''] = line.slice(start.length).split('"} ');
      return [le === '+Inf' ? Infinity : Number(le), Number(count)];
    });
  return { buckets, sum: value('_sum'), count: value('_count') };
}

/** Bounds rise, counts never fall, the last holds all, and the sum lies between what the buckets allow. */
function checkWhole({ buckets, sum, count }: Read): void {
  expect(buckets.length).toBeGreaterThan(5);
  expect(buckets.at(-1)).toEqual([Infinity, count]);
  let [low, high] = [0, 0];
  let [boundBefore, countBefore] = [0, 0];
  for (const [bound, cumulative] of buckets) {
    expect(bound).toBeGreaterThan(boundBefore);
    expect(cumulative).toBeGreaterThanOrEqual(countBefore);
    const own = cumulative - countBefore;
    low += own * boundBefore;
    if (own > 0) high += own * bound;
    [boundBefore, countBefore] = [bound, cumulative];
  }
  expect(sum).toBeGreaterThanOrEqual(low);
  expect(sum).toBeLessThanOrEqual(high + 1e-9);
}

describe('both servers', () => {
  let collector: Collector;
  let gateway: RunningGateway;
  let collectorHttp: string;
  const page = async (base: string): Promise<string> =>
    await (await fetch(`${base}/metrics`)).text();

  beforeAll(async () => {
    collector = new Collector(
      realEnv(),
      loadConfig(COLLECTOR_CONFIG, {
        flags: {
          data: temporaryFolder(),
          lake: 'none',
          uplink: '127.0.0.1:0',
          http: '127.0.0.1:0',
        },
        environment: {},
      }),
      () => undefined,
    );
    const { http, uplink } = await collector.start(undefined);
    collectorHttp = `http://127.0.0.1:${http?.port}`;
    gateway = await runGateway(
      temporaryFolder(),
      {},
      { collector: `mqtt://127.0.0.1:${uplink?.port}` },
    );
  });

  afterAll(async () => {
    await gateway?.gateway.close();
    await collector?.close();
  });

  /** One message after another, each acknowledged before the next: a group of its own. */
  async function publish(): Promise<void> {
    const client = await connected(gateway.port, 'c');
    for (let n = 1; n <= MESSAGES; n++) {
      client.send(encodePublish('hall/n', `{"n":${n}}`, 1, n));
      await client.bytes(4 + 4 * n);
    }
    client.socket.destroy();
  }

  it('a group of the gateway is one observation, and no message waits longer than the whole run', async () => {
    const before = histogramIn(await page(gateway.http), 'headwater_buffer_commit_seconds');
    const beganMs = performance.now();
    await publish();
    const tookSeconds = (performance.now() - beganMs) / 1000;
    const after = histogramIn(await page(gateway.http), 'headwater_buffer_commit_seconds');
    checkWhole(after);
    expect(after.count - before.count).toBeGreaterThanOrEqual(MESSAGES);
    expect(after.sum).toBeGreaterThan(before.sum);
    // Groups follow each other; a clock's anchor is a group without a message.
    expect(after.sum - before.sum).toBeLessThanOrEqual(tookSeconds);
    expect(after.count).toBeLessThanOrEqual(await gateway.metric('headwater_buffer_commits_total'));
  });

  it('a group that holds no message is none: the release of QoS 2', async () => {
    const counts = async (): Promise<number[]> => {
      const text = await page(gateway.http);
      const commits = /^headwater_buffer_commits_total (\d+)$/m.exec(text)?.[1];
      return [histogramIn(text, 'headwater_buffer_commit_seconds').count, Number(commits)];
    };
    const client = await connected(gateway.port, 'c2');
    const [before = 0] = await counts();
    client.send(encodePublish('hall/n', '{"n":0}', 2, 1));
    await client.bytes(8);
    const [received, commits = 0] = await counts();
    expect(received).toBe(before + 1);
    client.send([0x62, 2, 0, 1]);
    expect((await client.bytes(12)).subarray(8).toString('hex')).toBe('70020001');
    const [released, then] = await counts();
    expect(released).toBe(received);
    expect(then).toBeGreaterThan(commits);
    client.socket.destroy();
  });

  it('stages of the collector say how long after its arrival they committed a frame, each by its name', async () => {
    const of = (text: string, stage: string): Read =>
      histogramIn(text, 'headwater_stage_latency_seconds', `stage="${stage}"`);
    const text = await until('the store to have it', async () => {
      const read = await page(collectorHttp);
      const stored = /^headwater_store_readings_total (\d+)$/m.exec(read)?.[1];
      return Number(stored) >= MESSAGES && of(read, 'store').count > 0 ? read : undefined;
    });
    const [decode, store] = [of(text, 'decode'), of(text, 'store')];
    for (const each of [decode, store]) {
      checkWhole(each);
      expect(each.count).toBeGreaterThan(0);
      // Both clocks are one: nothing took longer than this test may.
      expect(each.sum / each.count).toBeLessThan(30);
    }
    const frames = Number(/^headwater_ingest_frames_total (\d+)$/m.exec(text)?.[1]);
    expect(decode.count).toBeLessThanOrEqual(frames);
    // One type line for all stages together.
    expect(text.match(/^# TYPE headwater_stage_latency_seconds /gm)).toHaveLength(1);
    checkWhole(histogramIn(text, 'headwater_ingest_acknowledge_seconds'));
  });

  it.skipIf(!hasPromtool)('promtool finds nothing wrong with either page', async () => {
    for (const base of [gateway.http, collectorHttp]) {
      const input = await page(base);
      const { status, stderr, stdout } = spawnSync('promtool', ['check', 'metrics'], { input });
      expect(`${String(stdout)}${String(stderr)}`).toBe('');
      expect(status).toBe(0);
    }
  });
});

describe('the latency of a stage', () => {
  const frame = (partition: number, headers: Record<string, string>) => ({
    topic: TOPIC_RAW,
    partition,
    offset: 0,
    key: 'gw',
    value: Buffer.alloc(0),
    headers,
  });
  const countAndSum = ({ seconds }: Latency): number[] =>
    seconds
      .series()
      .slice(-2)
      .map(({ value }) => value);

  it('counts a record once it is committed, and not what was taken away before', () => {
    const latency = new Latency();
    latency.worked([frame(0, { arrived: '1000' }), frame(1, { arrived: '3000' })]);
    expect(countAndSum(latency)).toEqual([0, 0]);
    latency.forget(1);
    latency.committed(5000);
    latency.committed(9000);
    expect(countAndSum(latency)).toEqual([4, 1]);
    latency.worked([frame(0, { arrived: '1000' })]);
    latency.forget();
    latency.committed(9000);
    expect(countAndSum(latency)).toEqual([4, 1]);
  });

  it('leaves out what says no time, what is said again and a doubted one; a clock that is behind gives 0', () => {
    const latency = new Latency();
    for (const headers of [
      {},
      { arrived: 'soon' },
      { arrived: '0' },
      { arrived: '1', again: 'true' },
      { arrived: '1', 'from-lake': 'true' },
      { arrived: '1', unsettled: 'true' },
      { arrived: '7000' },
    ] as Record<string, string>[])
      latency.worked([frame(0, headers)]);
    latency.committed(5000);
    expect(countAndSum(latency)).toEqual([0, 1]);
  });
});

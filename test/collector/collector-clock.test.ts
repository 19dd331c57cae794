/** What the collector makes of its own clock: when it tells the time, and when it had better not (law 9). */
import { describe, expect, it } from 'vitest';
import { CollectorClock } from '../../collector/ingest/clock.ts';
import { Receiver, type Peer } from '../../collector/ingest/receiver.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { TOPIC_RAW, type StoredRecord } from '../../collector/log/log.ts';
import { topics } from '../../collector/log/topics.ts';
import { NOT_BEFORE_US } from '../../shared/env/build.ts';
import { realEnv, type Env } from '../../shared/env/env.ts';
import { KIND_STATUS } from '../../shared/frame/frame.ts';
import { noteFrame } from '../../shared/frame/notes.ts';
import { LANE_LIVE, decodeDown, encodeUp, upTopic, type Down } from '../../shared/wire/wire.ts';
import { temporaryFolder, until } from '../support/process.ts';

const NOW_MS = 1_795_000_000_000;
const DAY_MS = 86_400_000;

function trial(wallMs: number, options: { trusted?: boolean; newestMs?: number } = {}) {
  const at = { wallMs, monotonicMs: 3_600_000 };
  const clock = { wallUs: () => at.wallMs * 1000, monotonicUs: () => at.monotonicMs * 1000 };
  const env: Env = { ...realEnv(), clock };
  const said: string[] = [];
  const collector = new CollectorClock({
    env,
    notify: ({ event, text }) => said.push(`${event}: ${text}`),
    trusted: options.trusted ?? false,
    notBeforeMs: NOT_BEFORE_US / 1000,
  });
  collector.start(options.newestMs ?? 0);
  const pass = (ms: number): void => {
    at.wallMs += ms;
    at.monotonicMs += ms;
  };
  return { env, at, pass, said, collector };
}

describe("the collector's clock", () => {
  it('is doubted before its build and before what the log has, says so, and is believed when it was set', () => {
    const old = trial(NOW_MS - 400 * DAY_MS);
    expect(old.collector.doubt).toMatch(/before this version was made/);
    expect(old.said[0]).toMatch(/^clock_doubted: this machine's clock says 2025-/);
    old.at.wallMs = NOW_MS;
    expect(old.collector.doubt).toBeUndefined();
    expect(old.said.map((text) => text.split(':')[0])).toEqual([
      'clock_doubted',
      'clock_set',
      'clock_believed',
    ]);

    const behind = trial(NOW_MS - DAY_MS, { newestMs: NOW_MS });
    expect(behind.collector.doubt).toMatch(/before what the log has/);
    // What arrives is dated behind what is there, not before it.
    behind.pass(5000);
    expect(behind.collector.nowMs()).toBe(NOW_MS + 5000);
    expect(trial(NOW_MS - 30_000, { newestMs: NOW_MS }).collector.doubt).toBeUndefined();
    expect(trial(NOW_MS - DAY_MS, { newestMs: NOW_MS, trusted: true }).collector.doubt).toBe(
      undefined,
    );
  });

  it('is said to be set once for a step and never for drift, and is not settled for a while after it', () => {
    const { at, pass, said, collector } = trial(NOW_MS);
    let changes = 0;
    collector.onChange(() => changes++);
    expect(collector.isSettled).toBe(true);
    for (let second = 0; second < 100; second++) {
      pass(1000);
      at.wallMs += 0.5;
      expect(collector.doubt).toBeUndefined();
    }
    expect(changes).toBe(0);
    at.wallMs += 20 * DAY_MS;
    expect(collector.doubt).toBeUndefined();
    expect(changes).toBe(1);
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(/^clock_set: .* by \+1728000.0 s/);
    expect(collector.isSettled).toBe(false);
    pass(899_000);
    expect(collector.isSettled).toBe(false);
    pass(2000);
    expect(collector.isSettled).toBe(true);
  });

  it('warns of a gateway that is more than a minute away, once, and gauges each', () => {
    const { said, collector } = trial(NOW_MS);
    collector.heard('near', NOW_MS + 59_000);
    collector.heard('far', NOW_MS - 400 * DAY_MS);
    collector.heard('far', NOW_MS - 400 * DAY_MS);
    expect(said).toEqual([
      expect.stringMatching(/^clock_apart: .*gateway far is 34560000 s behind/),
    ]);
    expect(collector.offsets()).toEqual([
      { labels: { gateway: 'near' }, value: 59 },
      { labels: { gateway: 'far' }, value: -34_560_000 },
    ]);
  });

  it('in doubt tells no time and marks what arrives; once it is set, gateways are asked and told', async () => {
    const { env, at, said, collector } = trial(NOW_MS - 400 * DAY_MS);
    const log = new EmbeddedLog(
      {
        folder: temporaryFolder(),
        cacheBytes: 1 << 20,
        topics: topics(Infinity),
        now: () => NOW_MS,
      },
      () => undefined,
    );
    await log.open();
    const heard: Down[] = [];
    const peer: Peer = {
      gateway: 'gw',
      principal: 'gw',
      isOpen: true,
      say: (payload) => void heard.push(decodeDown(payload)),
      hold: () => undefined,
    };
    const options = { pendingBytesMax: 1 << 20, refuse: () => undefined };
    const receiver = new Receiver(
      env,
      options,
      log,
      undefined,
      () => undefined,
      collector,
      () => undefined,
    );
    const identity = { gateway: 'gw', epoch: Buffer.alloc(8, 1), bootId: Buffer.alloc(8, 2) };
    const ask = (): void => {
      const stamp = { wallUs: NOW_MS * 1000, monotonicUs: 5e6, clockQuality: 0 };
      const status = noteFrame(KIND_STATUS, { epochs: [] }, identity, 0, stamp);
      receiver.receive(peer, upTopic('gw'), encodeUp(LANE_LIVE, [status]));
    };
    ask();
    expect(heard).toMatchObject([{ time: undefined, timeless: true }]);
    // What is right is not called wrong by what is not.
    expect(said.join()).not.toContain('clock_apart');
    at.wallMs = NOW_MS;
    expect(collector.doubt).toBeUndefined();
    expect(heard[1]).toMatchObject({ ask: true });
    ask();
    expect(heard[2]).toMatchObject({
      time: { echoUs: 5e6, wallUs: NOW_MS * 1000 },
      timeless: false,
    });
    const consumer = await log.consumer({
      group: 'look',
      topic: TOPIC_RAW,
      from: 'start',
      bytesMax: 1e6,
    });
    const records: StoredRecord[] = [];
    await until('both', async () => {
      records.push(...(await consumer.poll(20)));
      return records.length >= 2 || undefined;
    });
    expect(
      records.map(({ headers }) => Number(headers['arrived']) >= NOT_BEFORE_US / 1000),
    ).toEqual([true, true]);
    expect(records[1]?.headers['unsettled']).toBe('true');
    receiver.stop();
    collector.close();
    await log.close();
  });
});

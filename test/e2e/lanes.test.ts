/** Live before backlog on a slow link, what the ledger says, and what is asked for again; with real processes. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Relay } from '../chaos/network.ts';
import { Site, wait } from '../chaos/site.ts';
import { crowding, run, until } from '../support/process.ts';
import { getJson } from '../support/reconcile.ts';
import { FULL } from '../support/seed.ts';

interface Buffer {
  /** Left out until what an earlier run left is counted. */
  waitingBytes?: number;
  uplink: { backlogBytes: number; sentBytes: number };
}

const MIB = 1024 * 1024;
const BACKLOG_BYTES = (FULL ? 500 : 30) * MIB;
const LINK = MIB;
const PAD = 2000;

function memoryOf(pid: number): number {
  const { readFileSync } = process.getBuiltinModule('node:fs');
  return (
    Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024
  );
}

const sites: Site[] = [];
afterAll(async () => {
  for (const site of sites) await site.stop();
});

describe('lanes', () => {
  it(
    `a backlog of ${BACKLOG_BYTES / MIB} MB at 1 MB/s: live readings wait for it less than 2 s (p99), it takes the rest of the link`,
    { timeout: FULL ? 1_200_000 : 200_000 },
    async () => {
      const site = new Site();
      sites.push(site);
      const relay = new Relay(() => site.uplinkPort);
      await site.startCollector();
      const link = await relay.listen();
      await site.startGateway('127.0.0.1:9');
      const bufferUrl = (): string => `http://${site.gateway?.address['http']}/api/v1/buffer`;
      const state = (): Promise<Buffer> => getJson<Buffer>(bufferUrl());
      for (let bytes = 0; bytes < BACKLOG_BYTES; bytes = (await state()).waitingBytes ?? bytes)
        await site.load(5000, 200, PAD);
      await site.gateway?.kill('SIGTERM');
      relay.bytesPerSecond = LINK;
      await site.startGateway(link);
      const began = performance.now();
      const before = relay.relayedBytes;
      const memory: number[] = [];
      const ages: number[] = [];
      let live = 0;
      const collector = `http://${site.collector?.address['http']}`;
      /** A reading with its own number, looked for in the store until it is there: milliseconds. */
      const seeLive = async (): Promise<number> => {
        const sentAt = performance.now();
        const number = ++live;
        const { code } = await run([
          ...['publish', `live/${site.measurement}l`, `{"n":${number}}`],
          ...['--mqtt', site.gateway?.address['mqtt'] ?? ''],
        ]);
        expect(code).toBe(0);
        await until(
          'the live reading',
          async () => {
            const { series } = await getJson<{ series: { value: number }[] }>(
              `${collector}/api/v1/latest?measurement=${site.measurement}l`,
            );
            return series[0]?.value === number ? true : undefined;
          },
          20_000,
        );
        return performance.now() - sentAt;
      };
      for (let waiting = 1; waiting > 0; ) {
        ages.push(await seeLive());
        memory.push(memoryOf(site.gateway?.pid ?? 0));
        waiting = (await state()).waitingBytes ?? waiting;
        await wait(FULL ? 500 : 100);
      }
      const seconds = (performance.now() - began) / 1000;
      const used = (relay.relayedBytes - before) / seconds / LINK;
      // What the publishing process and this machine take with nothing in the way is not the backlog's doing.
      let alone = 0;
      for (let i = 0; i < 5; i++) alone = Math.max(alone, await seeLive());
      ages.sort((a, b) => a - b);
      const p99 = ages[Math.ceil(ages.length * 0.99) - 1] ?? Number.POSITIVE_INFINITY;
      process.stdout.write(
        `lanes: ${ages.length} live readings beside a backlog of ${Math.round(BACKLOG_BYTES / MIB)} MB, p50 ${Math.round(ages[ages.length >> 1] ?? 0)} ms, p99 ${Math.round(p99)} ms from the start of the publishing process (at most ${Math.round(alone)} ms without a backlog), link used ${Math.round(used * 100)} %, anonymous memory ${Math.min(...memory).toFixed(0)} to ${Math.max(...memory).toFixed(0)} MB\n`,
      );
      expect(ages.length).toBeGreaterThan(5);
      expect(p99 - alone).toBeLessThan(2000 * crowding());
      // A process that gets no core fills no link.
      expect(used).toBeGreaterThan(0.8 / crowding());
      expect(Math.max(...memory)).toBeLessThan(Math.min(...memory) + 48);
      expect(await site.reconcile(true)).toMatchObject({ lost: 0, extra: 0, differing: 0 });
      await relay.close();
    },
  );
});

describe('ledger', () => {
  it('a collector that lost its log asks for what the gateway still has; the ledger tells both states', async () => {
    const site = new Site();
    sites.push(site);
    await site.start();
    await site.load(2000);
    expect(await site.reconcile(true)).toMatchObject({ lost: 0, differing: 0 });
    const http = (): string => site.collector?.address['http'] ?? '';
    const asked = await run(['ledger', '--http', http()]);
    expect(asked.stdout).toMatch(/^Nothing is missing\.\ngateway gw-chaos: 2\d\d\d received/);
    expect(asked.code).toBe(0);
    // Everything that the collector had is gone, but for its store.
    await site.collector?.kill('SIGKILL');
    rmSync(join(site.collectorFolder, 'log'), { recursive: true });
    await site.startCollector();
    await until(
      'the log to have it again',
      async () => {
        const { gateways } = await getJson<{
          gateways: { epochs: { received: [number, number][] }[] }[];
        }>(`http://${http()}/api/v1/ledger`);
        const count = gateways
          .flatMap(({ epochs }) => epochs)
          .flatMap(({ received }) => received)
          .reduce((sum, [from, to]) => sum + to - from + 1, 0);
        return count >= 2000 ? true : undefined;
      },
      40_000,
    );
    expect(await site.reconcile(true)).toMatchObject({ lost: 0, extra: 0, differing: 0 });
    const { code, stdout } = await run([
      'ledger',
      '--http',
      http(),
      '--gateway',
      'gw-chaos',
      '--json',
    ]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ missing: false });
    expect((await run(['ledger', '--http', http(), '--gateway', 'nobody'])).output).toMatch(
      /knows no gateway 'nobody'/,
    );
  });

  it('what a full buffer gave up is in the ledger with range, cause and time, and the command says so', async () => {
    const site = new Site();
    sites.push(site);
    await site.startCollector();
    const environment = {
      HEADWATER_BUFFER_DISK_BYTES_MAX: String(16 * MIB),
      HEADWATER_BUFFER_WHEN_FULL: 'dropOldest',
    };
    const small = new Site([], undefined, environment);
    sites.push(small);
    small.collector = site.collector;
    await small.startGateway('127.0.0.1:9');
    for (let i = 0; i < 8; i++) await small.load(2000, 200, 2000);
    await small.gateway?.kill('SIGTERM');
    await small.startGateway(site.collector?.address['uplink']);
    const http = site.collector?.address['http'] ?? '';
    const answer = await until('the ledger to tell', async () => {
      const { stdout, code } = await run(['ledger', '--http', http]);
      return code === 3 && stdout.includes('(dropped)') ? stdout : undefined;
    });
    expect(answer).toMatch(/^Something is missing:\n/);
    expect(answer).toMatch(
      /sequences \d+ to \d+ lost \(dropped\): the buffer was full .*, since 20\d\d-/,
    );
    const result = await small.reconcile(true, true);
    expect(result).toMatchObject({ lost: 0, extra: 0, differing: 0 });
    expect(result.note).toMatch(/missing, the ledger says true/);
  });
});

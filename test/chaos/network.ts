/** The link between gateway and collector: reset, black hole, half-open in the middle of a replay, slow, lossy. */
import { execFileSync } from 'node:child_process';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { getJson } from '../support/reconcile.ts';
import { until } from '../support/process.ts';
import { Site, wait, type Chance, type Result } from './site.ts';

/** A TCP relay that can cut, swallow, and hold back to a rate. */
export class Relay {
  private readonly sockets = new Set<Socket>();
  private server: Server | undefined;
  swallowing = false;
  /** Bytes a second towards the collector; 0: as fast as it goes. */
  bytesPerSecond = 0;
  relayedBytes = 0;
  private readonly to: () => number;

  constructor(to: () => number) {
    this.to = to;
  }

  async listen(): Promise<string> {
    const server = createServer((near) => {
      const far = connect({ host: '127.0.0.1', port: this.to(), noDelay: true });
      near.setNoDelay(true);
      for (const each of [near, far]) {
        this.sockets.add(each);
        each.on('error', () => undefined);
        each.on('close', () => {
          this.sockets.delete(each);
          near.destroy();
          far.destroy();
        });
      }
      far.on('data', (chunk: Buffer) => void (this.swallowing || near.write(chunk)));
      this.pump(near, far);
    });
    this.server = server;
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return `127.0.0.1:${(server.address() as { port: number }).port}`;
  }

  private pump(near: Socket, far: Socket): void {
    let busyUntil = performance.now();
    near.on('data', (chunk: Buffer) => {
      if (this.swallowing) return;
      this.relayedBytes += chunk.length;
      if (this.bytesPerSecond === 0) {
        far.write(chunk);
        return;
      }
      // A link of this rate: each byte takes its time, and what comes behind waits in the sender's socket.
      busyUntil =
        Math.max(busyUntil, performance.now()) + (chunk.length / this.bytesPerSecond) * 1000;
      near.pause();
      setTimeout(() => {
        far.write(chunk);
        near.resume();
      }, busyUntil - performance.now());
    });
  }

  cut(): void {
    for (const socket of this.sockets) socket.resetAndDestroy();
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise<void>((resolve) => {
      if (this.server === undefined) resolve();
      else this.server.close(() => resolve());
    });
  }
}

async function overRelay(
  chance: Chance,
  strike: (relay: Relay, site: Site) => Promise<void>,
): Promise<Result> {
  const site = new Site();
  const relay = new Relay(() => site.uplinkPort);
  try {
    await site.startCollector();
    await site.startGateway(await relay.listen());
    const load = site.load(40_000, 200);
    await wait(20 + chance() * 200);
    await strike(relay, site);
    await load;
    return await site.reconcile(relay.relayedBytes > 0);
  } finally {
    await site.stop();
    await relay.close();
  }
}

export const reset = (chance: Chance): Promise<Result> =>
  overRelay(chance, async (relay) => {
    for (let i = 0; i < 5; i++) {
      relay.cut();
      await wait(50 + chance() * 300);
    }
  });

export const blackHole = (chance: Chance): Promise<Result> =>
  overRelay(chance, async (relay) => {
    relay.swallowing = true;
    await wait(500 + chance() * 1500);
    relay.cut();
    relay.swallowing = false;
  });

/** The other side is gone without a word while a backlog is on its way: only time tells. */
export async function halfOpen(chance: Chance): Promise<Result> {
  const site = new Site();
  const relay = new Relay(() => site.uplinkPort);
  try {
    await site.startCollector();
    // A backlog first, with nobody to take it.
    await site.startGateway('127.0.0.1:9');
    await site.load(60_000, 400);
    await site.gateway?.kill('SIGTERM');
    relay.bytesPerSecond = 300_000;
    await site.startGateway(await relay.listen());
    await until('the replay to run', () => relay.relayedBytes > 50_000 || undefined);
    relay.swallowing = true;
    const fired = await until(
      'the link given up',
      async () => {
        const { uplink } = await getJson<{ uplink: { ackTimeouts: number } }>(
          `http://${site.gateway?.address['http']}/api/v1/buffer`,
        );
        return uplink.ackTimeouts > 0 ? true : undefined;
      },
      30_000,
    ).catch(() => false);
    relay.swallowing = false;
    relay.bytesPerSecond = 0;
    await wait(chance() * 100);
    return await site.reconcile(fired === true);
  } finally {
    await site.stop();
    await relay.close();
  }
}

export const slowLink = (chance: Chance): Promise<Result> =>
  overRelay(chance, async (relay) => {
    relay.bytesPerSecond = 20_000;
    await wait(1000 + chance() * 2000);
    relay.bytesPerSecond = 0;
  });

/** 20 % of the packets to the collector's port are dropped by the kernel. */
export async function loss(chance: Chance): Promise<Result> {
  const site = new Site();
  const rule = (action: string): string[] => [
    action,
    'INPUT',
    '-i',
    'lo',
    '-p',
    'tcp',
    '--dport',
    String(site.uplinkPort),
    '-m',
    'statistic',
    '--mode',
    'random',
    '--probability',
    '0.2',
    '-j',
    'DROP',
  ];
  let on = false;
  try {
    await site.start();
    const load = site.load(20_000, 200);
    await wait(20 + chance() * 100);
    execFileSync('iptables', rule('-I'));
    on = true;
    await load;
    await wait(2000);
    const counters = execFileSync('iptables', ['-L', 'INPUT', '-v', '-n', '-x'], {
      encoding: 'utf8',
    });
    const dropped = Number(
      new RegExp(`^\\s*(\\d+).*dpt:${site.uplinkPort}`, 'm').exec(counters)?.[1] ?? 0,
    );
    execFileSync('iptables', rule('-D'));
    on = false;
    return await site.reconcile(dropped > 0);
  } finally {
    if (on) execFileSync('iptables', rule('-D'));
    await site.stop();
  }
}

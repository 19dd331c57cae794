/**
 * The faults of the loss table, the same for every system. A trial: the same seeded load of QoS 1 messages, acknowledgements
 * recorded by the client when their bytes have arrived, the fault, a start of the edge on what its disk has, the centre there,
 * and a count of what arrives at the centre until nothing has come for a while.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../../support/free-port.ts';
import { runLoad } from '../../support/load.ts';
import { temporaryFolder, until } from '../../support/process.ts';
import { boot, copyFrom, makeDisk } from '../guests.ts';
import type { Need } from '../needs.ts';
import { wait, type Chance } from '../site.ts';
import { Collector, LineReceiver, Subscriber, type Centre } from './centres.ts';
import { Edge } from './edge.ts';
import type { Place, System } from './systems.ts';

export const MESSAGES = 60_000;
/** Longer than NATS waits before it delivers again what was not acknowledged (30 s). */
const QUIET_MS = 40_000;
const DRAIN_MS = 180_000;
/** So long without an acknowledgement: it holds them back. */
const STALL_MS = 10_000;

/** In a guest, whose speed is what it is: so many, or so long, and then up to ten seconds. */
const GUEST_MIN = 2000;
const GUEST_MS = 20_000;

export interface Outcome {
  acknowledged: number;
  lost: number;
  /** Copies at the centre beyond the first. */
  doubled: number;
  /** From the moment edge and centre were there again to the last first arrival, seconds. */
  delayS: number;
  /** It did not start again, or what else has to be said. */
  note?: string;
}

class Trial {
  readonly acknowledged = new Set<number>();
  readonly centre: Centre;
  readonly edge: Edge;
  private readonly place: Place;

  constructor(system: System, place: Place) {
    this.place = place;
    this.edge = new Edge(system, place);
    this.centre = {
      subscriber: () => new Subscriber(place.port),
      http: () => new LineReceiver(place.centre),
      collector: () => new Collector(place.centre),
    }[system.centre]();
  }

  /** Edge and centre, in the order in which they find each other; a session exists afterwards. */
  async begin(): Promise<void> {
    await this.edge.start();
    await this.centre.on();
    // Telegraf subscribes when it is connected.
    await wait(1500);
  }

  /** Until all are acknowledged, the connections break, or none has been acknowledged for a while. */
  async load(padding = 0): Promise<void> {
    const pad = padding === 0 ? '' : `,"pad":"${'x'.repeat(padding)}"`;
    const all = runLoad({
      host: '127.0.0.1',
      port: this.place.port,
      connections: 4,
      messages: MESSAGES,
      window: 200,
      topic: (connection) => `chaos/${connection}/table`,
      payload: (index) => `{"n":${index}${pad}}`,
      onAck: (index) => this.acknowledged.add(index),
    }).catch(() => undefined);
    let isOver = false;
    void all.then(() => {
      isOver = true;
    });
    let [size, since] = [-1, performance.now()];
    while (!isOver && performance.now() - since < STALL_MS) {
      if (this.acknowledged.size !== size)
        [size, since] = [this.acknowledged.size, performance.now()];
      await wait(50);
    }
  }

  /** Resolves when so many are acknowledged, or no more will be. */
  async reached(count: number, load: Promise<void>): Promise<void> {
    let isOver = false;
    void load.then(() => {
      isOver = true;
    });
    while (!isOver && this.acknowledged.size < count) await wait(1);
  }

  /** What is at the centre when nothing more comes. */
  async outcome(since: number): Promise<Outcome> {
    const started = performance.now();
    let [have, changed, quiet] = [0, since, performance.now()];
    let [counts, total] = [await this.centre.counts(), 0];
    for (;;) {
      counts = await this.centre.counts();
      const now = performance.now();
      if (counts.size > have) [have, changed, quiet] = [counts.size, now, now];
      const sum = [...counts.values()].reduce((a, b) => a + b, 0);
      if (sum > total) [total, quiet] = [sum, now];
      const isWhole = [...this.acknowledged].every((n) => counts.has(n));
      if (now - quiet > (isWhole ? 5000 : QUIET_MS) || now - started > DRAIN_MS) break;
      await wait(500);
    }
    const lost = [...this.acknowledged].filter((n) => !counts.has(n)).length;
    return {
      acknowledged: this.acknowledged.size,
      lost,
      doubled: total - counts.size,
      delayS: Math.round((changed - since) / 100) / 10,
    };
  }

  /** Starts the edge again; without it everything is lost, and that is a result. */
  async again(): Promise<Outcome> {
    try {
      await this.edge.start();
    } catch (error) {
      const counts = await this.centre.counts();
      const lost = [...this.acknowledged].filter((n) => !counts.has(n)).length;
      const note = error instanceof Error ? error.message : String(error);
      return { acknowledged: this.acknowledged.size, lost, doubled: 0, delayS: 0, note };
    }
    return await this.outcome(performance.now());
  }

  /** The centre comes back while the edge starts. */
  async againWithCentre(): Promise<Outcome> {
    // Where the edge does not come back, no subscriber can be connected either: the outcome says it.
    const centre = this.centre.on().catch(() => undefined);
    const outcome = await this.again();
    await centre;
    return outcome;
  }

  async end(): Promise<void> {
    await this.centre.off();
    await this.edge.kill();
  }
}

async function withTrial(
  system: System,
  folder: string,
  run: (trial: Trial) => Promise<Outcome>,
): Promise<Outcome> {
  const place = { folder, port: await freePort(), centre: await freePort() };
  const trial = new Trial(system, place);
  try {
    return await run(trial);
  } finally {
    await trial.end();
  }
}

/** kill -9 of the edge's processes in the middle of the load; the centre is there. */
const kill = (system: System, chance: Chance): Promise<Outcome> =>
  withTrial(system, join(temporaryFolder(), 'edge'), async (trial) => {
    await trial.begin();
    const load = trial.load();
    await trial.reached(MESSAGES * (0.2 + 0.6 * chance()), load);
    await trial.edge.kill();
    await load;
    return await trial.again();
  });

/** The centre is away while all is published, then it is back. */
const outage = (system: System): Promise<Outcome> =>
  withTrial(system, join(temporaryFolder(), 'edge'), async (trial) => {
    await trial.begin();
    await trial.centre.off();
    await trial.load();
    await trial.centre.on();
    return await trial.outcome(performance.now());
  });

/** The same, and kill -9 of the edge up to two seconds after the last acknowledgement. */
const outageKill = (system: System, chance: Chance): Promise<Outcome> =>
  withTrial(system, join(temporaryFolder(), 'edge'), async (trial) => {
    await trial.begin();
    await trial.centre.off();
    await trial.load();
    await wait(chance() * 2000);
    await trial.edge.kill();
    return await trial.againWithCentre();
  });

/** Another program fills the edge's ext4 of 64 MB in the middle of the load; kill -9 while it is full; then there is room again. */
async function fullDisk(system: System, chance: Chance): Promise<Outcome> {
  const base = temporaryFolder();
  const [image, disk] = [join(base, 'image'), join(base, 'disk')];
  makeDisk(image, '64M');
  mkdirSync(disk);
  execFileSync('mount', ['-o', 'loop', image, disk]);
  const ballast = join(disk, 'ballast');
  try {
    return await withTrial(system, join(disk, 'edge'), async (trial) => {
      await trial.begin();
      await trial.centre.off();
      const load = trial.load(200);
      await trial.reached(MESSAGES * (0.1 + 0.4 * chance()), load);
      try {
        writeFileSync(ballast, Buffer.alloc(statfsSync(disk).bfree * statfsSync(disk).bsize));
      } catch {
        // As much as went in.
      }
      await load;
      await trial.edge.kill();
      rmSync(ballast, { force: true });
      return await trial.againWithCentre();
    });
  } finally {
    execFileSync('umount', ['-l', disk]);
  }
}

/** Shell that starts a layout in a guest: its configuration by here-documents, its processes behind it. */
function guestCommands(system: System, disk: string, top: string): string {
  const place: Place = { folder: `${disk}/edge`, port: 1883, centre: 9 };
  const { files, processes } = system.layout(place);
  const node = process.execPath;
  const written = Object.entries(files).map(
    ([name, text]) => `cat > ${top}/${name} <<'END'\n${text}END\n`,
  );
  const started = processes.map((words) => {
    const line = words.map((word) => `'${word.replace('{conf}', top)}'`).join(' ');
    return `${line} >> ${top}/edge.out 2>&1 &\n`;
  });
  const [first = '', ...others] = started;
  const session = system.centre === 'subscriber' ? `${node} test/chaos/peers/session.mjs\n` : '';
  // Telegraf's session exists when it has subscribed, which takes it a while at a guest's speed.
  const rest = others.length > 0 ? `${others.join('')}sleep 20\n` : '';
  return `mkdir -p ${disk}/edge
${written.join('')}${first}${session}${rest}${node} test/chaos/guest-client.mjs table
echo CLIENTEND
cat ${top}/edge.out`;
}

/** The edge in a guest with an ext4 of its own, cut under load by the seed; it starts on what its disk has. */
async function power(system: System, chance: Chance): Promise<Outcome> {
  const base = temporaryFolder();
  const image = join(base, 'image');
  makeDisk(image, '256M');
  return await withTrial(system, join(base, 'copy'), async (trial) => {
    const guest = boot({
      image,
      commands: (disk, top) => guestCommands(system, disk, top),
      onLine: (line) => {
        const match = /^A (\d+) (\d+)$/.exec(line);
        if (match === null) return;
        for (let n = Number(match[1]); n <= Number(match[2]); n++) trial.acknowledged.add(n);
      },
    });
    try {
      const first = (): true | undefined => trial.acknowledged.size > 0 || undefined;
      await until('the guest to acknowledge', first, 240_000).catch(() => {
        throw new Error(`the guest did not come so far: ${guest.console().slice(-1500)}`);
      });
      // At least some thousand, but where an acknowledgement takes long it is cut all the same.
      const many = (): true | undefined => trial.acknowledged.size > GUEST_MIN || undefined;
      await until('the guest to acknowledge many', many, GUEST_MS).catch(() => undefined);
      await wait(chance() * 10_000);
    } finally {
      await guest.cut();
    }
    copyFrom(image, 'edge', join(base, 'copy'));
    return await trial.againWithCentre();
  });
}

export interface Strike {
  about: string;
  needs: Need[];
  run: (system: System, chance: Chance) => Promise<Outcome>;
}

export const STRIKES: Record<string, Strike> = {
  kill: { about: 'kill -9 under load', needs: [], run: kill },
  outage: { about: 'centre away', needs: [], run: outage },
  'outage-kill': { about: 'centre away, then kill -9', needs: [], run: outageKill },
  full: { about: 'full disk, then kill -9', needs: ['root', 'mkfs.ext4'], run: fullDisk },
  power: { about: 'power cut', needs: ['root', 'guest', 'mkfs.ext4'], run: power },
};

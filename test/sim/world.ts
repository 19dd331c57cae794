/**
 * One simulated run: a gateway's buffer and uplink session, a collector's receiver, log, decode and store stages, all
 * of them the real code, on a virtual clock, model disks and a model link. A seed decides everything.
 */
import { LevelBuffer } from '../../gateway/buffer/level-buffer.ts';
import { GatewayClock } from '../../gateway/buffer/clock.ts';
import { Budget } from '../../gateway/uplink/pace.ts';
import { Perhaps } from '../../gateway/uplink/perhaps.ts';
import { Session } from '../../gateway/uplink/session.ts';
import { freshStats } from '../../gateway/uplink/stats.ts';
import { DecodeStage } from '../../collector/decode/stage.ts';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { CollectorClock } from '../../collector/ingest/clock.ts';
import { Receiver } from '../../collector/ingest/receiver.ts';
import { LedgerView, type LedgerAnswer } from '../../collector/ledger/view.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { topics } from '../../collector/log/topics.ts';
import { StoreStage } from '../../collector/store/stage.ts';
import { NOT_BEFORE_US } from '../../shared/env/build.ts';
import type { Env } from '../../shared/env/env.ts';
import { processTimers } from '../../shared/env/timers.ts';
import { crc32c } from '../../shared/frame/crc32c.ts';
import { upTopic } from '../../shared/wire/wire.ts';
import { Centre, checkCentre, checkTally } from './centre.ts';
import { SimDisk, SimStorage, openSim } from './disk.ts';
import { ROOT, mount } from './file-calls.ts';
import { SimFiles } from './files.ts';
import { SimStore } from './store.ts';
import type { Owner, VirtualTime } from './time.ts';

/** What is broken on purpose, so that the checks are seen to see. */
export type Control =
  | 'early-ack'
  | 'no-sync'
  | 'no-dedupe'
  | 'lying-log'
  | 'lying-store'
  | 'no-anchor'
  | LakeControl;
/**
 * Of the lake: fsync of its files or folders does nothing, a merge loses a row, a put is done before it is begun; a batch does
 * not note what it is about to say.
 */
export type LakeControl =
  | 'lake-no-file-sync'
  | 'lake-no-folder-sync'
  | 'lake-lost-row'
  | 'lake-early'
  | 'batch-no-note';
export const CONTROLS: readonly Control[] = [
  'early-ack',
  'no-sync',
  'no-dedupe',
  'lying-log',
  'lying-store',
  'no-anchor',
  'lake-no-file-sync',
  'lake-no-folder-sync',
  'lake-lost-row',
  'lake-early',
  'batch-no-note',
];

export interface Outcome {
  seed: number;
  /** Sentences; none when every law held. */
  broken: string[];
  /** Of everything that happened, in order: the same seed gives the same. */
  trace: string;
  acknowledged: number;
  stored: number;
  events: number;
  fired: Record<string, number>;
}

export const START_US = 1_795_000_000_000_000;
const FAULTS_UNTIL_MS = 20_000;
const QUIET_MS = 240_000;
const DAY_US = 86_400e6;
/** Of a buffer that sheds when a link is away for some seconds. */
const THIN_BYTES = 12 * 1024;
/** There outages last so much longer. */
const THIN_OUTAGES = 3;

/** mulberry32. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

interface Near {
  owner: Owner;
  buffer: LevelBuffer<number>;
  clock: GatewayClock;
  perhaps: Perhaps;
  session: Session | undefined;
}

interface Far {
  owner: Owner;
  receiver: Receiver;
  ledger: LedgerView;
  log: EmbeddedLog;
  decode: DecodeStage;
  centre: Centre | undefined;
}

/** Groups of those who have read what they wanted and are gone. */
const PASSING = /^headwater-(replay|heal|rebuild)-/;
/** What no disk that keeps its word makes the lake say. */
const DAMAGE = /^lake_(damaged|manifest|less|lost|ahead|past_damaged|\w+_aside)$/;

/** What an answer of the ledger names. */
function missingIn(answer: LedgerAnswer | undefined): string {
  const epochs = (answer?.gateways ?? []).flatMap((each) => each.epochs);
  const those = epochs.filter(
    ({ lost, missing, damage }) => lost.length + missing.length + damage.length > 0,
  );
  return JSON.stringify([...those, ...(answer?.lake ?? [])]).slice(0, 600);
}

/** Of a point that stands for several messages. */
interface Thinned {
  least: number;
  most: number;
  count: number;
  timeMs: number;
}

function thinnedOf(value: string, timeMs: number): Thinned | undefined {
  const [, least, most, count] = /^(\d+)\.\.(\d+)\*(\d+)$/.exec(value) ?? [];
  if (least === undefined) return undefined;
  return { least: Number(least), most: Number(most), count: Number(count), timeMs };
}

export class World {
  private readonly seed: number;
  private readonly time: VirtualTime;
  private readonly control: Control | undefined;
  private readonly thins: boolean;
  private readonly chance: () => number;
  private readonly nearDisk: SimDisk;
  private readonly farDisk: SimDisk;
  /** The collector's other files; undefined: there is no lake. */
  private readonly files: SimFiles | undefined;
  private readonly lakeSaid: string[] = [];
  private readonly store: SimStore;
  private near: Near | undefined;
  private far: Far | undefined;
  private boot = 0;
  /** Of the gateway, so far. */
  private processes = 0;
  private bootStartMs = 0;
  /** The gateway's wall clock is off by so much, microseconds. */
  private wallErrorUs = 0;
  /** And the collector's. */
  private farErrorUs = 0;
  private linkUp = true;
  private blackHole = false;
  private linkLatencyMs = 5;
  private healed = false;
  private connection = 0;
  private nextValue = 0;
  private readonly sent = new Map<number, number>();
  private readonly acknowledged = new Set<number>();
  private readonly fired: Record<string, number> = {};
  private rotted = false;
  private lakeRotted = false;
  private traceHash = 0;
  private readonly broken: string[] = [];

  /** `isWhole`: the collector has a lake and streams as well; `thins`: the gateway's buffer is small, and sheds. */
  constructor(
    seed: number,
    time: VirtualTime,
    isWhole: boolean,
    control: Control | undefined,
    thins: boolean,
  ) {
    this.seed = seed;
    this.time = time;
    this.control = control;
    this.thins = thins;
    this.chance = generator(seed);
    this.nearDisk = new SimDisk(this.chance);
    this.farDisk = new SimDisk(this.chance);
    this.nearDisk.ignoresSync = control === 'no-sync';
    if (isWhole) {
      this.files = new SimFiles(this.chance, () => START_US / 1000 + time.now);
      this.files.ignoresFileSync = control === 'lake-no-file-sync';
      this.files.ignoresFolderSync = control === 'lake-no-folder-sync';
    }
    mount(this.files);
    // One that keeps its own progress, as the embedded one, or one that does not, as InfluxDB.
    this.store = new SimStore(
      this.chance,
      seed % 2 === 0,
      control === 'no-dedupe' || control === 'lying-store' ? control : undefined,
    );
  }

  private trace(what: string): void {
    this.traceHash = crc32c(
      Buffer.from(`${this.time.now.toFixed(6)} ${what}\n`),
      0,
      undefined,
      this.traceHash,
    );
  }

  private fire(fault: string): void {
    this.fired[fault] = (this.fired[fault] ?? 0) + 1;
    this.trace(fault);
    this.debug(`-- ${fault}`);
  }

  private debug(what: string): void {
    if (process.env['HEADWATER_SIM_DEBUG'] !== undefined)
      process.stdout.write(`  ${this.time.now.toFixed(0)} ${what}\n`);
  }

  private env(isNear: boolean): Env {
    const { time, chance } = this;
    const boot = Buffer.alloc(8);
    boot.writeUInt32LE(isNear ? this.boot + 1 : 999, 0);
    // The collector's machine has been up for an hour, but where its clock is wrong from the start.
    const start = isNear ? this.bootStartMs : this.seed % 5 === 1 ? 0 : -3_600_000;
    return {
      clock: {
        wallUs: () =>
          Math.round(START_US + time.now * 1000 + (isNear ? this.wallErrorUs : this.farErrorUs)),
        monotonicUs: () => Math.round((time.now - start) * 1000) + 1_000_000,
      },
      // The process's timers are this world's.
      timers: processTimers,
      random: {
        bytes: (size) =>
          Buffer.from(Array.from({ length: size }, () => Math.floor(chance() * 256))),
        fraction: chance,
      },
      bootId: boot,
    };
  }

  // ---- gateway ----

  private async startNear(): Promise<void> {
    this.processes++;
    const owner = { alive: true };
    const { control } = this;
    await this.time.as(owner, async () => {
      const env = this.env(true);
      const clock = new GatewayClock(env, control === 'no-anchor');
      const buffer: LevelBuffer<number> = new LevelBuffer<number>(
        env,
        {
          gateway: 'gw',
          storage: new SimStorage(this.nearDisk, owner),
          diskBytesMax: this.thins ? THIN_BYTES : 1 << 20,
          reserveBytes: 1 << 16,
          historyBytesMax: this.thins ? THIN_BYTES / 4 : 1 << 18,
          policy: this.thins ? 'shed' : 'block',
          frameBytes: 512,
          pendingBytesMax: 8192,
          cacheBytes: 4096,
          compress: false,
          clock,
        },
        {
          onDurable: (values) => this.acknowledge(values),
          onFrame: () => this.near?.session?.committed(),
          onRelief: () => undefined,
          onNotice: ({ event }) => this.trace(`gateway ${event}`),
        },
      );
      for (;;) {
        try {
          await buffer.open();
          break;
        } catch {
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
      }
      const perhaps = new Perhaps();
      const near: Near = { owner, buffer, clock, perhaps, session: undefined };
      buffer.protect(
        (position) => near.session?.isInFlight(position) === true || perhaps.has(position),
      );
      this.near = near;
      this.dial(env);
    });
  }

  private acknowledge(values: number[]): void {
    for (const value of values) this.acknowledged.add(value);
    this.trace(`ack ${values.join()}`);
  }

  private publish(): void {
    const { near } = this;
    if (near?.owner.alive !== true || near.buffer.congested) return;
    const count = 1 + Math.floor(this.chance() * 6);
    this.time.as(near.owner, () => {
      for (let i = 0; i < count; i++) {
        const value = this.nextValue++;
        this.sent.set(value, START_US / 1000 + this.time.now);
        const early = this.control === 'early-ack';
        if (early) this.acknowledge([value]);
        near.buffer.append(
          {
            client: 'c',
            topic: 't',
            qos: 1,
            retain: false,
            dup: false,
            payload: Buffer.from(String(value)),
          },
          early ? undefined : value,
        );
      }
    });
  }

  /** A link as TCP is one: in order, and broken as a whole. */
  private dial(env: Env): void {
    const { near, far } = this;
    if (near === undefined || !near.owner.alive) return;
    const again = (ms: number): void => {
      setTimeout(() => this.dial(env), ms);
    };
    if (near.session !== undefined) return;
    if (!this.linkUp || far?.owner.alive !== true) return again(200 + this.chance() * 300);
    const id = ++this.connection;
    const ends = { open: true, lastUp: 0, lastDown: 0 };
    const close = (): void => {
      if (!ends.open) return;
      ends.open = false;
      this.trace(`link ${id} closed`);
      near.perhaps.add(near.session?.unacknowledged ?? []);
      near.session?.end();
      near.session = undefined;
      this.time.as(near.owner, () => again(100 + this.chance() * 400));
    };
    const carry = (owner: Owner, key: 'lastUp' | 'lastDown', work: () => void): void => {
      if (!ends.open || this.blackHole) return;
      const at = Math.max(ends[key], this.time.now + this.linkLatencyMs * (0.5 + this.chance()));
      ends[key] = at;
      this.time.as(owner, () =>
        setTimeout(() => {
          if (ends.open && !this.blackHole && this.linkUp) work();
          else if (!this.linkUp) this.time.as(near.owner, close);
        }, at - this.time.now),
      );
    };
    const peer = {
      gateway: 'gw',
      principal: 'gw',
      get isOpen() {
        return ends.open;
      },
      say: (payload: Buffer) => carry(near.owner, 'lastDown', () => near.session?.heard(payload)),
      hold: () => undefined,
    };
    const link = {
      send: (payload: Buffer) => {
        this.trace(`up ${payload.length} ${crc32c(payload)}`);
        carry(far.owner, 'lastUp', () => far.receiver.receive(peer, upTopic('gw'), payload));
      },
      hangUp: () => close(),
      command: () => undefined,
      config: () => undefined,
      heard: () => undefined,
      about: () => ({}),
    };
    near.session = new Session(
      env,
      {
        gateway: 'gw',
        windowBytes: 4096,
        publishBytesMax: 1024,
        ackTimeoutMs: 3000,
        statusMs: 1000,
        order: this.seed % 3 === 0 ? 'newest' : 'oldest',
        liveAgeMs: 500,
        backlogAgeMaxMs: 0,
      },
      near.buffer,
      near.clock,
      new Budget(0, 0),
      link,
      freshStats(),
      () => undefined,
    );
    const poll = (): void => {
      // TCP notices a cut, and the death of the other side.
      if (!ends.open) return;
      if (!this.linkUp || !far.owner.alive) close();
      else setTimeout(poll, 50);
    };
    setTimeout(poll, 50);
    return undefined;
  }

  private killNear(power: boolean): void {
    const { near } = this;
    if (near === undefined) return;
    near.owner.alive = false;
    near.session = undefined;
    this.near = undefined;
    if (power) {
      this.nearDisk.cutPower();
      this.boot++;
      this.bootStartMs = this.time.now;
      // A board without a battery wakes in 1970.
      this.wallErrorUs = this.chance() < 0.5 ? -START_US - this.time.now * 1000 : 0;
    }
    const delay = 50 + this.chance() * 500;
    setTimeout(() => void this.startNear(), delay);
  }

  // ---- collector ----

  private async startFar(): Promise<void> {
    const owner = { alive: true };
    await this.time.as(owner, async () => {
      const env = this.env(false);
      const say = ({ event, text }: { event: string; text: string }): void => {
        this.trace(`collector ${event} ${text.length}`);
        if (DAMAGE.test(event)) this.lakeSaid.push(text);
        this.debug(`${event}: ${text}`);
      };
      const log = new EmbeddedLog(
        {
          folder: '',
          cacheBytes: 4096,
          topics: topics(Infinity),
          now: () => env.clock.wallUs() / 1000,
          openDatabase: () => openSim(this.farDisk, owner),
          reopenMs: 50,
        },
        say,
      );
      for (;;) {
        try {
          await log.open();
          break;
        } catch {
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
      }
      const decode = new DecodeStage(
        log,
        new Mappings([]),
        { perClient: 1e6, perGateway: 1e6 },
        say,
      );
      const storing = new StoreStage({
        log,
        store: this.store.seenBy(owner),
        notify: say,
        fillRate: 1e6,
      });
      const ledger = new LedgerView(log);
      decode.turnMs = 0;
      decode.start();
      storing.start();
      await ledger.start();
      const wallMs = (): number => Math.round(env.clock.wallUs() / 1000);
      const newId = (): string => env.random.bytes(6).toString('hex');
      const given = { log, ledger, notify: say, wallMs, newId, control: this.control };
      const centre = this.files === undefined ? undefined : new Centre(given);
      await centre?.open();
      const real = log.append.bind(log);
      // A control: decoding forgets what it has seen whenever it starts.
      if (this.control === 'no-dedupe')
        log.state = () =>
          Promise.resolve([{ key: 'forgotten', value: Buffer.alloc(0), headers: {} }]);
      // A control: the log says yes before it has anything.
      if (this.control === 'lying-log') {
        log.append = (topic, records) => {
          void real(topic, records).catch(() => undefined);
          return Promise.resolve();
        };
      }
      const options = { pendingBytesMax: 1 << 20, refuse: () => undefined };
      const collectorClock = new CollectorClock({
        env,
        notify: say,
        trusted: false,
        notBeforeMs: NOT_BEFORE_US / 1000,
      });
      collectorClock.start(ledger.newestMs());
      const receiver = new Receiver(
        env,
        options,
        log,
        ledger,
        say,
        collectorClock,
        () => undefined,
      );
      this.far = { owner, receiver, ledger, log, decode, centre };
    });
  }

  private wakeWrong(errorUs: number, forMs: number): void {
    this.fire('collector clock');
    this.farErrorUs = errorUs;
    setTimeout(() => {
      this.farErrorUs = 0;
      this.trace('collector clock set');
    }, forMs);
  }

  private killFar(power: boolean): void {
    const { far } = this;
    if (far === undefined) return;
    far.owner.alive = false;
    this.far = undefined;
    if (power) {
      this.farDisk.cutPower();
      this.files?.cutPower();
      // Without a battery it wakes long ago, and is set a while later.
      if (this.chance() < 0.4) this.wakeWrong(-400 * DAY_US, 200 + this.chance() * 4000);
    }
    setTimeout(() => void this.startFar(), 100 + this.chance() * 1000);
  }

  // ---- faults ----

  private mischief(): void {
    const { chance } = this;
    const passing = (fault: string, on: () => void, off: () => void, ms: number): void => {
      this.fire(fault);
      on();
      setTimeout(off, ms);
    };
    const lot = chance();
    const length = (100 + chance() * 3000) * (this.thins ? THIN_OUTAGES : 1);
    if (lot < 0.12) {
      this.fire('gateway killed');
      this.killNear(false);
    } else if (lot < 0.26) {
      this.fire('gateway power cut');
      this.killNear(true);
    } else if (lot < 0.36) {
      this.fire('collector killed');
      this.killFar(false);
    } else if (lot < 0.44) {
      this.fire('collector power cut');
      this.killFar(true);
    } else if (lot < 0.56) {
      passing(
        'link cut',
        () => (this.linkUp = false),
        () => (this.linkUp = true),
        length,
      );
    } else if (lot < 0.64) {
      passing(
        'black hole',
        () => (this.blackHole = true),
        () => (this.blackHole = false),
        length,
      );
    } else if (lot < 0.7) {
      passing(
        'slow link',
        () => (this.linkLatencyMs = 400),
        () => (this.linkLatencyMs = 5),
        length,
      );
    } else if (lot < 0.8) {
      const faults = { failedWrite: 0.2, failedButWritten: 0.5 };
      const none = { failedWrite: 0, failedButWritten: 0 };
      const disk = chance() < 0.5 ? this.nearDisk : this.farDisk;
      passing(
        'failing writes',
        () => (disk.faults = faults),
        () => (disk.faults = none),
        length,
      );
    } else if (lot < 0.84) {
      passing(
        'failing store',
        () => (this.store.faults = { failedCall: 0.4, failedButDone: 0.5 }),
        () => (this.store.faults = { failedCall: 0, failedButDone: 0 }),
        length,
      );
    } else if (lot < 0.9) {
      const disk = chance() < 0.6 ? this.nearDisk : this.farDisk;
      passing(
        'full disk',
        () => (disk.full = true),
        () => (disk.full = false),
        length,
      );
    } else if (lot < 0.94) {
      this.fire('clock step');
      this.wallErrorUs = chance() < 0.5 ? 0 : (chance() - 0.5) * 7200e6;
    } else if (this.seed % 4 === 0) {
      // Rot is its own kind of run: there losses are allowed, if every one is reported.
      const key = this.nearDisk.rot('f');
      if (key !== undefined) {
        this.rotted = true;
        this.fire('bit flip');
        this.killNear(false);
      }
    }
  }

  /** What befalls the lake's disk alone. */
  private lakeMischief(files: SimFiles): void {
    const { chance } = this;
    const lot = chance();
    const none = { failedCall: 0, lyingSync: 0 };
    const length = 100 + chance() * 2000;
    if (lot < 0.3) {
      this.fire('failing files');
      files.faults = { ...none, failedCall: 0.1 };
      setTimeout(() => (files.faults = none), length);
    } else if (lot < 0.5) {
      this.fire('full lake disk');
      files.full = true;
      setTimeout(() => (files.full = false), length);
    } else if (lot < 0.7 && this.seed % 3 === 0) {
      this.fire('lying fsync');
      files.faults = { ...none, lyingSync: 0.3 };
      setTimeout(() => (files.faults = none), length);
    } else if (lot < 0.75 && this.seed % 4 === 1) {
      const all = files.under(`${ROOT}/lake`);
      if (all[Math.floor(chance() * all.length)]?.[1].rot(chance) === true) {
        this.lakeRotted = true;
        this.fire('lake bit flip');
      }
    } else if (lot > 0.8) {
      this.fire('collector power cut');
      this.killFar(true);
    }
  }

  private heal(): void {
    this.healed = true;
    if (this.files !== undefined) {
      this.files.full = false;
      this.files.faults = { failedCall: 0, lyingSync: 0 };
    }
    this.linkUp = true;
    this.blackHole = false;
    this.linkLatencyMs = 5;
    for (const disk of [this.nearDisk, this.farDisk]) {
      disk.full = false;
      disk.faults = { failedWrite: 0, failedButWritten: 0 };
    }
    this.store.faults = { failedCall: 0, failedButDone: 0 };
    this.wallErrorUs = 0;
    this.farErrorUs = 0;
  }

  async run(): Promise<Outcome> {
    const { time } = this;
    time.reset();
    await this.startedBoth();
    const publishing = setInterval(() => this.publish(), 40);
    const faults = setInterval(() => {
      if (!this.healed && this.chance() < 0.5) this.mischief();
      if (!this.healed && this.files !== undefined && this.chance() < 0.2)
        this.lakeMischief(this.files);
    }, 400);
    await time.run(FAULTS_UNTIL_MS);
    clearInterval(faults);
    clearInterval(publishing);
    // Passing faults end, restarts come up; then everything is well.
    await time.run(FAULTS_UNTIL_MS + 4000);
    this.heal();
    await this.rest();
    this.check();
    if (this.far?.centre !== undefined) await this.checkCentre(this.far, this.far.centre);
    if (this.near !== undefined) this.near.owner.alive = false;
    if (this.far !== undefined) this.far.owner.alive = false;
    return {
      seed: this.seed,
      broken: this.broken,
      trace: this.traceHash.toString(16).padStart(8, '0'),
      acknowledged: this.acknowledged.size,
      stored: this.store.points.size,
      events: time.events,
      fired: this.fired,
    };
  }

  /** Until nothing has been left to do for a while. */
  private async rest(): Promise<void> {
    const { time } = this;
    let quiet = 0;
    const end = time.now + QUIET_MS;
    for (let at = time.now + 1000; at < end && quiet < 4; at += 1000) {
      await time.run(at);
      quiet = this.isQuiet() ? quiet + 1 : 0;
    }
    if (quiet < 4) this.broken.push(`it did not come to rest: ${this.state()}`);
  }

  /** Asks the collector for something and gives it the time that it takes. */
  private async ask<T>({ owner }: Far, work: () => Promise<T>): Promise<T | undefined> {
    const { time } = this;
    let answer: T | undefined;
    let isDone = false;
    void time.as(owner, () =>
      work()
        .then((given) => (answer = given))
        .catch((error: unknown) => this.broken.push(`asked, it fails: ${String(error)}`))
        .finally(() => (isDone = true)),
    );
    await time.run(time.now + QUIET_MS, () => isDone);
    return answer;
  }

  /** The laws behind the log. */
  private async checkCentre(far: Far, centre: Centre): Promise<void> {
    const { broken, lakeSaid } = this;
    await this.ask(far, () => centre.look());
    await this.rest();
    await this.ask(far, () => centre.lastTally());
    await this.rest();
    const seen = await this.ask(far, () => centre.seen());
    if (seen === undefined) return;
    // Of a gateway that lost messages those are missing here as well, and reported as there.
    const isShort = this.rotted || this.thins;
    const acknowledged = isShort ? new Set<number>() : this.acknowledged;
    const untilMs = START_US / 1000 + this.time.now - 10_000;
    broken.push(...checkCentre(seen, this.store, acknowledged, untilMs));
    const isInDoubt = this.lakeRotted || (this.files?.lied ?? 0) > 0;
    // What a batch has noted may be gone then.
    if (!isInDoubt) broken.push(...checkTally(seen));
    if (lakeSaid.length > 0 && !isInDoubt)
      broken.push(`the lake says ${lakeSaid.length} times that it is damaged: ${lakeSaid[0]}`);
  }

  private async startedBoth(): Promise<void> {
    // A clock that is wrong and plausible: nothing in the log is newer, and the gateway believes it, until it is set.
    if (this.seed % 5 === 1) this.wakeWrong(-20 * DAY_US, 350);
    void this.startFar();
    void this.startNear();
    await this.time.run(50);
  }

  private state(): string {
    const { near, far } = this;
    return JSON.stringify({
      gateway: near?.buffer.state ?? 'down',
      buffer: near?.buffer.stats(),
      session: near?.session !== undefined,
      log: far?.log.groups().filter(({ lagRecords }) => lagRecords !== 0) ?? 'down',
      centre: far?.centre?.waits,
      held: far?.decode.heldFrames,
      epochs: near?.buffer.epochs.all.map(({ boot, epoch, offsetUs, next }) => [
        boot,
        epoch,
        offsetUs,
        next,
      ]),
      waits:
        process.env['HEADWATER_SIM_DEBUG'] === undefined
          ? undefined
          : [...this.farDisk.content.keys()]
              .filter((key) => /^cledger.(held|clock)/.test(key))
              .slice(0, 8),
    });
  }

  private isQuiet(): boolean {
    const { near, far } = this;
    if (near === undefined || far === undefined) return false;
    const { waitingMessages, pendingBytes } = near.buffer.stats();
    const lag = far.log
      .groups()
      .filter(({ group }) => !PASSING.test(group))
      .reduce((sum, { lagRecords }) => sum + (lagRecords ?? 1), 0);
    const { waits = '' } = far.centre ?? {};
    const isQuiet = waitingMessages === 0 && pendingBytes === 0 && lag === 0 && waits === '';
    return isQuiet && far.decode.heldFrames === 0;
  }

  /** The laws, against what the client saw. */
  private check(): void {
    const { broken, store, sent } = this;
    const times = new Map<number, number[]>();
    const summaries: Thinned[] = [];
    let copies = 0;
    for (const [point, identities] of store.points) {
      const [time = '', value = ''] = point.split(' ');
      const thinned = thinnedOf(value, Number(time.split('.')[0]));
      if (thinned !== undefined) {
        summaries.push(thinned);
        copies += identities.size - 1;
        continue;
      }
      const list = times.get(Number(value)) ?? [];
      times.set(Number(value), list);
      list.push(Number(time.split('.')[0]));
      copies += identities.size - 1;
    }
    const absent = [...this.acknowledged].filter((value) => !times.has(value));
    const answer = this.far?.ledger.answer();
    const missing = this.thins ? this.unthinned(absent, times, summaries, answer) : absent;
    if (missing.length > 0 && !this.rotted)
      broken.push(
        `${missing.length} acknowledged messages are missing, the first is ${missing[0]}`,
      );
    if (missing.length > 0 && this.rotted) this.checkReported(missing.length);
    if (!this.rotted && !this.thins && answer?.missing !== false)
      broken.push(`the ledger says that something is missing: ${missingIn(answer)}`);
    const doubled = [...times].filter(([, list]) => list.length > 1);
    if (process.env['HEADWATER_SIM_DEBUG'] !== undefined)
      for (const [value] of doubled.slice(0, 3))
        for (const [point, identities] of store.points)
          if (point.endsWith(` ${value}`))
            process.stdout.write(`  ${point} by ${[...identities].join(' ')}\n`);
    if (doubled.length > 0 || copies > 0)
      broken.push(
        `${doubled.length + copies} messages are there more than once, the first is ${doubled[0]?.[0]}`,
      );
    const placed = [
      ...[...times].map(([value, [time]]) => ({ value, time, truth: sent.get(value) })),
      // Placed at the middle of its time.
      ...summaries.map(({ least, most, timeMs: time }) => {
        const [from, to] = [sent.get(least), sent.get(most)];
        const truth = from === undefined || to === undefined ? undefined : (from + to) / 2;
        return { value: `${least} to ${most}`, time, truth };
      }),
    ];
    for (const { value, time, truth } of placed) {
      if (truth === undefined) {
        broken.push(`the value ${value} was never sent`);
        continue;
      }
      // Within a boot that asked for the time: the link's round trip. Over boots: as far as their order tells, and a
      // clock that was set wrong in a boot that never asked is plausible within that.
      const stepped = this.fired['clock step'] !== undefined;
      const bound = this.boot === 0 ? 2000 : stepped ? 3_630_000 : 30_000;
      if (Math.abs((time ?? 0) - truth) > bound) {
        broken.push(
          `the value ${value} is ${Math.round(((time ?? 0) - truth) / 1000)} s off its time`,
        );
        break;
      }
    }
  }

  /** Of acknowledged messages that are in no reading those for which no summary stands, beyond what is reported as dropped. */
  private unthinned(
    absent: readonly number[],
    present: { has(value: number): boolean },
    summaries: readonly Thinned[],
    answer: LedgerAnswer | undefined,
  ): number[] {
    let thinned = 0;
    for (const { count } of summaries) thinned += count;
    if (thinned > 0) this.fired['thinned'] = (this.fired['thinned'] ?? 0) + 1;
    const rest = absent.filter(
      (value) => !summaries.some(({ least, most }) => value >= least && value <= most),
    );
    const doubled = summaries.filter(({ least, most, count }) => {
      let alone = 0;
      for (let value = least; value <= most; value++) if (!present.has(value)) alone++;
      return alone < count;
    });
    // What a process before has sent, the next one does not know.
    const isOneProcess = this.processes === 1;
    if (doubled.length > 0 && isOneProcess)
      this.broken.push(
        `${doubled.length} summaries stand for messages that are there as well, the first of ${doubled[0]?.least} to ${doubled[0]?.most}`,
      );
    const all = (answer?.gateways ?? []).flatMap(({ epochs }) => epochs);
    if (!this.rotted && all.some((epoch) => epoch.missing.length + epoch.damage.length > 0))
      this.broken.push(`the ledger says that something is missing: ${missingIn(answer)}`);
    const dropped = all
      .flatMap(({ lost }) => lost)
      .filter(({ cause }) => cause === 'dropped')
      .reduce((sum, { from, to }) => sum + (to ?? from) - from + 1, 0);
    if (dropped > 0) this.fired['dropped'] = (this.fired['dropped'] ?? 0) + 1;
    if (!this.rotted && absent.length > thinned + dropped)
      this.broken.push(
        `${absent.length} messages are in no reading, summaries stand for ${thinned}, and ${dropped} are reported as dropped`,
      );
    return rest.slice(dropped);
  }

  /** After a flipped bit: what is missing is in a loss report or named as missing, and no more of it than that. */
  private checkReported(count: number): void {
    let reported = 0;
    let damage = 0;
    for (const { epochs } of this.far?.ledger.answer().gateways ?? []) {
      for (const epoch of epochs) {
        for (const { from, to } of epoch.lost)
          reported += to === null ? Number.POSITIVE_INFINITY : to - from + 1;
        for (const { from, to } of epoch.missing) reported += to - from + 1;
        damage += epoch.damage.length;
      }
    }
    if (process.env['HEADWATER_SIM_DEBUG'] !== undefined)
      process.stdout.write(`${JSON.stringify(this.far?.ledger.answer(), null, 1)}\n`);
    if (reported < count && damage === 0)
      this.broken.push(`${count} acknowledged messages are missing, ${reported} are reported`);
  }
}

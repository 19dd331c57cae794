/** The trials of `headwater prove`, one after another on a folder of their own. */
import { join } from 'node:path';
import { environmentName } from '../../shared/config/spec.ts';
import { startGateway, type Launch, type TriedGateway } from './child.ts';
import { sizeOf, written } from './disk.ts';
import { compare, type Verdict } from './held.ts';
import { Load, chance, pause } from './load.ts';

const MIB = 1024 * 1024;
const DAY_S = 86_400;
const YEAR_DAYS = 365;
/** The least that the buffer's limit may be. */
const FULL_BYTES = 16 * MIB;
const FULL_PAD_BYTES = 4000;
/** So long without an acknowledgement: they are held back. */
const STALL_MS = 2000;
/** What a card without a figure is taken to bear: so many times its size. */
const OVERWRITES_ASSUMED = 100;

export interface Trials {
  launch: Launch;
  folder: string;
  seed: number;
  kills: number;
  /** Of the load whose wear is measured. */
  perSecond: number;
  seconds: number;
  /** What the card may have written in its life; undefined: assumed. */
  enduranceBytes: number | undefined;
}

/** Tenths of a second that the first acknowledgement of a life is waited for. */
const FIRST_TRIES = 200;

/** kill -9 at random moments of a load as fast as it goes; each start goes on with the same folder. */
export async function kills({ launch, folder, seed, kills }: Trials): Promise<Verdict> {
  const data = join(folder, 'kills');
  const random = chance(seed);
  const load = new Load();
  for (let i = 0; i < kills; i++) {
    const gateway = await startGateway(launch, data);
    const before = load.acknowledged.size;
    const loading = load.run(gateway, { padBytes: 40, everyMs: 0 }, new Promise(() => undefined));
    await pause(150 + random() * 850);
    // A life in which nothing was acknowledged proves nothing: a busy machine takes longer to the first.
    for (let tries = 0; tries < FIRST_TRIES && load.acknowledged.size === before; tries++)
      await pause(100);
    await gateway.kill();
    await loading;
  }
  return await verdict(launch, data, load.acknowledged);
}

async function verdict(
  launch: Launch,
  data: string,
  acknowledged: ReadonlySet<number>,
  settings: Record<string, string> = {},
): Promise<Verdict> {
  const gateway = await startGateway(launch, data, settings);
  try {
    return await compare(gateway, acknowledged);
  } finally {
    await gateway.kill();
  }
}

export interface FullVerdict extends Verdict {
  /** Acknowledgements were held back when it was full. */
  heldBack: boolean;
}

/** The buffer's own limit stands for the disk's end: nobody's real disk is filled. Killed while it is full. */
export async function full({ launch, folder }: Trials): Promise<FullVerdict> {
  const data = join(folder, 'full');
  const settings = { [environmentName('buffer.diskBytesMax')]: String(FULL_BYTES) };
  const load = new Load();
  const gateway = await startGateway(launch, data, settings);
  const count = Math.ceil((2 * FULL_BYTES) / FULL_PAD_BYTES);
  let last = performance.now();
  const stalled = (async () => {
    while (performance.now() - last < STALL_MS) await pause(50);
  })();
  await load.run(gateway, { padBytes: FULL_PAD_BYTES, everyMs: 0, count }, stalled, () => {
    last = performance.now();
  });
  const heldBack = load.acknowledged.size < count;
  await gateway.kill();
  return { ...(await verdict(launch, data, load.acknowledged, settings)), heldBack };
}

export interface Wear {
  messagesPerSecond: number;
  payloadBytesPerDay: number;
  /** By the gateway's process alone, without the file system's journal: the least. Undefined where the system does not tell. */
  processBytesPerDay: number | undefined;
  /** To the whole device, with what other programs wrote meanwhile: the most. */
  deviceBytesPerDay: number | undefined;
  /** Of what was published, how often the process writes it. */
  amplification: number | undefined;
  enduranceBytes: number;
  isAssumed: boolean;
  /** By the device's figure and by the process's. */
  yearsLeast: number | undefined;
  yearsMost: number | undefined;
}

/** What a steady load of lone messages writes. */
export async function wear(trials: Trials): Promise<Wear> {
  const { launch, folder, perSecond, seconds } = trials;
  const data = join(folder, 'wear');
  const gateway = await startGateway(launch, data);
  try {
    // What a start writes belongs to no day.
    await pause(500);
    return await steady(trials, gateway, data, perSecond * seconds);
  } finally {
    await gateway.kill();
  }
}

async function steady(
  { folder, perSecond, enduranceBytes: given }: Trials,
  gateway: TriedGateway,
  data: string,
  count: number,
): Promise<Wear> {
  const load = new Load();
  const [before, started] = [written(gateway.pid, data), performance.now()];
  const spec = { padBytes: 40, everyMs: 1000 / perSecond, count };
  await load.run(gateway, spec, new Promise(() => undefined));
  const [after, seconds] = [written(gateway.pid, data), (performance.now() - started) / 1000];
  const since = (key: 'byProcess' | 'toDevice'): number | undefined =>
    before[key] === undefined || after[key] === undefined ? undefined : after[key] - before[key];
  const [device, own] = [since('toDevice'), since('byProcess')];
  const perDay = (bytes: number | undefined): number | undefined =>
    bytes === undefined ? undefined : (bytes / seconds) * DAY_S;
  const enduranceBytes = given ?? OVERWRITES_ASSUMED * (await sizeOf(folder));
  // A counter that stood still has counted nothing.
  const years = (bytes: number | undefined): number | undefined =>
    bytes === undefined || bytes === 0
      ? undefined
      : enduranceBytes / ((bytes / seconds) * DAY_S) / YEAR_DAYS;
  return {
    messagesPerSecond: load.acknowledged.size / seconds,
    payloadBytesPerDay: (load.payloadBytes / seconds) * DAY_S,
    processBytesPerDay: perDay(own),
    deviceBytesPerDay: perDay(device),
    amplification: own === undefined ? undefined : own / load.payloadBytes,
    enduranceBytes,
    isAssumed: given === undefined,
    yearsLeast: years(device),
    yearsMost: years(own),
  };
}

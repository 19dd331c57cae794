/**
 * A fleet of made-up sensors: what each publishes, and when. A pure function of its options: the same seed and start give
 * the same messages, byte for byte.
 *
 * Each sensor publishes every `everyMs` with a phase and a jitter of its own. Its values walk around a daily curve. With
 * `outages` it falls silent now and then, for 5 to 40 intervals, that share of the time. With `badClocks` that share of
 * the sensors writes times into its payloads that are wrong: it counts from 1970, is hours ahead, or drifts.
 */

export const KINDS = ['climate', 'power', 'door', 'tank', 'tracker'] as const;
export type Kind = (typeof KINDS)[number];

export interface Fleet {
  seed: number;
  sensors: number;
  kinds: readonly Kind[];
  /** Between two messages of a sensor. */
  everyMs: number;
  /** Share of the time that a sensor is silent, 0 to 0.9. */
  outages: number;
  /** Share of the sensors whose clock is wrong, 0 to 1. */
  badClocks: number;
  startMs: number;
  /** `{kind}` and `{sensor}` stand for a sensor's. */
  topic: string;
}

export interface Made {
  /** When it is published, epoch ms. */
  atMs: number;
  topic: string;
  payload: string;
  /** Counted from 0. */
  sensor: number;
}

const DAY_MS = 86_400_000;
const OUTAGE_MIN = 5;
const OUTAGE_MAX = 40;

/** mulberry32: numbers from 0 to 1. Its seeds are hashed, so that those of neighbours are not alike. */
function chance(seed: number): () => number {
  let state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const round = (value: number, digits: number): number => Number(value.toFixed(digits));

interface Sensor {
  index: number;
  name: string;
  topic: string;
  next: () => number;
  atMs: number;
  /** Intervals that it is still silent for. */
  silent: number;
  /** What it believes the time to be. */
  clock: (ms: number) => number;
  value: (ms: number) => Record<string, unknown>;
}

const daily = (ms: number): number => Math.sin((2 * Math.PI * (ms % DAY_MS)) / DAY_MS - 2);

/** A walk that comes back to 0. */
function walkOf(next: () => number, size: number): () => number {
  let at = 0;
  return () => (at = at * 0.95 + (next() - 0.5) * size);
}

/** Values of each kind, around a level that each sensor has of its own. */
const VALUES: Record<Kind, (next: () => number) => Sensor['value']> = {
  climate: (next) => {
    const level = next();
    const walk = walkOf(next, 0.6);
    return (ms) => {
      const temperature = 17 + 6 * level + 4 * daily(ms) + walk();
      const humidity = 75 - 1.5 * (temperature - 15) + walk();
      return {
        temperature: round(temperature, 2),
        humidity: round(Math.min(100, Math.max(0, humidity)), 1),
      };
    };
  },
  power: (next) => {
    const level = next();
    const walk = walkOf(next, 400);
    let energy = 0;
    return (ms) => {
      const watt = Math.max(0, 300 * level + 200 * (1 + daily(ms)) + walk());
      energy += watt / 360_000;
      return { power: round(watt, 1), energy: round(energy, 4) };
    };
  },
  door: (next) => {
    const battery = next();
    let isOpen = false;
    return () => {
      if (next() < 0.1) isOpen = !isOpen;
      return { state: isOpen ? 'open' : 'closed', battery_low: battery < 0.1 };
    };
  },
  tank: (next) => {
    const full = 40 + 50 * next();
    let level = full;
    return () => {
      const isEmpty = level < 5;
      level = isEmpty ? full : level - next() * 0.2;
      return { level: round(level, 1), status: isEmpty ? 'filled' : 'ok' };
    };
  },
  tracker: (next) => {
    const [lat, lon] = [57.1 + next() * 0.1, -2.1 + next() * 0.1];
    const north = walkOf(next, 0.001);
    const east = walkOf(next, 0.001);
    return () => ({
      lat: round(lat + north(), 5),
      lon: round(lon + east(), 5),
      battery: round(3 + next() * 1.2, 2),
    });
  },
};

function clockOf({ badClocks, startMs }: Fleet, next: () => number): Sensor['clock'] {
  const isBad = next() < badClocks;
  const sort = next();
  const size = next();
  if (!isBad) return (ms) => ms;
  if (sort < 1 / 3) return (ms) => ms - startMs; // Never set: it counts from 1970.
  if (sort < 2 / 3) return (ms) => ms + Math.round((1 + 11 * size) * 3_600_000);
  return (ms) => ms + Math.round((ms - startMs) * (0.0002 + 0.002 * size));
}

function sensorOf(fleet: Fleet, index: number): Sensor {
  const next = chance(fleet.seed * 1_000_003 + index);
  const kind = fleet.kinds[index % fleet.kinds.length] as Kind; // At least one: the command says so.
  const name = `${kind}-${String(index + 1).padStart(String(fleet.sensors).length, '0')}`;
  return {
    index,
    name,
    topic: fleet.topic.replaceAll('{kind}', kind).replaceAll('{sensor}', name),
    next,
    atMs: fleet.startMs + Math.floor(next() * fleet.everyMs),
    silent: 0,
    clock: clockOf(fleet, next),
    value: VALUES[kind](next),
  };
}

/** Sets the time of the sensor's next message; false: it is silent now. */
function advance(sensor: Sensor, { everyMs, outages }: Fleet): boolean {
  const { next } = sensor;
  sensor.atMs += Math.max(1, Math.round(everyMs * (0.95 + 0.1 * next())));
  if (sensor.silent > 0) {
    sensor.silent--;
    return false;
  }
  const mean = (OUTAGE_MIN + OUTAGE_MAX) / 2;
  if (next() < outages / (mean * (1 - outages)))
    sensor.silent = OUTAGE_MIN + Math.floor(next() * (OUTAGE_MAX - OUTAGE_MIN + 1));
  return true;
}

/** A binary heap by time, then by number: thousands of sensors, one next message. */
function sift(heap: Sensor[], from: number): void {
  const before = (a: Sensor, b: Sensor): boolean =>
    a.atMs < b.atMs || (a.atMs === b.atMs && a.index < b.index);
  for (let at = from; ; ) {
    let least = at;
    for (const child of [2 * at + 1, 2 * at + 2]) {
      const [one, other] = [heap[child], heap[least]];
      if (one !== undefined && other !== undefined && before(one, other)) least = child;
    }
    if (least === at) return;
    [heap[at], heap[least]] = [heap[least] as Sensor, heap[at] as Sensor];
    at = least;
  }
}

/** In the order of their times, without an end. */
export function* simulate(fleet: Fleet): Generator<Made> {
  const heap = Array.from({ length: fleet.sensors }, (_, index) => sensorOf(fleet, index));
  for (let at = heap.length >> 1; at >= 0; at--) sift(heap, at);
  for (;;) {
    const sensor = heap[0];
    if (sensor === undefined) return;
    const { atMs, topic, index } = sensor;
    const values = sensor.value(atMs);
    if (advance(sensor, fleet)) {
      const time = new Date(sensor.clock(atMs)).toISOString();
      yield { atMs, topic, payload: JSON.stringify({ time, ...values }), sensor: index };
    }
    sift(heap, 0);
  }
}

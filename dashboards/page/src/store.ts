/**
 * What the page knows: the newest value of each series, the overview, and whether the collector is there. One stream and
 * one small question every few seconds keep it true; what came while the collector was away is asked for when it is back.
 */
import { useEffect, useState } from 'preact/hooks';
import { pathOf, type Answer, type Asked, type Query } from '../../../shared/http/client.ts';
import { Gone, Refused, address, get, hasToken } from './net.ts';
import { keyOf, sensorOf, type Point, type Series, type Value } from './series.ts';

export type Overview = Answer<'/api/v1/overview'>;

interface Arrival {
  measurement: string;
  tags: Record<string, string>;
  fields: Record<string, Value>;
  time: number;
}

const OVERVIEW_MS = 5000;
const AWAY_MS = 1500;
/** Changes are shown together: a reading is on the page well within a second. */
const SHOW_MS = 200;

export const state = {
  series: new Map<string, Series>(),
  overview: undefined as Overview | undefined,
  connection: 'loading' as 'loading' | 'live' | 'gone',
  /** When the last answer came, by this browser's clock. */
  aliveMs: Date.now(),
  needsToken: false,
  /** One was given, and is not taken, or not any more. */
  tokenRefused: false,
  /** Why the values could not be read, though the collector answers. */
  refused: '',
  readings: 0,
  /** Grows when everything has to be read again: at the start, and when the collector is back. */
  round: 0,
  /** Grows when a series appears or is gone. */
  kinds: 0,
};

/** For how long the quarantine is watched for growth. */
const GROWTH_MS = 300_000;
const quarantined: [ms: number, count: number][] = [];

function watchQuarantine(count: number | null): void {
  if (count === null) return;
  const now = Date.now();
  quarantined.push([now, count]);
  while ((quarantined[0]?.[0] ?? now) < now - GROWTH_MS) quarantined.shift();
}

/** By how much it has grown in the last five minutes, as far as this page was open. */
export function quarantineGrowth(): number {
  const [, last = 0] = quarantined.at(-1) ?? [];
  return last - Math.min(...quarantined.map(([, count]) => count), last);
}

const listeners = new Set<() => void>();
let planned = false;
export function changed(): void {
  if (planned) return;
  planned = true;
  setTimeout(() => {
    planned = false;
    for (const listener of listeners) listener();
  }, SHOW_MS);
}

/** Draws its component again when something has changed, and once in a while for what is written as "5 s ago". */
export function useStore(): typeof state {
  const [, draw] = useState(0);
  useEffect(() => {
    const listener = (): void => draw((count) => count + 1);
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }, []);
  return state;
}

const readers = new Set<(key: string, time: number, value: Value) => void>();
/** Hears every reading as it comes, until what it returns is called. */
export function onReading(reader: (key: string, time: number, value: Value) => void): () => void {
  readers.add(reader);
  return () => void readers.delete(reader);
}

let appeared = 0;
function take(point: Point, isLive: boolean): void {
  const key = keyOf(point.measurement, point.tags, point.field);
  let series = state.series.get(key);
  if (series === undefined) {
    const { measurement, field, tags, time, value } = point;
    series = {
      key,
      measurement,
      field,
      tags,
      time,
      value,
      unit: '',
      name: '',
      appeared: 0,
      heardMs: 0,
      text: '',
    };
    // Also what only a later look at everything shows.
    if (isLive || state.round > 0) series.appeared = ++appeared;
    state.series.set(key, series);
    state.kinds++;
  }
  if (point.unit !== undefined) series.unit = point.unit;
  if (point.name !== undefined) series.name = point.name;
  if (series.text === '' || point.name !== undefined)
    series.text =
      `${series.measurement} ${series.field} ${sensorOf(series)} ${Object.values(series.tags).join(' ')}`.toLowerCase();
  if (point.time >= series.time) {
    series.time = point.time;
    series.value = point.value;
  }
  if (!isLive) return;
  series.heardMs = Date.now();
  for (const reader of readers) reader(key, point.time, point.value);
}

/**
 * What the stream has not said: of a crowd of series that came in together, and what was on its way into the store when it
 * was opened. Everything is read again, a few seconds after, and as long as there are crowds.
 */
const MORE_MS = 5000;
const CROWD_MS = 15_000;
let crowdedUntilMs = 0;
let more: ReturnType<typeof setTimeout> | undefined;
function readMore(): void {
  more ??= setTimeout(() => {
    more = undefined;
    void readAll(true);
    if (Date.now() < crowdedUntilMs) readMore();
  }, MORE_MS);
}

function arrived(data: string): void {
  const { count, unsaid, readings } = JSON.parse(data) as {
    count: number;
    unsaid?: number;
    readings: Arrival[];
  };
  state.readings += count;
  if (unsaid !== undefined) {
    crowdedUntilMs = Date.now() + CROWD_MS;
    readMore();
  }
  alive();
  for (const { measurement, tags, fields, time } of readings)
    for (const [field, value] of Object.entries(fields))
      take({ measurement, tags, field, time, value }, true);
  changed();
}

function alive(): void {
  state.aliveMs = Date.now();
  if (state.connection === 'gone') void readAll();
  else if (state.connection === 'loading' && state.round > 0) state.connection = 'live';
}

/** `error` is what a question ended with. */
export function failed(error: unknown): void {
  if (error instanceof Refused && error.status === 401) {
    state.needsToken = true;
    state.tokenRefused = hasToken();
  }
  if (error instanceof Gone && state.connection !== 'gone') {
    state.connection = 'gone';
    again(AWAY_MS);
  }
  changed();
}

/** A reading may be on its way into the store for so long. */
const ON_THE_WAY_MS = 60_000;
/** What the store has nothing of, and nobody has heard of since: decoded anew under other names, or past its retention. */
function forget(stored: readonly Point[], heardBeforeMs: number): void {
  const keys = new Set(
    stored.map(({ measurement, tags, field }) => keyOf(measurement, tags, field)),
  );
  for (const { key, heardMs } of [...state.series.values()]) {
    if (keys.has(key) || heardMs >= heardBeforeMs) continue;
    state.series.delete(key);
    state.kinds++;
  }
}

/** Names may be others now than before `sinceMs`: the old ones go as soon as the store has let go of them. */
export function renamed(sinceMs: number): void {
  for (const ms of [0, MORE_MS, 2 * MORE_MS]) setTimeout(() => void readAll(true, sinceMs), ms);
}

let reading = false;
/** All newest values: at the start, and when the collector is back; `isMore`: while it is there, for what the stream has not said. */
async function readAll(isMore = false, heardBeforeMs = Date.now() - ON_THE_WAY_MS): Promise<void> {
  if (reading) return;
  reading = true;
  try {
    const { series } = await get('/api/v1/latest');
    const isFirst = state.round === 0;
    for (const point of series) take(point, false);
    forget(series, heardBeforeMs);
    if (isMore) return;
    state.refused = '';
    state.needsToken = false;
    state.aliveMs = Date.now();
    state.connection = 'live';
    state.round++;
    if (isFirst || stream === undefined) listen();
  } catch (error) {
    if (error instanceof Refused) {
      state.refused = error.message;
      state.connection = 'live';
      if (error.status !== 401) setTimeout(() => void readAll(), AWAY_MS);
    }
    failed(error);
  } finally {
    reading = false;
  }
  changed();
}

let timer: ReturnType<typeof setTimeout> | undefined;
function again(ms: number): void {
  clearTimeout(timer);
  timer = setTimeout(() => void overview(), ms);
}

async function overview(): Promise<void> {
  try {
    state.overview = await get('/api/v1/overview');
    watchQuarantine(state.overview.quarantined);
    alive();
  } catch (error) {
    failed(error);
  }
  changed();
  // Each question with a wrong token is counted against this address.
  if (!state.needsToken) again(state.connection === 'gone' ? AWAY_MS : OVERVIEW_MS);
}

let stream: EventSource | undefined;
let wasCut = false;
function listen(): void {
  stream?.close();
  stream = new EventSource(address('api/v1/stream?newest=200'));
  stream.addEventListener('readings', (event: MessageEvent<string>) => arrived(event.data));
  stream.addEventListener('open', () => {
    // What came between is not in the stream.
    if (wasCut) void readAll();
    wasCut = false;
    readMore();
  });
  stream.addEventListener('error', () => {
    wasCut = true;
    stream?.close();
    stream = undefined;
    // Whether it is the collector or only the stream shows the next question.
    again(0);
    setTimeout(() => (state.needsToken ? undefined : listen()), AWAY_MS);
  });
}

/** After a token was given, as at the start. */
export function begin(): void {
  state.needsToken = false;
  state.tokenRefused = false;
  void readAll();
  again(0);
}
setInterval(changed, 1000);

export interface Loaded<T> {
  data: T | undefined;
  /** Why not, as one sentence; empty while the collector is away, which the banner says. */
  error: string;
  reload: () => void;
}

/** An answer of the API, read again when the collector is back and every `everyMs`, if that is given. */
export function useLoad<P extends Asked>(of: P, everyMs = 0, query?: Query<P>): Loaded<Answer<P>> {
  const path = pathOf(of, query);
  const [answer, setAnswer] = useState<{ path: string; data?: Answer<P>; error: string }>();
  const [turn, setTurn] = useState(0);
  const { round } = useStore();
  useEffect(() => {
    let isWanted = true;
    let next: ReturnType<typeof setTimeout> | undefined;
    const load = async (): Promise<void> => {
      try {
        const data = await get(of, query);
        if (isWanted) setAnswer({ path, data, error: '' });
      } catch (error) {
        if (!isWanted) return;
        failed(error);
        if (error instanceof Refused) setAnswer({ path, error: error.message });
      }
      if (isWanted && everyMs > 0) next = setTimeout(() => void load(), everyMs);
    };
    void load();
    return () => {
      isWanted = false;
      clearTimeout(next);
    };
  }, [path, everyMs, round, turn]);
  const current = answer?.path === path ? answer : undefined;
  return {
    data: current?.data,
    error: current?.error ?? '',
    reload: () => setTurn((count) => count + 1),
  };
}

/** The live stream by server-sent events and by WebSocket: filters, going on after an id, slow and hostile listeners. */
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { Collector } from '../../collector/collector.ts';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { hashOf } from '../../shared/access/tokens.ts';
import { environmentName, loadConfig } from '../../shared/config/spec.ts';
import { realEnv } from '../../shared/env/env.ts';
import { temporaryFolder, until } from '../support/process.ts';

interface Event {
  type: string;
  id?: string | undefined;
  gateway?: string;
  count?: number;
  unsaid?: number;
  readings?: {
    measurement: string;
    tags: Record<string, string>;
    fields: Record<string, unknown>;
  }[];
  why?: string;
}

interface Listening {
  events: Event[];
  readonly id: string | undefined;
  readonly isOver: boolean;
  stop(): void;
  pause(): void;
  resume(): void;
}

const open: Listening[] = [];
const PAGE = 'https://dash.example.org';
let collector: Collector;
let port: number;

const idOf = (events: Event[]): string | undefined =>
  events.findLast(({ id }) => id !== undefined)?.id;

/** Reads raw, so that a pause is one for the server. */
function byEvents(query: string, headers: Record<string, string> = {}): Promise<Listening> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port });
    const state = { events: [] as Event[], over: false, text: '', begun: false };
    const listening: Listening = {
      events: state.events,
      get id() {
        return idOf(state.events);
      },
      get isOver() {
        return state.over;
      },
      stop: () => socket.destroy(),
      pause: () => socket.pause(),
      resume: () => socket.resume(),
    };
    open.push(listening);
    socket.on('error', () => undefined);
    socket.on('close', () => (state.over = true));
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      state.text += text;
      if (!state.begun) {
        const end = state.text.indexOf('\r\n\r\n');
        if (end < 0) return;
        const status = Number(state.text.slice(9, 12));
        if (status !== 200) {
          reject(new Error(`${status} ${state.text.slice(end + 4)}`));
          return;
        }
        state.begun = true;
        resolve(listening);
      }
      // Chunks hold whole events, and their sizes are no fields.
      const blocks = state.text.split('\n\n');
      state.text = blocks.pop() ?? '';
      for (const block of blocks) {
        const field = (name: string): string | undefined =>
          new RegExp(`^${name}: (.*)$`, 'm').exec(block)?.[1];
        const data = field('data');
        const event: Event = { type: field('event') ?? 'position', id: field('id') };
        if (data !== undefined) Object.assign(event, JSON.parse(data));
        if (data !== undefined || event.id !== undefined) state.events.push(event);
      }
    });
    const lines = Object.entries({
      host: `127.0.0.1:${port}`,
      authorization: 'Bearer all',
      ...headers,
    });
    socket.write(
      `GET /api/v1/stream${query} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`,
    );
  });
}

function bySocket(query: string, headers: Record<string, string> = {}): Promise<Listening> {
  return new Promise((resolve, reject) => {
    const webSocket = new WebSocket(`ws://127.0.0.1:${port}/api/v1/stream${query}`, ['headwater'], {
      headers: { authorization: 'Bearer all', ...headers },
    });
    const events: Event[] = [];
    const state = { over: false };
    const listening: Listening = {
      events,
      get id() {
        return idOf(events);
      },
      get isOver() {
        return state.over;
      },
      stop: () => webSocket.terminate(),
      pause: () => webSocket.pause(),
      resume: () => webSocket.resume(),
    };
    open.push(listening);
    webSocket.on('message', (data: Buffer) => events.push(JSON.parse(data.toString()) as Event));
    webSocket.on('close', () => (state.over = true));
    webSocket.on('open', () => resolve(listening));
    webSocket.on('unexpected-response', (_request, response) => {
      reject(new Error(String(response.statusCode)));
      webSocket.terminate();
    });
    webSocket.on('error', (error) => reject(error));
  });
}

const WAYS = [
  ['server-sent events', byEvents],
  ['WebSocket', bySocket],
] as const;

async function write(lines: readonly string[], token = 'all'): Promise<void> {
  const answer = await fetch(`http://127.0.0.1:${port}/write?precision=ms`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}` },
    body: lines.join('\n'),
  });
  expect(answer.status).toBe(204);
}

const numbersOf = (events: Event[], measurement: string): number[] =>
  events.flatMap(({ readings = [] }) =>
    readings.flatMap((each) =>
      each.measurement === measurement ? [Number(each.fields['v'])] : [],
    ),
  );
const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, at) => from + at);

function tokensFile(): string {
  const path = join(temporaryFolder(), 'tokens');
  const line = (name: string, scope: string, reach: string): string =>
    `${name}:${scope}:${reach}:${hashOf(name).toString('hex')}`;
  const list = [
    line('all', 'admin', '*'),
    line('other', 'read', 'other'),
    line('sends', 'write', '*'),
  ];
  writeFileSync(path, `${list.join('\n')}\n`, { mode: 0o600 });
  return path;
}

async function start(environment: Record<string, string> = {}): Promise<void> {
  const listen = '127.0.0.1:0';
  collector = new Collector(
    realEnv(),
    loadConfig(COLLECTOR_CONFIG, {
      flags: {
        data: temporaryFolder(),
        lake: 'none',
        uplink: listen,
        http: listen,
        'tokens-file': tokensFile(),
      },
      environment: {
        [environmentName('ingest.httpGateway')]: 'here',
        [environmentName('http.corsOrigins')]: PAGE,
        ...environment,
      },
    }),
    () => undefined,
  );
  const { http } = await collector.start(undefined);
  port = http?.port ?? 0;
}

beforeAll(() => start());
afterAll(() => collector.close());
afterEach(() => {
  for (const listening of open.splice(0)) listening.stop();
});

describe.each(WAYS)('the live stream by %s', (way, listen) => {
  const name = (text: string): string => `${text}_${way.length}`;
  const placed = async (query: string, headers?: Record<string, string>): Promise<Listening> => {
    const listening = await listen(query, headers);
    await until('its place', () => listening.id !== undefined);
    return listening;
  };

  it('tells what its filters let through, with the fields that were asked for', async () => {
    const [one, two] = [name('one'), name('two')];
    const measured = await placed(`?measurement=${one}`);
    const tagged = await placed('?tag.room=b');
    const fielded = await placed(`?measurement=${one}&field=u`);
    const topics = await placed('?topic=hall/%2B');
    const gateways = await placed('?gateway=elsewhere');
    await write([`${one},room=a v=1,u=2`, `${two},room=b v=3`]);
    await fetch(`http://127.0.0.1:${port}/api/v1/ingest?topic=hall/${name('x')}`, {
      method: 'POST',
      headers: { authorization: 'Bearer all' },
      body: '{"v":7}',
    });
    await until('all of it', () => topics.events.some(({ type }) => type === 'readings'));
    expect(numbersOf(measured.events, one)).toEqual([1]);
    expect(numbersOf(measured.events, two)).toEqual([]);
    expect(numbersOf(tagged.events, two)).toEqual([3]);
    const [heard] = fielded.events.flatMap(({ readings = [] }) => readings);
    expect(heard?.fields).toEqual({ u: 2 });
    expect(numbersOf(topics.events, name('x'))).toEqual([7]);
    for (const { events } of [measured, fielded, topics, tagged])
      expect(events.flatMap(({ readings = [] }) => readings)).toHaveLength(1);
    expect(gateways.events.filter(({ type }) => type === 'readings')).toEqual([]);
  });

  it('one that is cut again and again and goes on has every reading once, in order', async () => {
    const measurement = name('cut');
    const query = `?measurement=${measurement}`;
    const heard: Event[] = [];
    let listening = await placed(query);
    const total = 3000;
    // Records of 1 to 900 readings: some are told in several events.
    let sent = 0;
    for (const count of [1, 900, 3, 450, 250, 646, 750]) {
      await write(
        range(sent, sent + count).map((v) => `${measurement} v=${v} ${1_700_000_000_000 + v}`),
      );
      sent += count;
      const had = listening.events.length;
      await until('an event', () => listening.events.length > had || listening.isOver);
      listening.stop();
      heard.push(...listening.events);
      listening = await listen(
        `${query}${sent % 2 === 0 ? `&after=${encodeURIComponent(idOf(heard) ?? '')}` : ''}`,
        sent % 2 === 0 ? {} : { 'last-event-id': idOf(heard) ?? '' },
      );
    }
    expect(sent).toBe(total);
    await until(
      'the rest',
      () => numbersOf([...heard, ...listening.events], measurement).length >= total,
    );
    const all = [...heard, ...listening.events];
    expect(numbersOf(all, measurement)).toEqual(range(0, total));
    expect(all.every(({ readings = [] }) => readings.length <= 200)).toBe(true);
    expect(all.filter(({ type }) => type === 'resync')).toEqual([]);
  });

  it('each id of a record that is told in parts goes on behind its own part', async () => {
    const measurement = name('parts');
    const listening = await placed(`?measurement=${measurement}`);
    await write(range(0, 900).map((v) => `${measurement} v=${v} ${1_700_000_000_000 + v}`));
    await until('all', () => numbersOf(listening.events, measurement).length === 900);
    for (const [at, { id = '' }] of listening.events.entries()) {
      const rest = await listen(`?measurement=${measurement}`, { 'last-event-id': id });
      const before = numbersOf(listening.events.slice(0, at + 1), measurement);
      await until(
        'the rest',
        () => before.length + numbersOf(rest.events, measurement).length >= 900,
      );
      expect([...before, ...numbersOf(rest.events, measurement)]).toEqual(range(0, 900));
      rest.stop();
    }
  });

  it('with `newest` it is told how many there were, and the last of them', async () => {
    const measurement = name('newest');
    const listening = await placed(`?measurement=${measurement}&newest=10`);
    await write(range(0, 600).map((v) => `${measurement} v=${v} ${1_700_000_000_000 + v}`));
    const sum = (): number => listening.events.reduce((total, { count = 0 }) => total + count, 0);
    await until('all', () => sum() === 600);
    expect(listening.events.every(({ readings = [] }) => readings.length <= 10)).toBe(true);
    expect(numbersOf(listening.events, measurement).at(-1)).toBe(599);
    // One's own, at the front of a crowd that comes in with it; then a crowd of series.
    await write(range(-1, 300).map((v) => `${measurement}${v < 0 ? ',own=1' : ''} v=${v}`));
    await until(
      'all',
      () => sum() === 901 && numbersOf(listening.events, measurement).includes(-1),
    );
    await write(range(0, 30).map((v) => `${measurement},each=${v} v=${v}`));
    await until('all', () => listening.events.at(-1)?.unsaid === 20);
  });

  it('an id that is none is refused, one of another log is told', async () => {
    for (const after of ['', 'x', 'r0', 'r0:-1', 'q0:1', 'r0:1,r0:2', 'r0:1e3', '0'.repeat(20_000)])
      await expect(listen(`?after=${after}`), after.slice(0, 20)).rejects.toThrow(/^Error: 4|^4/);
    const wrong = await listen('', { 'last-event-id': 'of something else' });
    await until('the word', () => wrong.events.some(({ type }) => type === 'resync'));
    const beyond = await listen('?after=r0:999999999,s0:999999999');
    await until('the word', () => beyond.events.some(({ type }) => type === 'resync'));
    expect(beyond.events.find(({ why }) => why)?.why).toMatch(/another log/);
    const measurement = name('beyond');
    await write([`${measurement} v=1`]);
    for (const { events } of [wrong, beyond])
      await until('what comes', () => numbersOf(events, measurement).length === 1);
  });

  it('what is not known, and what a token may not see, is refused or left out', async () => {
    for (const query of ['?what=1', '?newest=0', '?newest=x', '?topic=a/%23/b', '?after=1'])
      await expect(listen(query), query).rejects.toThrow(/400/);
    await expect(listen('?gateway=here', { authorization: 'Bearer other' })).rejects.toThrow(/403/);
    await expect(listen('', { authorization: 'Bearer sends' })).rejects.toThrow(/403/);
    await expect(listen('', { authorization: 'Bearer wrong' })).rejects.toThrow(/401/);
    const other = await placed('', { authorization: 'Bearer other' });
    const all = await placed('');
    await write([`${name('seen')} v=1`]);
    await until('it', () => numbersOf(all.events, name('seen')).length === 1);
    expect(other.events.filter(({ type }) => type === 'readings')).toEqual([]);
  });

  it('one who takes nothing is cut, goes on at his own pace, and holds up nobody', async () => {
    const measurement = name('slow');
    const query = `?measurement=${measurement}`;
    const slow = await placed(query);
    const quick = await placed(`?measurement=${measurement}&newest=1`);
    slow.pause();
    // More than the kernel's buffers and the listener's limit together take.
    const pad = 'x'.repeat(1000);
    let sent = 0;
    const told = (): number => quick.events.reduce((total, { count = 0 }) => total + count, 0);
    const used = async (): Promise<number> => {
      const text = await (
        await fetch(`http://127.0.0.1:${port}/metrics`, {
          headers: { authorization: 'Bearer all' },
        })
      ).text();
      return Number(/http_limit_used\{limit="streams"\} (\d+)/.exec(text)?.[1]);
    };
    while ((await used()) > 1) {
      await write(
        range(sent, sent + 800).map(
          (v) => `${measurement},pad=${pad} v=${v} ${1_700_000_000_000 + v}`,
        ),
      );
      sent += 800;
      await until('the quick one to have it', () => told() === sent);
      expect(sent).toBeLessThan(40_000);
    }
    slow.resume();
    await until('its end', () => slow.isOver);
    const before = numbersOf(slow.events, measurement);
    const again = await listen(query, { 'last-event-id': slow.id ?? '' });
    const all = (): number[] => [...before, ...numbersOf(again.events, measurement)];
    await until('the rest', () => all().length >= sent);
    expect(all()).toEqual(range(0, sent));
    expect(again.events.filter(({ type }) => type === 'resync')).toEqual([]);
  });
});

it.each([
  ['has it all: each reading comes once', 64],
  ['has no longer all: that is told, and the rest comes', 1],
])('after more than is kept of the end it is read from the log, which %s', async (_what, mib) => {
  const whole = collector;
  await start({ [environmentName('log.readingsBytesMax')]: String(mib * 1024 * 1024) });
  const small = collector;
  try {
    const first = await bySocket('');
    await until('its place', () => first.id !== undefined);
    const { id = '' } = first;
    first.stop();
    const pad = 'x'.repeat(1000);
    const witness = await byEvents('?newest=1');
    let sent = 0;
    const witnessed = (): number => witness.events.reduce((sum, { count = 0 }) => sum + count, 0);
    // More than the log keeps, and than is kept of the end beside it.
    for (; sent < (mib > 1 ? 4500 : 9000); sent += 900) {
      await write(range(sent, sent + 900).map((v) => `gone,pad=${pad}${v % 400} v=${v}`));
      await until('it to be told', () => witnessed() === sent + 900);
    }
    const again = await bySocket('', { 'last-event-id': id });
    await until('the end', () => numbersOf(again.events, 'gone').at(-1) === sent - 1);
    const numbers = numbersOf(again.events, 'gone');
    expect(numbers).toEqual(range(numbers[0] ?? 0, sent));
    const told = again.events.flatMap(({ why = [] }) => why);
    if (mib > 1) expect([numbers[0], told]).toEqual([0, []]);
    else {
      expect(told).toEqual([expect.stringMatching(/no longer all/)]);
      expect(numbers[0]).toBeGreaterThan(0);
    }
  } finally {
    collector = whole;
    await small.close();
  }
});

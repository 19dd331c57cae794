/**
 * The live stream: readings and results as they enter the log, to all who listen, by server-sent events or WebSocket. Every event has
 * an id; who comes again with the last one that he has gets what came after it, each reading once: from what is kept of the end,
 * or else from the log, at his own pace. What the log has no more is told as `resync`. Memory does not grow with who is slow.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../../../shared/errors.ts';
import type { Request } from '../../../shared/http/route.ts';
import type { Notify } from '../../../shared/telemetry/log.ts';
import type { Log, LogConsumer } from '../../log/log.ts';
import { Listener } from './listener.ts';
import { TOPICS, laneOf, type Lane, type Letter, type Position } from './position.ts';
import { Heard, Tail } from './tail.ts';

/** Of one who hears what comes: beyond it he is cut, and comes again at his own pace. */
const BEHIND_BYTES_MAX = 1024 * 1024;
/** Of one who reads what he has missed: beyond it the next waits. */
const AHEAD_BYTES_MAX = 256 * 1024;
/** What waits for one who reads what he has missed has to go in that time. */
const TAKE_MS = 30_000;
const HEARTBEAT_MS = 15_000;
const PLACED_LOOK_MS = 50;
const POLL_MS = 500;
const POLL_BYTES_MAX = 256 * 1024;

const LETTERS = Object.keys(TOPICS) as Letter[];
const letterOf = (lane: Lane): Letter => lane.charAt(0) as Letter; // It begins with it.
const partitionOf = (lane: Lane): number => Number(lane.slice(1));

type Turn = Request['catchUp'];

export class LiveStream {
  private readonly tail: Tail;
  private readonly log: Log;
  private readonly group: string;
  private readonly listeners = new Set<Listener>();
  private readonly heartbeat: NodeJS.Timeout;
  private isClosed = false;

  /** `group` is this process's own: every listener's process sees everything. */
  constructor(log: Log, notify: Notify, group: string) {
    this.log = log;
    this.group = group;
    this.tail = new Tail({ log, notify, group, onRecord: (heard) => this.tell(heard) });
    this.heartbeat = setInterval(() => this.beat(), HEARTBEAT_MS);
    this.heartbeat.unref();
  }

  private tell(heard: Heard): void {
    for (const listener of this.listeners)
      if (listener.isLive && this.keepsUp(listener)) listener.hear(heard);
  }

  private keepsUp({ sink }: Listener): boolean {
    if (sink.waitingBytes <= BEHIND_BYTES_MAX) return sink.isOpen;
    sink.end('it takes too little');
    return false;
  }

  private beat(): void {
    for (const listener of this.listeners)
      if (listener.isLive && this.keepsUp(listener)) listener.sink.beat(listener.id);
  }

  /** Until it is closed, told by `signal`. `after`: where it was, undefined from now on; a text: why that is not known. */
  async serve(
    listener: Listener,
    after: Position | string | undefined,
    catchUp: Turn,
    signal: AbortSignal,
  ): Promise<void> {
    this.listeners.add(listener);
    signal.addEventListener('abort', () => this.listeners.delete(listener), { once: true });
    if (signal.aborted) this.listeners.delete(listener);
    try {
      await this.begin(listener, after, catchUp);
    } catch (error) {
      listener.sink.end(messageOf(error));
    }
  }

  private async begin(
    listener: Listener,
    after: Position | string | undefined,
    catchUp: Turn,
  ): Promise<void> {
    const { tail, log } = this;
    while (log.next !== undefined && !tail.isPlaced && listener.sink.isOpen && !this.isClosed)
      await delay(PLACED_LOOK_MS, undefined, { ref: false });
    const why =
      typeof after === 'string'
        ? after
        : tail.isPlaced
          ? undefined
          : 'this log cannot tell where it ends';
    if (after instanceof Map && why === undefined) {
      await this.settle(listener, after);
      listener.sink.beat(listener.id);
      await this.goOn(listener, catchUp);
      return;
    }
    if (tail.isPlaced)
      listener.position = new Map([...tail.next].map(([lane, next]) => [lane, { next, skip: 0 }]));
    listener.isLive = true;
    if (after !== undefined && why !== undefined) this.resync(listener, why);
    else listener.sink.beat(listener.id);
  }

  private resync({ sink, id }: Listener, why: string): void {
    sink.event('resync', id, JSON.stringify({ why }));
  }

  /** Places it where it was, as far as the log still goes there. */
  private async settle(listener: Listener, after: Position): Promise<void> {
    const { log, tail } = this;
    const position: Position = new Map();
    const reasons = new Set<string>();
    for (const [lane, end] of tail.next) {
      const [topic, partition] = [TOPICS[letterOf(lane)], partitionOf(lane)];
      const place = after.get(lane) ?? { next: 0, skip: 0 };
      if (!tail.keeps(lane, place.next)) {
        const first = (await log.first?.(topic, partition)) ?? 0;
        if (place.next < first) {
          // A partition that is new since then is read from its beginning.
          if (after.has(lane)) reasons.add('the log has no longer all that came after that id');
          place.next = first;
          place.skip = 0;
        }
      } else if (place.next > end && place.next > ((await log.next?.(topic, partition)) ?? end)) {
        reasons.add('that id is of another log');
        place.next = tail.next.get(lane) ?? end;
        place.skip = 0;
      }
      position.set(lane, place);
    }
    listener.position = position;
    for (const why of reasons) this.resync(listener, why);
  }

  private lacking({ position }: Listener): Letter[] {
    const lanes = [...(position ?? [])].filter(([lane, { next }]) => !this.tail.keeps(lane, next));
    return LETTERS.filter((letter) => lanes.some(([lane]) => letterOf(lane) === letter));
  }

  private async goOn(listener: Listener, catchUp: Turn): Promise<void> {
    const { sink } = listener;
    while (sink.isOpen && !this.isClosed) {
      const letters = this.lacking(listener);
      if (letters.length > 0)
        await catchUp(
          () => sink.isOpen,
          async () => {
            for (const letter of letters) await this.readBack(listener, letter);
          },
        );
      else if (this.handOver(listener)) return;
      else await this.taken(listener);
    }
  }

  /** Tells what is kept, and from then on what comes. False: he has to take something before. */
  private handOver(listener: Listener): boolean {
    for (const heard of this.tail.records()) {
      if (!listener.lacks(heard.lane, heard.offset)) continue;
      if (listener.sink.waitingBytes > AHEAD_BYTES_MAX) return false;
      listener.hear(heard);
    }
    listener.isLive = true;
    return true;
  }

  private async taken({ sink }: Listener): Promise<void> {
    const stop = new AbortController();
    const late = delay(TAKE_MS, true, { signal: stop.signal, ref: false }).catch(() => false);
    const isLate = await Promise.race([sink.drained().then(() => false), late]);
    stop.abort();
    if (isLate) sink.end('it takes too little');
  }

  /** Reads a topic up to where the tail was when this began. */
  private async readBack(listener: Listener, letter: Letter): Promise<void> {
    const { tail, log } = this;
    const position = listener.position ?? new Map();
    const goals = new Map([...tail.next].filter(([lane]) => letterOf(lane) === letter));
    const consumer = await log.consumer({
      group: `${this.group}-back`,
      topic: TOPICS[letter],
      from: 'start',
      watches: true,
      bytesMax: POLL_BYTES_MAX,
      onAssign: (partition) => Promise.resolve(position.get(laneOf(letter, partition))?.next),
    });
    try {
      while (listener.sink.isOpen && !this.isClosed) {
        await this.readSome(listener, letter, consumer);
        // What lies between the last record and the goal is none, such as the marks of Kafka's transactions.
        for (const partition of consumer.ended()) {
          const lane = laneOf(letter, partition);
          const goal = goals.get(lane) ?? 0;
          if ((position.get(lane)?.next ?? 0) < goal) position.set(lane, { next: goal, skip: 0 });
        }
        if ([...goals].every(([lane, goal]) => (position.get(lane)?.next ?? 0) >= goal)) return;
      }
    } finally {
      await consumer.close();
    }
  }

  private async readSome(listener: Listener, letter: Letter, consumer: LogConsumer): Promise<void> {
    const looked = new Set<Lane>();
    for (const record of await consumer.poll(POLL_MS)) {
      const heard = new Heard(letter, record);
      const { lane, offset } = heard;
      if (!looked.has(lane)) await this.lookForGap(listener, lane, offset);
      looked.add(lane);
      if (!listener.sink.isOpen) return;
      listener.hear(heard);
      if (listener.sink.waitingBytes > AHEAD_BYTES_MAX) await this.taken(listener);
    }
  }

  /** What was cut off in the meantime is told. */
  private async lookForGap(listener: Listener, lane: Lane, offset: number): Promise<void> {
    const expected = listener.position?.get(lane)?.next ?? offset;
    if (offset <= expected) return;
    const first = (await this.log.first?.(TOPICS[letterOf(lane)], partitionOf(lane))) ?? 0;
    if (first > expected)
      this.resync(listener, 'the log has no longer all that came after that id');
  }

  async close(): Promise<void> {
    this.isClosed = true;
    clearInterval(this.heartbeat);
    for (const { sink } of this.listeners) sink.end('the collector stops');
    await this.tail.close();
  }
}

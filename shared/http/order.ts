/**
 * In which order requests are begun. Of a connection one after the other, as their answers go (RFC 9112, 9.3.2): what is sent
 * ahead waits, and costs nothing. Of all connections in turn by the addresses they come from, and of each turn of the event
 * loop only a slice goes into beginning answers: a thousand that come at once keep nobody waiting who comes behind them, nor
 * what the process does beside.
 */
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { addressGroup } from '../access/shares.ts';

/** Of a turn of the event loop. */
const SLICE_MS = 5;
/** Sent ahead on one connection: pipelines of clients are shorter. */
const AHEAD_MAX = 256;

type Begin = () => void;

/** Of one connection: what is behind the request that is being answered. */
interface Line {
  response: ServerResponse;
  waiting: Begin[];
}

export class Order {
  private readonly lines = new WeakMap<Socket, Line>();
  /** By address group, in the order in which they are served: who was served goes to the end. */
  private readonly waiting = new Map<string, Begin[]>();
  /** Since when this turn of the event loop begins answers. */
  private turnMs: number | undefined;

  /** Begins it when its turn comes, unless its connection has gone by then. */
  begin(socket: Socket, response: ServerResponse, begin: Begin): void {
    const mine = (): void => this.inTurn(socket, begin);
    const line = this.lines.get(socket);
    if (line === undefined) {
      this.lines.set(socket, { response, waiting: [] });
      response.once('close', () => this.next(socket));
      mine();
      return;
    }
    if (line.waiting.length >= AHEAD_MAX) {
      socket.destroy();
      return;
    }
    line.waiting.push(() => {
      line.response = response;
      response.once('close', () => this.next(socket));
      mine();
    });
  }

  /** An answer is on its way, or others are behind it. */
  isBusy(socket: Socket): boolean {
    const line = this.lines.get(socket);
    return line !== undefined && (line.response.headersSent || line.waiting.length > 0);
  }

  /** The answer before it is out. */
  private next(socket: Socket): void {
    const line = this.lines.get(socket);
    const begin = socket.destroyed ? undefined : line?.waiting.shift();
    if (begin === undefined) this.lines.delete(socket);
    else begin();
  }

  private inTurn(socket: Socket, begin: Begin): void {
    if (this.waiting.size === 0 && !this.isOver()) {
      begin();
      return;
    }
    const principal = addressGroup(socket.remoteAddress ?? '');
    const own = this.waiting.get(principal);
    const wanted = (): void => {
      if (!socket.destroyed) begin();
    };
    if (own === undefined) this.waiting.set(principal, [wanted]);
    else own.push(wanted);
  }

  /** The slice of this turn, which begins with its first request, is spent; by whomever. */
  private isOver(): boolean {
    if (this.turnMs === undefined) {
      this.turnMs = performance.now();
      setImmediate(() => this.nextTurn());
      return false;
    }
    return performance.now() - this.turnMs >= SLICE_MS;
  }

  private nextTurn(): void {
    this.turnMs = undefined;
    this.drain();
  }

  /** The next that waits, and when all is done that it does at once, the one behind it. */
  private readonly drain = (): void => {
    const [first] = this.waiting;
    if (first === undefined || this.isOver()) return;
    const [principal, list] = first;
    const begin = list.shift();
    this.waiting.delete(principal);
    if (list.length > 0) this.waiting.set(principal, list);
    begin?.();
    queueMicrotask(() => process.nextTick(this.drain));
  };
}

/**
 * In which order requests are begun. Of a connection one after the other, as their answers go (RFC 9112, 9.3.2): what is sent
 * ahead waits, and costs nothing. Of all connections in turn by the addresses they come from, and of each turn of the event
 * loop only a slice goes into beginning answers: a thousand that come at once keep nobody waiting who comes behind them, nor
 * what the process does beside.
 */
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { addressGroup } from '../access/shares.ts';
import { Slice } from '../net/slice.ts';

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
  private readonly slice = new Slice(() => performance.now() * 1000);

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
    if (this.slice.mayGoOn()) begin();
    else
      this.slice.wait(addressGroup(socket.remoteAddress ?? ''), () => {
        if (!socket.destroyed) begin();
      });
  }
}

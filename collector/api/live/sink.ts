/** Where a listener's events go: server-sent events (WHATWG HTML, 9.2), or a WebSocket's messages. */
import type { ServerResponse } from 'node:http';
import type { WebSocket } from 'ws';

export interface Sink {
  readonly isOpen: boolean;
  /** Written and not yet gone, bytes. */
  readonly waitingBytes: number;
  /** `json` is an object with members. */
  event(name: 'readings' | 'resync', id: string | undefined, json: string): void;
  /** It is still here, and so far. Ends a connection whose other side is not. */
  beat(id: string | undefined): void;
  /** Resolves when all that waits has gone, or nobody takes it any more. */
  drained(): Promise<void>;
  /** Ends it. The client comes again with the last id that it has. */
  end(why: string): void;
}

const RETRY_MS = 2000;
const idLine = (id: string | undefined): string => (id === undefined ? '' : `id: ${id}\n`);

export class EventStream implements Sink {
  private readonly response: ServerResponse;

  constructor(response: ServerResponse) {
    this.response = response;
    response.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      connection: 'keep-alive',
    });
    response.write(`retry: ${RETRY_MS}\n\n`);
  }

  get isOpen(): boolean {
    return !this.response.destroyed && !this.response.writableEnded;
  }

  get waitingBytes(): number {
    return this.response.writableLength;
  }

  event(name: string, id: string | undefined, json: string): void {
    this.response.write(`${idLine(id)}event: ${name}\ndata: ${json}\n\n`);
  }

  beat(id: string | undefined): void {
    this.response.write(`: still here\n${idLine(id)}\n`);
  }

  drained(): Promise<void> {
    const { response } = this;
    if (!this.isOpen || !response.writableNeedDrain) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        response.off('drain', done);
        response.off('close', done);
        resolve();
      };
      response.on('drain', done);
      response.on('close', done);
    });
  }

  end(why: string): void {
    const { response } = this;
    // Who takes nothing would never see an end.
    if (this.waitingBytes > 0) response.destroy();
    else response.end(`: ${why.replaceAll('\n', ' ')}\n\n`);
  }
}

/** Closed by the server: come again. */
const TRY_AGAIN = 1013;
const CLOSE_BYTES_MAX = 120;

export class SocketMessages implements Sink {
  private readonly webSocket: WebSocket;
  private isAlive = true;
  private onDrained: (() => void) | undefined;

  constructor(webSocket: WebSocket) {
    this.webSocket = webSocket;
    webSocket.on('pong', () => {
      this.isAlive = true;
    });
    webSocket.on('close', () => this.onDrained?.());
  }

  get isOpen(): boolean {
    return this.webSocket.readyState === this.webSocket.OPEN;
  }

  get waitingBytes(): number {
    return this.webSocket.bufferedAmount;
  }

  private send(type: string, id: string | undefined, json: string): void {
    const head = JSON.stringify(id === undefined ? { type } : { type, id }).slice(0, -1);
    this.webSocket.send(`${head}${json === '' ? '}' : `,${json.slice(1)}`}`, () => {
      if (this.waitingBytes === 0) this.onDrained?.();
    });
  }

  event(name: string, id: string | undefined, json: string): void {
    this.send(name, id, json);
  }

  beat(id: string | undefined): void {
    if (!this.isAlive) {
      this.webSocket.terminate();
      return;
    }
    this.isAlive = false;
    this.webSocket.ping();
    this.send('position', id, '');
  }

  async drained(): Promise<void> {
    if (!this.isOpen || this.waitingBytes === 0) return;
    await new Promise<void>((resolve) => (this.onDrained = resolve));
    this.onDrained = undefined;
  }

  end(why: string): void {
    if (this.waitingBytes > 0) this.webSocket.terminate();
    else this.webSocket.close(TRY_AGAIN, why.slice(0, CLOSE_BYTES_MAX));
  }
}

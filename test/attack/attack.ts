/** What attacks are made of: sockets that are opened again and again, questions side by side, and what became of them. */
import { Agent as HttpAgent, request, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as requestTls } from 'node:https';
import { connect, type Socket } from 'node:net';
import { TLSSocket, connect as connectTls } from 'node:tls';
import { connectPacket, type ConnectFields } from '../support/hostile.ts';

/** What is attacked, and with which credentials: those of a device and a reader like others. */
export interface Target {
  /** `up` without login, or gateway and collector apart with passwords, TLS and tokens. */
  site: 'up' | 'apart';
  mqtt: number;
  mqtts: number | undefined;
  ws: number;
  uplink: number;
  http: number;
  gatewayHttp: number;
  enroll: number | undefined;
  /** HTTP by TLS. */
  isSecure: boolean;
  login: { user: string; password: string } | undefined;
  tokens: { read: string; write: string } | undefined;
}

export interface Told {
  /** Connections, packets or questions. */
  tried: number;
  /** Closed, or answered with a no. */
  refused: number;
}

export type Attack = (target: Target, over: AbortSignal) => Promise<Told>;

export const BAD = '127.0.0.2';
/** One of many addresses. */
export const anyAddress = (index: number): string =>
  `127.1.${1 + (Math.floor(index / 250) % 250)}.${1 + (index % 250)}`;

export const pause = (ms: number, over?: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      over?.removeEventListener('abort', done);
      resolve();
    }
    if (over?.aborted === true) done();
    else over?.addEventListener('abort', done, { once: true });
  });

export const hello = ({ login }: Target, id: string, more: Partial<ConnectFields> = {}): Buffer =>
  connectPacket({ id, ...login, ...more });

/** Without a word; TLS has no reset. */
export const drop = (socket: Socket): void =>
  void (socket instanceof TLSSocket ? socket.destroy() : socket.resetAndDestroy());

interface Swarm {
  count: number;
  port: number;
  from?: (index: number) => string;
  isSecure?: boolean;
  /** Milliseconds before a socket that was closed is opened again. */
  againMs?: number;
  /** The longest that one stays open, milliseconds. */
  stayMs?: number;
  onOpen: (socket: Socket, index: number) => void;
  onData?: (socket: Socket, data: Buffer, index: number) => void;
}

function dial(
  { port, isSecure = false, from = () => BAD }: Swarm,
  index: number,
  onOpen: (socket: Socket) => void,
): Socket {
  const where = { host: '127.0.0.1', port, localAddress: from(index) };
  const socket: Socket = isSecure
    ? connectTls({ ...where, rejectUnauthorized: false }, () => onOpen(socket))
    : connect({ ...where, noDelay: true }, () => onOpen(socket));
  socket.on('error', () => undefined); // That it was closed is what counts.
  return socket;
}

/** So many sockets, each opened again when it was closed. */
export async function swarm(over: AbortSignal, each: Swarm): Promise<Told> {
  const told: Told = { tried: 0, refused: 0 };
  const { count, againMs = 50, stayMs, onOpen, onData } = each;
  const slot = async (index: number): Promise<void> => {
    while (!over.aborted) {
      told.tried++;
      const socket = dial(each, index, (open) => onOpen(open, index));
      socket.on('data', (data: Buffer) => onData?.(socket, data, index));
      let isOurs = false;
      const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
      const leave = (): void => {
        isOurs = true;
        drop(socket);
      };
      over.addEventListener('abort', leave, { once: true });
      const timer = stayMs === undefined ? undefined : setTimeout(leave, stayMs);
      await closed;
      clearTimeout(timer);
      over.removeEventListener('abort', leave);
      if (!isOurs) told.refused++;
      await pause(againMs, over);
    }
  };
  // Not all in one turn: the attacker's own kernel queue is not what is tried.
  const slots: Promise<void>[] = [];
  for (let index = 0; index < count && !over.aborted; index++) {
    slots.push(slot(index));
    if (index % 100 === 99) await pause(5, over);
  }
  await Promise.all(slots);
  return told;
}

export interface Ask {
  side?: 'collector' | 'gateway';
  method?: string;
  path: string;
  headers?: Record<string, string>;
  body?: Buffer | string;
  from?: string;
  token?: string;
  /** Takes the answer so slowly that it never ends. */
  isSlow?: boolean;
}

export const portOf = (target: Target, side: Ask['side']): number =>
  side === 'gateway' ? target.gatewayHttp : target.http;

/** Connections that are kept, by the address they come from. */
const agents = new Map<string, HttpAgent | HttpsAgent>();
function agentOf(from: string, isSecure: boolean): HttpAgent | HttpsAgent {
  const key = `${from} ${isSecure}`;
  let agent = agents.get(key);
  if (agent === undefined) {
    const options = { keepAlive: true, maxSockets: 256, localAddress: from };
    agent = isSecure
      ? new HttpsAgent({ ...options, rejectUnauthorized: false })
      : new HttpAgent(options);
    agents.set(key, agent);
  }
  return agent;
}

export function hangUp(): void {
  for (const agent of agents.values()) agent.destroy();
  agents.clear();
}

/** Status; 0 where the connection was closed. */
export function ask(target: Target, what: Ask, over: AbortSignal): Promise<number> {
  const { side, method = 'GET', path, headers = {}, body, from = BAD, isSlow = false } = what;
  const token = what.token ?? target.tokens?.[method === 'POST' ? 'write' : 'read'];
  const make = target.isSecure ? requestTls : request;
  return new Promise((resolve) => {
    // An answer that has come whole, and is not read, is never closed.
    if (isSlow) over.addEventListener('abort', () => resolve(0), { once: true });
    const sent = make(
      {
        ...{ host: '127.0.0.1', port: portOf(target, side), method, path, signal: over },
        agent: isSlow ? false : agentOf(from, target.isSecure),
        ...(isSlow ? { localAddress: from, rejectUnauthorized: false } : {}),
        headers: {
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...headers,
        },
      },
      (response: IncomingMessage) => {
        const { statusCode = 0 } = response;
        response.on('error', () => resolve(statusCode));
        response.on('close', () => resolve(statusCode));
        if (!isSlow) response.resume();
      },
    );
    // Without it nothing is told of a connection that has become another one: its question would never end.
    sent.on('upgrade', ({ statusCode = 0 }: IncomingMessage, socket: Socket) => {
      socket.on('error', () => undefined); // That it is over is what counts.
      if (isSlow) {
        over.addEventListener('abort', () => drop(socket), { once: true });
        return;
      }
      drop(socket);
      resolve(statusCode);
    });
    sent.on('error', () => resolve(0));
    sent.end(body);
  });
}

const isRefused = (status: number): boolean => status === 0 || status >= 400;

/** Questions, so many at a time. */
export async function flood(
  target: Target,
  over: AbortSignal,
  atOnce: number,
  make: (index: number) => Ask,
): Promise<Told> {
  const told: Told = { tried: 0, refused: 0 };
  const asker = async (): Promise<void> => {
    while (!over.aborted) {
      const status = await ask(target, make(told.tried++), over);
      if (over.aborted) return;
      if (!isRefused(status)) continue;
      told.refused++;
      // Nobody gains by asking faster than he is refused; a closed connection would loop.
      if (status === 0) await pause(20, over);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, asker));
  return told;
}

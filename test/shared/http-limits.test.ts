/** Every limit of the HTTP servers, exhausted as one principal and asked as another, over the real sockets. */
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { HTTP_LIMITS } from '../../shared/access/limits.ts';
import { FailureLimiter } from '../../shared/access/failures.ts';
import { Tokens } from '../../shared/access/tokens.ts';
import { AnsweredKeys } from '../../shared/http/answered.ts';
import type { Route } from '../../shared/http/route.ts';
import { HttpServer } from '../../shared/http/server.ts';
import { until } from '../support/process.ts';

interface Gate {
  keys: AnsweredKeys;
  waiting: (() => void)[];
  answered: number;
  told: string[];
}

const MIB = 1024 * 1024;
const base = { method: 'GET', about: 'For this test.', right: 'open', replies: {} } as const;
const ROUTES: readonly Route<Gate>[] = [
  {
    ...base,
    path: '/costly',
    isCostly: true,
    handle: async (gate) => {
      await new Promise<void>((resolve) => gate.waiting.push(resolve));
      gate.answered++;
      return { body: 'ok' };
    },
  },
  {
    ...base,
    path: '/stream',
    isStream: true,
    handle: (_gate, _request, response) => {
      response.writeHead(200);
      response.write('x');
      return undefined;
    },
  },
  {
    ...base,
    path: '/back',
    isStream: true,
    handle: (gate, { catchUp }, response) => {
      response.writeHead(200);
      response.write('x');
      void catchUp(
        () => true,
        async () => {
          await new Promise<void>((resolve) => gate.waiting.push(resolve));
          gate.answered++;
        },
      );
      return undefined;
    },
  },
  {
    ...base,
    method: 'POST',
    path: '/body',
    body: { type: '*/*', schema: {} },
    handle: async (_gate, { body }) => ({ body: String((await body(MIB)).length) }),
  },
  {
    ...base,
    path: '/keys',
    query: 'any',
    handle: ({ keys }, { query, principal, keys: share }) => {
      for (let at = 0; at < Number(query.get('new')); at++)
        keys.set(`${principal} ${at}`, { body: '', stored: Promise.resolve() }, principal, share);
      return { body: String(keys.get(`${principal} 0`) !== undefined) };
    },
  },
  {
    ...base,
    path: '/long',
    handle: (gate) => ({
      type: 'text/plain',
      parts: (async function* () {
        for (let at = 0; at < 500; at++) yield 'x'.repeat(MIB / 4);
        gate.answered++;
      })(),
    }),
  },
  { ...base, path: '/healthz', handle: () => ({ body: 'ok' }) },
  {
    ...base,
    path: '/busy',
    handle: (gate, { address }) => {
      for (const until = performance.now() + 2; performance.now() < until; );
      gate.told.push(address);
      return { body: 'ok' };
    },
  },
  {
    ...base,
    path: '/broken',
    handle: () => {
      throw new TypeError("ENOENT: '/srv/secret'");
    },
  },
];

interface Running {
  server: HttpServer;
  port: number;
  gate: Gate;
}

const sockets: Socket[] = [];
let running: Running | undefined;
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await running?.server.close();
});

async function start(): Promise<Running> {
  const gate: Gate = { keys: new AnsweredKeys(), waiting: [], answered: 0, told: [] };
  const server = new HttpServer(
    ROUTES.map((route) => ({ route, running: gate, absent: '' }) as never), // A route of this gate.
    {
      tokens: new Tokens(undefined, ''),
      failures: new FailureLimiter(10, () => 0),
      audit: undefined,
      tls: undefined,
      here: 'here',
      stallMs: 300,
      notify: ({ text }) => gate.told.push(text),
    },
  );
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 }, '--http');
  running = { server, port, gate };
  return running;
}

interface Answer {
  status: number;
  retryAfter: string | undefined;
}

/** `from` is whose share it is. */
function ask(port: number, path: string, from: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(
      { host: '127.0.0.1', port, path, localAddress: from, agent: false },
      (response) => {
        sockets.push(response.socket);
        resolve({ status: response.statusCode ?? 0, retryAfter: response.headers['retry-after'] });
      },
    );
    sent.on('error', reject);
    sent.end();
  });
}

const A = '127.0.0.2';
const B = '127.0.0.3';

/** By limit: one principal takes what it gets; then the other gets something all the same. */
const trials: Record<(typeof HTTP_LIMITS)[number]['name'], () => Promise<void>> = {
  connections: async () => {
    const { port, server } = await start();
    let closed = 0;
    for (let batch = 0; batch < 1100; batch += 100) {
      const opened = Array.from({ length: 100 }, () => {
        const socket = connect({ host: '127.0.0.1', port, localAddress: A });
        sockets.push(socket);
        socket.on('error', () => undefined);
        socket.on('close', () => closed++);
        return new Promise((resolve) => socket.once('connect', resolve));
      });
      await Promise.all(opened);
    }
    await until('those beyond the share to be closed', () => closed >= 100);
    expect(server.shares.connections.of(A)).toBe(1000);
    expect((await ask(port, '/healthz', B)).status).toBe(200);
  },
  questions: async () => {
    const { port, gate, server } = await start();
    const asked = Array.from({ length: 20 }, () => ask(port, '/costly', A));
    await until('its share to run', () => server.shares.questions.of(A) === 2);
    await until('the others to wait', () => server.shares.queued_questions.of(A) === 18);
    expect(gate.waiting).toHaveLength(2);
    const other = ask(port, '/costly', B);
    await until('the other one to run beside', () => gate.waiting.length === 3);
    expect((await ask(port, '/healthz', A)).status).toBe(200);
    gate.waiting.pop()?.();
    expect((await other).status).toBe(200);
    const opening = setInterval(() => gate.waiting.shift()?.(), 1);
    const answers = await Promise.all(asked);
    clearInterval(opening);
    expect(answers.every(({ status }) => status === 200)).toBe(true);
    expect(server.shares.questions.used).toBe(0);
  },
  queued_questions: async () => {
    const { port, gate, server } = await start();
    const asked = Array.from({ length: 60 }, () => ask(port, '/costly', A));
    await until('its share to wait', () => server.shares.queued_questions.refused >= 26);
    const other = Array.from({ length: 3 }, () => ask(port, '/costly', B));
    const opening = setInterval(() => gate.waiting.shift()?.(), 1);
    const answers = await Promise.all(asked);
    expect((await Promise.all(other)).map(({ status }) => status)).toEqual([200, 200, 200]);
    clearInterval(opening);
    const refused = answers.filter(({ status }) => status === 429);
    expect(refused).toHaveLength(26);
    expect(refused.every(({ retryAfter }) => retryAfter === '1')).toBe(true);
    expect(gate.answered).toBe(37);
  },
  streams: async () => {
    const { port } = await start();
    for (let count = 0; count < 250; count++)
      expect((await ask(port, '/stream', A)).status).toBe(200);
    expect(await ask(port, '/stream', A)).toEqual({ status: 429, retryAfter: '10' });
    expect((await ask(port, '/stream', B)).status).toBe(200);
  },
  bodies: async () => {
    const { port, server } = await start();
    const begun = Array.from({ length: 20 }, () => begin(port, A));
    await until('those beyond the share to be refused', () =>
      begun.filter(({ answer }) =>
        /^HTTP\/1.1 429(?=[^]*connection: close)[^]*retry-after: 1/i.test(answer()),
      ).length === 4
        ? true
        : undefined,
    );
    expect(server.shares.bodies.of(A)).toBe(16 * MIB);
    const sent = await fetch(`http://127.0.0.1:${port}/body`, { method: 'POST', body: 'x' });
    expect(await sent.text()).toBe('1');
    for (const socket of sockets.splice(0)) socket.destroy();
    await until('it to be free', () => server.shares.bodies.used === 0);
  },
  idempotency_keys: async () => {
    const { port, server } = await start();
    const keys = async (count: number, from: string): Promise<string> => {
      let text = '';
      await new Promise((resolve) => {
        const path = `/keys?new=${count}`;
        request({ host: '127.0.0.1', port, path, localAddress: from, agent: false }, (response) => {
          response.on('data', (part: Buffer) => (text += part.toString()));
          response.on('end', resolve);
        }).end();
      });
      return text;
    };
    expect(await keys(1, B)).toBe('true');
    // Its own oldest went.
    expect(await keys(9000, A)).toBe('false');
    expect(server.shares.idempotency_keys.of(A)).toBe(5000);
    expect(server.shares.idempotency_keys.refused).toBe(4000);
    expect(await keys(0, B)).toBe('true');
  },
  catch_ups: async () => {
    const { port, gate, server } = await start();
    for (let count = 0; count < 10; count++) expect((await ask(port, '/back', A)).status).toBe(200);
    await until('its share to read', () => server.shares.catch_ups.of(A) === 2);
    expect(gate.waiting).toHaveLength(2);
    expect((await ask(port, '/back', B)).status).toBe(200);
    await until('the other to read beside', () => server.shares.catch_ups.of(B) === 1);
    for (let count = 0; count < 11; count++) {
      await until('the next one', () => gate.waiting.length > 0);
      gate.waiting.shift()?.();
    }
    await until(
      'all to have read',
      () => gate.answered === 11 && server.shares.catch_ups.used === 0,
    );
  },
};

/** Sends a body, but for its last byte; and what is answered, if anything. */
function begin(port: number, from: string): { answer: () => string } {
  let text = '';
  const socket = connect({ host: '127.0.0.1', port, localAddress: from });
  sockets.push(socket);
  socket.on('error', () => undefined);
  socket.on('data', (data: Buffer) => (text += data.toString()));
  socket.write(`POST /body HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: ${MIB}\r\n\r\n`);
  socket.write(Buffer.alloc(MIB - 1));
  return { answer: () => text };
}

describe('what is there for all', () => {
  it.each(
    HTTP_LIMITS.map(({ name }) => name),
  )('%s: who takes all that he gets leaves something for another', async (name) => {
    await trials[name]();
  });

  it('an answer that nobody takes ends, and gives its turn back', async () => {
    const { port, gate } = await start();
    const socket = connect({ host: '127.0.0.1', port, localAddress: A });
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.pause();
    socket.write('GET /long HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n');
    await until('it to begin', () => running?.server.shares.connections.of(A) === 1);
    await until('it to end', () => running?.server.shares.connections.of(A) === 0);
    expect(gate.answered).toBe(0);
  });

  it('what is no address is a mistake of who asks', async () => {
    const { port, gate } = await start();
    const socket = connect({ host: '127.0.0.1', port });
    sockets.push(socket);
    socket.write('GET http://[ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n');
    const answer = await new Promise<Buffer>((resolve) => socket.once('data', resolve));
    expect(answer.toString()).toMatch(/^HTTP\/1.1 400 /);
    expect(gate.told).toEqual([]);
  });

  it('what nobody expected is told to the log once, and not to who asked', async () => {
    const { port, gate } = await start();
    for (let i = 0; i < 3; i++) {
      const answer = await fetch(`http://127.0.0.1:${port}/broken`);
      expect(answer.status).toBe(500);
      const text = await answer.text();
      expect(text).toMatch(/the log of this process says more/);
      expect(text).not.toMatch(/secret/);
    }
    expect(gate.told).toEqual(["GET /broken: ENOENT: '/srv/secret'"]);
  });

  it('a question that nobody waits for any more is not worked on', async () => {
    const { port, gate, server } = await start();
    const first = [ask(port, '/costly', A), ask(port, '/costly', A)];
    await until('its share to run', () => gate.waiting.length === 2);
    const left = request({
      host: '127.0.0.1',
      port,
      path: '/costly',
      localAddress: A,
      agent: false,
    });
    left.on('error', () => undefined);
    left.end();
    await until('the third to wait', () => server.shares.queued_questions.of(A) === 1);
    left.destroy();
    await until('it to be gone', () => server.shares.connections.of(A) === 2);
    for (const open of gate.waiting.splice(0)) open();
    await Promise.all(first);
    expect(server.shares.queued_questions.used).toBe(0);
    expect(gate.answered).toBe(2);
  });

  // Many clients do so; their answer must not go with the connection.
  it.each([
    ['with its length', `content-length: ${10 * MIB}`, '/body', 413],
    ['in chunks', 'transfer-encoding: chunked', '/body', 413],
    ['of a route that reads none', `content-length: ${10 * MIB}`, '/healthz', 405],
  ])('who reads only after all is sent is answered: a long body %s', async (_, how, path, status) => {
    const { port, server } = await start();
    const socket = connect(port, '127.0.0.1').pause();
    sockets.push(socket);
    const errors: Error[] = [];
    socket.on('error', (error) => errors.push(error));
    const part = how.startsWith('t')
      ? `${MIB.toString(16)}\r\n${'x'.repeat(MIB)}\r\n`
      : 'x'.repeat(MIB);
    socket.write(`POST ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n${how}\r\n\r\n`);
    for (let at = 0; at < 10; at++)
      await new Promise<void>((resolve) => socket.write(part, () => resolve()));
    if (how.startsWith('t')) socket.write('0\r\n\r\n');
    let answer = '';
    for await (const piece of socket) answer += String(piece);
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status}(?=[^]*connection: close)`, 'i'));
    expect(errors).toEqual([]);
    await until('it to be free', () => server.shares.bodies.used === 0);
  });

  it('a body without an end is left after 16 MiB', async () => {
    const { port } = await start();
    const socket = connect(port, '127.0.0.1');
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.write(
      `POST /body HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\ncontent-length: 1000000000000\r\n\r\n`,
    );
    let parts = 0;
    while (!socket.destroyed && parts < 1000) {
      parts++;
      await new Promise<void>((resolve) => socket.write('x'.repeat(MIB), () => resolve()));
    }
    expect(parts).toBeLessThan(100);
  });

  const lineOf = (path: string): string => `GET ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n`;
  const opened = async (port: number, from: string): Promise<Socket> => {
    const socket = connect({ host: '127.0.0.1', port, localAddress: from });
    sockets.push(socket);
    socket.on('error', () => undefined);
    await new Promise((resolve) => socket.once('connect', resolve));
    return socket;
  };

  it('requests that are sent ahead on one connection are answered one after the other, in their order', async () => {
    const { port, gate, server } = await start();
    const socket = await opened(port, A);
    let text = '';
    socket.on('data', (data: Buffer) => (text += data.toString()));
    socket.write(lineOf('/costly').repeat(20) + lineOf('/healthz'));
    for (let at = 0; at < 20; at++) {
      await until('the next one to run', () => gate.waiting.length === 1);
      expect(server.shares.questions.of(A) + server.shares.queued_questions.of(A)).toBe(1);
      gate.waiting.pop()?.();
    }
    await until('all answers', () => text.split('HTTP/1.1 200').length === 22 || undefined);
    expect(gate.answered).toBe(20);
  });

  it('more of them than any client sends end the connection, and nothing of them is done', async () => {
    const { port, gate } = await start();
    const socket = await opened(port, A);
    socket.write(lineOf('/costly').repeat(1000));
    await until('it to be closed', () => socket.destroyed || undefined);
    for (const go of gate.waiting.splice(0)) go();
    expect((await ask(port, '/healthz', A)).status).toBe(200);
    expect(gate.answered).toBeLessThanOrEqual(1);
  });

  it('of a thousand requests that come at once by one address another one waits for a few', async () => {
    const { port, gate, server } = await start();
    const many = await Promise.all(Array.from({ length: 200 }, () => opened(port, A)));
    const other = await opened(port, B);
    await until('all to be there', () => server.shares.connections.used === 201);
    for (const socket of many) socket.write(lineOf('/busy'));
    other.write(lineOf('/busy'));
    await until('all of it to be answered', () => gate.told.length === 201 || undefined);
    expect(gate.told.indexOf(B)).toBeLessThan(100);
  });
});

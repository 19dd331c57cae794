import { Duplex } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Gather } from '../../shared/mqtt/gather.ts';

class Recorder extends Duplex {
  readonly writes: string[] = [];
  override _read(): void {
    // Nothing comes.
  }
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.writes.push(chunk.toString());
    done();
  }
}

describe('what goes to a connection', () => {
  it('leaves as one write a turn, in its order', async () => {
    const socket = new Recorder();
    const out = new Gather(socket);
    for (const text of ['a', 'b', 'c']) out.write(Buffer.from(text));
    expect(out.unread).toBe(3);
    expect(socket.writes).toEqual([]);
    await turn();
    expect(socket.writes).toEqual(['abc']);
    out.write(Buffer.from('d'));
    out.flush();
    expect(socket.writes).toEqual(['abc', 'd']);
    await turn();
    expect(socket.writes).toHaveLength(2);
    expect(out.unread).toBe(0);
  });

  it('does not wait for the turn’s end when it is much, and counts what the socket has not taken', () => {
    const socket = new Recorder();
    socket.cork();
    const out = new Gather(socket);
    out.write(Buffer.alloc(40_000));
    out.write(Buffer.alloc(40_000));
    expect(socket.writableLength).toBe(80_000);
    expect(out.unread).toBe(80_000);
    expect(out.isFlowing).toBe(false);
  });

  it('is left out once the connection is at its end', async () => {
    const socket = new Recorder();
    const out = new Gather(socket);
    out.write(Buffer.from('a'));
    socket.end();
    out.write(Buffer.from('b'));
    await turn();
    expect(socket.writes).toEqual([]);
  });
});

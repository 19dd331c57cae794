/**
 * Places for connections, by address, and which of them hold nothing: nobody has said yet who he is, a request has not come
 * whole, or the last one is answered. Where all places are taken, the one that has been so for longest gives way to an address
 * that has none. Without it fourteen addresses, each with half of what the others leave, would have all places for as long as they
 * like to say nothing.
 */
import type { Socket } from 'node:net';
import { addressGroup, type Share } from './shares.ts';

interface Waiting {
  socket: Socket;
  isIdle: () => boolean;
}

/** The same for a socket and for TLS on it. */
const keyOf = ({ remoteAddress = '', remotePort = 0 }: Socket): string =>
  `${remoteAddress} ${remotePort}`;

export class Doorway {
  private readonly share: Share;
  private readonly admitted = new WeakSet<Socket>();
  /** The longest first. */
  private readonly waiting = new Map<string, Waiting>();

  constructor(share: Share) {
    this.share = share;
  }

  /** False: it is to be closed. One that comes by again has its place. `max`: of one address. */
  admit(socket: Socket, max = Infinity): boolean {
    if (this.admitted.has(socket)) return true;
    const address = addressGroup(socket.remoteAddress ?? '');
    if (this.share.of(address) >= max || !this.take(address)) return false;
    this.admitted.add(socket);
    this.enter(socket, () => true);
    const key = keyOf(socket);
    socket.once('close', () => {
      this.share.give(address);
      this.waiting.delete(key);
    });
    return true;
  }

  private take(address: string): boolean {
    const { share } = this;
    if (share.take(address)) return true;
    if (share.of(address) > 0 || share.used < share.whole || !this.giveWay()) return false;
    share.add(address, 1);
    return true;
  }

  /** It holds nothing from now on, as long as `isIdle` says so. */
  enter(socket: Socket, isIdle: () => boolean): void {
    if (socket.destroyed) return;
    const key = keyOf(socket);
    this.waiting.delete(key);
    this.waiting.set(key, { socket, isIdle });
  }

  private giveWay(): boolean {
    for (const [key, { socket, isIdle }] of this.waiting) {
      this.waiting.delete(key);
      if (!isIdle() || socket.destroyed) continue;
      socket.destroy();
      return true;
    }
    return false;
  }
}

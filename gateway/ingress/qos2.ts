/**
 * QoS 2 receive state: which packet ids of which session have been stored and not yet released [MQTT-4.3.3].
 * For a persistent session it is durable (written in the message's own batch, freed in the batch before PUBCOMP),
 * because aedes keeps it in memory and delivers twice when a publish is retried across a kill (F6).
 * A clean session's state lives as long as its connection [MQTT-3.1.2-6]. Bounded in all, with a share of each principal.
 */
import type { Share } from '../../shared/access/shares.ts';
import type { KvOp } from '../../shared/kv/kv.ts';

export const QOS2_PREFIX = Buffer.from('q');
const NOTHING = Buffer.alloc(0);

function keyOf(clientId: string, packetId: number): Buffer {
  const id = Buffer.from(clientId, 'utf8');
  const key = Buffer.alloc(1 + 2 + id.length + 2);
  QOS2_PREFIX.copy(key);
  key.writeUInt16BE(id.length, 1);
  id.copy(key, 3);
  key.writeUInt16BE(packetId, 3 + id.length);
  return key;
}

interface Session {
  principal: string;
  ids: Set<number>;
}

export class Qos2Sessions {
  private readonly sessions = new Map<string, Session>();
  private readonly share: Share;

  constructor(share: Share) {
    this.share = share;
  }

  /** Takes up what an earlier run stored. */
  load(entries: [Buffer, Buffer][]): void {
    for (const [key] of entries) {
      const idBytes = key.readUInt16BE(1);
      this.keep(key.toString('utf8', 3, 3 + idBytes), '', key.readUInt16BE(3 + idBytes));
    }
  }

  private keep(clientId: string, principal: string, packetId: number): void {
    let session = this.sessions.get(clientId);
    if (session === undefined)
      this.sessions.set(clientId, (session = { principal, ids: new Set() }));
    session.ids.add(packetId);
    this.share.add(session.principal, 1);
  }

  clients(): string[] {
    return [...this.sessions.keys()];
  }

  /** Messages of the session that wait for their PUBREL. */
  inFlight(clientId: string): number {
    return this.sessions.get(clientId)?.ids.size ?? 0;
  }

  has(clientId: string, packetId: number): boolean {
    return this.sessions.get(clientId)?.ids.has(packetId) ?? false;
  }

  /** Undefined when the principal's share is reached. */
  store(
    clientId: string,
    principal: string,
    packetId: number,
    durable: boolean,
  ): KvOp[] | undefined {
    if (this.share.room(principal) < 1) {
      this.share.refused++;
      return undefined;
    }
    this.keep(clientId, principal, packetId);
    return durable ? [{ type: 'put', key: keyOf(clientId, packetId), value: NOTHING }] : [];
  }

  release(clientId: string, packetId: number): KvOp[] {
    const session = this.sessions.get(clientId);
    if (session?.ids.delete(packetId) !== true) return [];
    this.share.give(session.principal);
    if (session.ids.size === 0) this.sessions.delete(clientId);
    return [{ type: 'del', key: keyOf(clientId, packetId) }];
  }

  clear(clientId: string): KvOp[] {
    const session = this.sessions.get(clientId);
    if (session === undefined) return [];
    this.sessions.delete(clientId);
    this.share.give(session.principal, session.ids.size);
    return [...session.ids].map((packetId) => ({ type: 'del', key: keyOf(clientId, packetId) }));
  }
}

/**
 * QoS 2 receive state: which packet ids of which session have been stored and not yet released [MQTT-4.3.3].
 * For a persistent session it is durable (written in the message's own batch, freed in the batch before PUBCOMP),
 * because aedes keeps it in memory and delivers twice when a publish is retried across a kill (F6).
 * A clean session's state lives as long as its connection [MQTT-3.1.2-6].
 */
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

export class Qos2Sessions {
  private readonly sessions = new Map<string, Set<number>>();

  /** Takes up what an earlier run stored. */
  load(entries: [Buffer, Buffer][]): void {
    for (const [key] of entries) {
      const idBytes = key.readUInt16BE(1);
      this.of(key.toString('utf8', 3, 3 + idBytes)).add(key.readUInt16BE(3 + idBytes));
    }
  }

  private of(clientId: string): Set<number> {
    let ids = this.sessions.get(clientId);
    if (ids === undefined) this.sessions.set(clientId, (ids = new Set()));
    return ids;
  }

  /** Messages of the session that wait for their PUBREL. */
  inFlight(clientId: string): number {
    return this.sessions.get(clientId)?.size ?? 0;
  }

  has(clientId: string, packetId: number): boolean {
    return this.sessions.get(clientId)?.has(packetId) ?? false;
  }

  store(clientId: string, packetId: number, durable: boolean): KvOp[] {
    this.of(clientId).add(packetId);
    return durable ? [{ type: 'put', key: keyOf(clientId, packetId), value: NOTHING }] : [];
  }

  release(clientId: string, packetId: number): KvOp[] {
    const ids = this.sessions.get(clientId);
    if (ids?.delete(packetId) !== true) return [];
    if (ids.size === 0) this.sessions.delete(clientId);
    return [{ type: 'del', key: keyOf(clientId, packetId) }];
  }

  clear(clientId: string): KvOp[] {
    const ids = this.sessions.get(clientId);
    if (ids === undefined) return [];
    this.sessions.delete(clientId);
    return [...ids].map((packetId) => ({ type: 'del', key: keyOf(clientId, packetId) }));
  }
}

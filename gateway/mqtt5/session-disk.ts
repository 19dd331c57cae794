/**
 * Sessions on disk: all keys begin with `s`, the length of the client id (u16) and the id; then
 *   0                      the session: expiry, since when it is away, subscriptions, will (JSON, sealed)
 *   1, sequence (u64)      a message that waits for it or is not acknowledged (`message.ts`)
 *   2, packet id (u16)     a QoS 2 message that is with the client: its sequence (u64), and whether it is released (0, 1)
 * Written with the groups of the buffer, so in order with the messages themselves.
 */
import type { KvOp } from '../../shared/kv/kv.ts';
import { seal, unseal } from '../../shared/kv/sealed.ts';
import { decodeOutgoing, type Outgoing } from './message.ts';
import { Session, type SessionStore } from './session.ts';

export const SESSION_PREFIX = Buffer.from('s');

/** A will that waits for the end of its connection, or for its delay. */
export interface PendingWill {
  topic: string;
  payload: Buffer;
  qos: number;
  retain: boolean;
  forwarded: Buffer | undefined;
  /** Seconds; undefined: it does not expire. */
  messageExpiry: number | undefined;
  delaySeconds: number;
  /** Epoch milliseconds; undefined while its connection lasts. */
  dueMs: number | undefined;
}

interface SessionRecord {
  /** Left out: 5. */
  version?: 4;
  user?: string;
  /** Of its password. Left out: it showed none, or this was written by a version that kept none. */
  mark?: string;
  principal: string;
  /** Null: for good. JSON has no infinity. */
  expirySeconds: number | null;
  awaySinceMs?: number;
  /** The largest sequence that went to the client, while it is away; left out: none. */
  sent?: number;
  subscriptions: [
    filter: string,
    qos: number,
    noLocal: boolean,
    retainAsPublished: boolean,
    id: number | null,
  ][];
  /** Filters for which not all that is retained was given. Left out: none. */
  retained?: string[];
  will?: {
    topic: string;
    payload: string;
    qos: number;
    retain: boolean;
    forwarded?: string;
    messageExpiry?: number;
    delaySeconds: number;
    dueMs?: number;
  };
}

function keyOf(clientId: string, kind: number, rest: Buffer = Buffer.alloc(0)): Buffer {
  const id = Buffer.from(clientId, 'utf8');
  const head = Buffer.alloc(3);
  SESSION_PREFIX.copy(head);
  head.writeUInt16BE(id.length, 1);
  return Buffer.concat([head, id, Buffer.from([kind]), rest]);
}

export function messageKey(clientId: string, sequence: number): Buffer {
  const rest = Buffer.alloc(8);
  rest.writeBigUInt64BE(BigInt(sequence));
  return keyOf(clientId, 1, rest);
}

function inFlightKey(clientId: string, packetId: number): Buffer {
  return keyOf(clientId, 2, Buffer.from([packetId >> 8, packetId & 255]));
}

/** What is kept of a QoS 2 message that is with the client; `state` undefined: nothing any more. */
export function inFlightOp(
  clientId: string,
  packetId: number,
  sequence: number,
  state: 'sent' | 'released' | undefined,
): KvOp {
  const key = inFlightKey(clientId, packetId);
  if (state === undefined) return { type: 'del', key };
  const value = Buffer.alloc(9);
  value.writeBigUInt64BE(BigInt(sequence));
  value[8] = state === 'released' ? 1 : 0;
  return { type: 'put', key, value };
}

export function recordOps(session: Session, will: PendingWill | undefined): KvOp[] {
  const record: SessionRecord = {
    ...(session.version === 4 ? { version: 4 } : {}),
    ...(session.user === undefined ? {} : { user: session.user }),
    ...(session.passwordMark === undefined ? {} : { mark: session.passwordMark }),
    principal: session.principal,
    expirySeconds: Number.isFinite(session.expirySeconds) ? session.expirySeconds : null,
    ...(session.awaySinceMs === undefined ? {} : { awaySinceMs: session.awaySinceMs }),
    ...(session.lastSent === 0 ? {} : { sent: session.lastSent }),
    subscriptions: [...session.subscriptions.values()].map((each) => [
      each.filter,
      each.qos,
      each.noLocal,
      each.retainAsPublished,
      each.id ?? null,
    ]),
    ...(session.owedRetained.size === 0 ? {} : { retained: [...session.owedRetained] }),
  };
  if (will !== undefined) {
    record.will = {
      topic: will.topic,
      payload: will.payload.toString('base64'),
      qos: will.qos,
      retain: will.retain,
      delaySeconds: will.delaySeconds,
      ...(will.forwarded === undefined ? {} : { forwarded: will.forwarded.toString('base64') }),
      ...(will.messageExpiry === undefined ? {} : { messageExpiry: will.messageExpiry }),
      ...(will.dueMs === undefined ? {} : { dueMs: will.dueMs }),
    };
  }
  const value = seal(Buffer.from(JSON.stringify(record)));
  return [{ type: 'put', key: keyOf(session.clientId, 0), value }];
}

/** Everything that is kept for it. */
export function removalOps(session: Session, kept: Outgoing[]): KvOp[] {
  const { clientId } = session;
  return [
    { type: 'del', key: keyOf(clientId, 0) },
    ...kept
      .filter(({ sequence }) => sequence > 0)
      .map(({ sequence }): KvOp => ({ type: 'del', key: messageKey(clientId, sequence) })),
    ...session.inFlightIds().map((id): KvOp => ({ type: 'del', key: inFlightKey(clientId, id) })),
  ];
}

function willOf(record: NonNullable<SessionRecord['will']>): PendingWill {
  return {
    topic: record.topic,
    payload: Buffer.from(record.payload, 'base64'),
    qos: record.qos,
    retain: record.retain,
    forwarded: record.forwarded === undefined ? undefined : Buffer.from(record.forwarded, 'base64'),
    messageExpiry: record.messageExpiry,
    delaySeconds: record.delaySeconds,
    dueMs: record.dueMs,
  };
}

interface Parts {
  record: Buffer | undefined;
  messages: [sequence: number, value: Buffer][];
  inFlight: Map<number, [packetId: number, released: boolean]>;
}

function partsOf(entries: [Buffer, Buffer][]): Map<string, Parts> {
  const all = new Map<string, Parts>();
  for (const [key, value] of entries) {
    const idEnd = 3 + key.readUInt16BE(1);
    const clientId = key.toString('utf8', 3, idEnd);
    let parts = all.get(clientId);
    if (parts === undefined)
      all.set(clientId, (parts = { record: undefined, messages: [], inFlight: new Map() }));
    const kind = key[idEnd];
    if (kind === 0) parts.record = value;
    else if (kind === 1) parts.messages.push([Number(key.readBigUInt64BE(idEnd + 1)), value]);
    else if (kind === 2 && value.length === 9)
      parts.inFlight.set(Number(value.readBigUInt64BE(0)), [
        key.readUInt16BE(idEnd + 1),
        value[8] === 1,
      ]);
  }
  return all;
}

export interface Loaded {
  sessions: Session[];
  wills: Map<string, PendingWill>;
  /** The largest sequence that was given out. */
  sequence: number;
  /** Messages that are not what was stored, or whose session is not. */
  damaged: number;
  /** Clients whose session is not what was stored: nobody knows what it subscribed to. */
  lost: string[];
  /** Removes copies whose session had ended, of a message that was on its way then. */
  orphans: KvOp[];
}

export function loadSessions(entries: [Buffer, Buffer][], store: SessionStore): Loaded {
  const loaded: Loaded = {
    sessions: [],
    wills: new Map(),
    sequence: 0,
    damaged: 0,
    lost: [],
    orphans: [],
  };
  for (const [clientId, { record, messages, inFlight }] of partsOf(entries)) {
    for (const [sequence] of messages) loaded.sequence = Math.max(loaded.sequence, sequence);
    const text = record === undefined ? undefined : unseal(record);
    if (text === undefined) {
      if (record !== undefined) {
        // Its copies would be those of the client's next session; the record is there until then.
        loaded.lost.push(clientId);
        loaded.damaged += messages.length;
      }
      for (const [sequence] of messages)
        loaded.orphans.push({ type: 'del', key: messageKey(clientId, sequence) });
      for (const [packetId] of inFlight.values())
        loaded.orphans.push({ type: 'del', key: inFlightKey(clientId, packetId) });
      continue;
    }
    const parsed = JSON.parse(text.toString('utf8')) as SessionRecord;
    const session = new Session(clientId, store);
    session.user = parsed.user;
    session.passwordMark = parsed.mark;
    session.version = parsed.version ?? 5;
    session.principal = parsed.principal;
    session.expirySeconds = parsed.expirySeconds ?? Number.POSITIVE_INFINITY;
    session.awaySinceMs = parsed.awaySinceMs;
    session.lastSent = parsed.sent ?? 0;
    // What is given out from here on is newer than what was sent.
    loaded.sequence = Math.max(loaded.sequence, session.lastSent);
    for (const [filter, qos, noLocal, retainAsPublished, id] of parsed.subscriptions)
      session.subscriptions.set(filter, {
        session,
        filter,
        qos,
        noLocal,
        retainAsPublished,
        id: id ?? undefined,
      });
    for (const filter of parsed.retained ?? []) session.owedRetained.add(filter);
    if (parsed.will !== undefined) loaded.wills.set(clientId, willOf(parsed.will));
    const taken = new Set([...inFlight.values()].map(([packetId]) => packetId));
    const last = Math.max(0, ...inFlight.keys());
    // Keys come in their order, so do the messages.
    for (const [sequence, value] of messages) {
      const out = decodeOutgoing(value, sequence);
      if (out === undefined) {
        loaded.damaged++;
        continue;
      }
      let [packetId, released] = inFlight.get(sequence) ?? [undefined, false];
      // Before one that went to the client: so did this, at QoS 1, whose ids are not kept. It comes again before it.
      if (sequence < last) packetId ??= session.freeId(out, taken);
      // Whoever was connected at the end may have got any of it.
      const maybeSent = parsed.awaySinceMs === undefined || sequence <= session.lastSent;
      session.restore(out, packetId, released, maybeSent);
    }
    loaded.sessions.push(session);
  }
  return loaded;
}

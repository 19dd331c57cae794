/**
 * Room for what waits in sessions: messages of one that is away, and bytes, of which each principal has a share. Where there is
 * none, what has expired makes room; then whoever of the principal's sessions holds most has to go, not the next that asks.
 */
import type { Share } from '../../shared/access/shares.ts';
import type { Session } from './session.ts';

export interface RoomOptions {
  /** QoS 1 and 2 messages that wait for one session that is away. */
  messagesMax: number;
  /** Of all of them, shared by principals. */
  bytes: Share;
}

export class Room {
  private readonly options: RoomOptions;
  private readonly sessions: ReadonlyMap<string, Session>;
  /** Ends a session, which gives back what it holds. */
  private readonly overflow: (session: Session) => void;

  constructor(
    options: RoomOptions,
    sessions: ReadonlyMap<string, Session>,
    overflow: (session: Session) => void,
  ) {
    this.options = options;
    this.sessions = sessions;
    this.overflow = overflow;
  }

  /** False: it is the session itself that has to go. */
  take(session: Session, size: number): boolean {
    const { bytes } = this.options;
    const { principal } = session;
    if (!this.isFull(session) && bytes.take(principal, size)) return true;
    session.dropExpired();
    if (this.isFull(session)) return false;
    while (!bytes.take(principal, size)) {
      const largest = this.largestOf(principal, session);
      if (largest === session) return false;
      this.overflow(largest);
      if (this.sessions.get(largest.clientId) === largest) return false;
    }
    return true;
  }

  /** Of who is here the bytes alone count: a burst is no reason to end a session that takes it. */
  private isFull({ isConnected, queuedCount }: Session): boolean {
    return !isConnected && queuedCount >= this.options.messagesMax;
  }

  private largestOf(principal: string, session: Session): Session {
    let largest = session;
    for (const each of this.sessions.values())
      if (each.principal === principal && each.queuedBytes > largest.queuedBytes) largest = each;
    return largest;
  }
}

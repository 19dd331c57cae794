/** What a connection may publish, as it has turned out, and how much of its rate is left. */
import type { Env } from '../../shared/env/env.ts';
import { Pool, Remembered } from '../../shared/model/remembered.ts';
import type { MqttConnection } from '../../shared/mqtt/connection.ts';
import type { Guard } from './guard.ts';

interface Standing {
  /** Topic → whether it may, and may have it retained. */
  topics: Remembered<Rights>;
  tokens: number;
  filledUs: number;
}

export interface Rights {
  publish: boolean;
  retain: boolean;
}

/** Topics remembered for a connection. */
const TOPICS_MAX = 512;
/** Of all connections. */
const ROOM_BYTES = 32 * 1024 * 1024;

const ALL_RIGHTS: Rights = { publish: true, retain: true };

export class Standings {
  private readonly standings = new WeakMap<MqttConnection, Standing>();
  private readonly room = new Pool(ROOM_BYTES);
  private readonly env: Env;
  private readonly guard: Guard;
  /** Of one connection; 0 is no limit. */
  private readonly messagesPerSecond: number;

  constructor(env: Env, guard: Guard, messagesPerSecond: number) {
    this.env = env;
    this.guard = guard;
    this.messagesPerSecond = messagesPerSecond;
  }

  private of(connection: MqttConnection): Standing {
    let standing = this.standings.get(connection);
    if (standing === undefined) {
      const filledUs = this.env.clock.monotonicUs();
      const topics = new Remembered<Rights>(TOPICS_MAX, this.room);
      standing = { topics, tokens: this.messagesPerSecond, filledUs };
      this.standings.set(connection, standing);
    }
    return standing;
  }

  rightsOf(connection: MqttConnection, topic: string): Rights {
    const { rules } = this.guard;
    if (rules === undefined) return ALL_RIGHTS;
    const { topics } = this.of(connection);
    const known = topics.get(topic);
    if (known !== undefined) return known;
    const who = { user: connection.user, client: connection.clientId };
    const publish = rules.mayPublish(who, topic);
    const rights = { publish, retain: publish && rules.mayRetain(who, topic) };
    topics.set(topic, rights);
    return rights;
  }

  /** A token bucket of one second: who is ahead of it is not read from until it has filled again. */
  pace(connection: MqttConnection): void {
    const { messagesPerSecond } = this;
    if (messagesPerSecond === 0) return;
    const standing = this.of(connection);
    const nowUs = this.env.clock.monotonicUs();
    const filled = ((nowUs - standing.filledUs) / 1e6) * messagesPerSecond;
    standing.tokens = Math.min(messagesPerSecond, standing.tokens + filled) - 1;
    standing.filledUs = nowUs;
    if (standing.tokens >= 0 || connection.isHeld) return;
    connection.hold();
    const waitMs = Math.ceil((1 - standing.tokens) * (1000 / messagesPerSecond));
    setTimeout(() => connection.release(), waitMs).unref();
  }

  /** Rights have changed, or the connection is gone. */
  forget(connection: MqttConnection): void {
    this.standings.get(connection)?.topics.clear();
    this.standings.delete(connection);
  }
}

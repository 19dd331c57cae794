/** The limits that hold for all who come by MQTT, each with its share of a principal: see `shared/access/limits.ts`. */
import { MQTT_LIMITS, type MqttLimitName } from '../../shared/access/limits.ts';
import { Share } from '../../shared/access/shares.ts';
import type { MqttConnection } from '../../shared/mqtt/connection.ts';
import type { Labels } from '../../shared/telemetry/metrics.ts';

export interface SharesMax {
  connectionsMax: number;
  sessionsMax: number;
  subscriptionsMax: number;
  subscriptionLevelsMax: number;
  qos2Max: number;
  offlineBytesMax: number;
  retainedMessagesMax: number;
  retainedBytesMax: number;
  bufferBytesMax: number;
  willBytesMax: number;
  begunBytesMax: number;
}

export class IngressShares {
  /** By user; by address the server counts them. */
  readonly connections: Share;
  readonly sessions: Share;
  readonly sessions5: Share;
  readonly subscriptions: Share;
  readonly subscriptionLevels: Share;
  readonly qos2: Share;
  readonly offlineBytes: Share;
  readonly retainedMessages: Share;
  readonly retainedBytes: Share;
  readonly bufferSpace: Share;
  readonly waitingWills: Share;
  readonly begunPackets: Share;
  /** Those that are counted for their user. */
  private readonly admitted = new Set<MqttConnection>();

  constructor(max: SharesMax) {
    this.connections = new Share('connections', max.connectionsMax);
    this.sessions = new Share('sessions', max.sessionsMax);
    this.sessions5 = new Share('mqtt5_sessions', max.sessionsMax);
    this.subscriptions = new Share('subscriptions', max.subscriptionsMax);
    this.subscriptionLevels = new Share('subscription_levels', max.subscriptionLevelsMax);
    this.qos2 = new Share('qos2', max.qos2Max);
    this.offlineBytes = new Share('offline_bytes', max.offlineBytesMax);
    this.retainedMessages = new Share('retained_messages', max.retainedMessagesMax);
    this.retainedBytes = new Share('retained_bytes', max.retainedBytesMax);
    this.bufferSpace = new Share('buffer_space', max.bufferBytesMax);
    this.begunPackets = new Share('begun_packets', max.begunBytesMax);
    this.waitingWills = new Share('waiting_wills', max.willBytesMax);
  }

  /** One more connection of this user; false: it has its share. */
  admit(connection: MqttConnection, user: string | undefined): boolean {
    if (user === undefined) return true;
    if (!this.connections.take(user)) return false;
    this.admitted.add(connection);
    return true;
  }

  /** The connection is gone. */
  left(connection: MqttConnection): void {
    const { user } = connection;
    if (this.admitted.delete(connection) && user !== undefined) this.connections.give(user);
  }

  /** Each row of the table with what is held; `atDoor` are connections, by address. */
  read(
    atDoor: Share,
    value: (share: Share) => number,
    together = (door: number, users: number): number => Math.max(door, users),
  ): { labels: Labels; value: number }[] {
    const of: Record<MqttLimitName, number> = {
      connections: together(value(atDoor), value(this.connections)),
      sessions: value(this.sessions),
      mqtt5_sessions: value(this.sessions5),
      subscriptions: value(this.subscriptions),
      subscription_levels: value(this.subscriptionLevels),
      qos2: value(this.qos2),
      offline_bytes: value(this.offlineBytes),
      retained_messages: value(this.retainedMessages),
      retained_bytes: value(this.retainedBytes),
      begun_packets: value(this.begunPackets),
      waiting_wills: value(this.waitingWills),
      buffer_space: value(this.bufferSpace),
    };
    return MQTT_LIMITS.map(({ name }) => ({ labels: { limit: name }, value: of[name] }));
  }
}

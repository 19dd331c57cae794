/**
 * The consumer groups on Kafka: those of somebody who has taken one of our names. A foreign member gets partitions of ours, and
 * no stage sees what is in them while it is there: it is told. What it commits moves no stage, which keeps its own place.
 */
import { messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { groupsAt, membersAt, type AdminAccess } from './kafka-admin.ts';
import { CLIENT_ID } from './kafka-client.ts';

/** HOST:PORT of every broker. */
type Brokers = readonly string[];

export class KafkaGroups {
  private readonly access: AdminAccess;
  private readonly notify: Notify;
  private foreign: readonly string[] = [];
  private trouble = '';

  constructor(access: AdminAccess, notify: Notify) {
    this.access = access;
    this.notify = notify;
  }

  /** One sentence for each foreign member, as it was found last. */
  warnings(): readonly string[] {
    return this.foreign;
  }

  /** `groups` with their prefix. What may not be looked at is told once. */
  async look(brokers: Brokers, groups: readonly string[]): Promise<void> {
    if (groups.length === 0) return;
    try {
      const asked = brokers.map((broker) => membersAt(broker, this.access, groups));
      const members = (await Promise.all(asked)).flat();
      this.found(members.filter(({ client }) => client !== CLIENT_ID));
      this.trouble = '';
    } catch (error) {
      const text = `who is in the consumer groups cannot be looked at: ${messageOf(error)}`;
      if (text !== this.trouble) this.notify({ level: 'info', event: 'log_group', text });
      this.trouble = text;
    }
  }

  private found(members: readonly { group: string; client: string; host: string }[]): void {
    const foreign = members.map(
      ({ group, client, host }) =>
        `the consumer group ${group} has a member that is none of Headwater's ('${client}' at ${host.replace(/^\//, '')}): what its partitions get is decoded and stored by nobody while it is there: stop it, or give it a group of its own; then all of it is read from where Headwater's own place was`,
    );
    for (const text of foreign)
      if (!this.foreign.includes(text)) this.notify({ level: 'warn', event: 'log_group', text });
    if (foreign.length === 0 && this.foreign.length > 0)
      this.notify({
        level: 'info',
        event: 'log_group',
        text: "the consumer groups are Headwater's own again",
      });
    this.foreign = [...new Set(foreign)];
  }

  /** All that begin so. Throws LOG_UNAVAILABLE. */
  async names(brokers: Brokers, prefix: string): Promise<string[]> {
    const all = await Promise.all(brokers.map((broker) => groupsAt(broker, this.access)));
    return [...new Set(all.flat())].filter((name) => name.startsWith(prefix));
  }
}

/**
 * What brokers say of our topics, now and then: whether they are the ones of before (one that was deleted and made again has
 * another id), whether they can be written, and whether this user may use them. In words for whoever has to mend it.
 */
import { ask, type AdminAccess } from './kafka-admin.ts';
import { mendCommand } from './kafka-topics.ts';
import { Writer, type Reader } from './kafka-wire.ts';

/** With ids and rights, from Kafka 2.8 on; the other is in all that we speak with. */
const METADATA = [3, 12, true] as const;
const METADATA_BEFORE = [3, 4] as const;
const NOT_ALLOWED = 29;
/** Bits of the rights that are needed, as Kafka numbers its operations. */
const RIGHTS = { Read: 1 << 3, Write: 1 << 4, Describe: 1 << 8 } as const;
/** A Kafka that does not answer with ids so often has none. */
const UNANSWERED_MAX = 3;
/** Kafka does not say. */
const UNKNOWN_RIGHTS = -(2 ** 31);

interface TopicNow {
  name: string;
  error: number;
  /** '' where brokers have none. */
  id: string;
  rights: number;
  partitions: { leader: number; inSync: number }[];
}

/** Topics by their names, as a broker knows them. Throws LOG_UNAVAILABLE. */
async function topicsNow(
  brokers: string,
  access: AdminAccess,
  names: readonly string[],
  withIds: boolean,
): Promise<TopicNow[]> {
  return await ask(brokers, access, async (wire) => {
    const to = new Writer();
    if (!withIds) {
      to.int(4, names.length);
      for (const name of names) to.text(name);
      return readOld(await wire.request(METADATA_BEFORE, to.int(1, 0).done()));
    }
    to.many(names, (name) => to.fill(16).word(name).end());
    // Not made by being asked for; with its rights.
    return readNew(await wire.request(METADATA, to.int(1, 0).int(1, 1).end().done()));
  });
}

function readOld(answer: Reader): TopicNow[] {
  answer.int(4);
  answer.list(() => [answer.int(4), answer.text(), answer.int(4), answer.text()]);
  answer.text();
  answer.int(4);
  return answer.list(() => {
    const error = answer.int(2);
    const name = answer.text();
    answer.int(1);
    const partitions = answer.list(() => {
      answer.int(2);
      answer.int(4);
      const leader = answer.int(4);
      answer.list(() => answer.int(4));
      return { leader, inSync: answer.list(() => answer.int(4)).length };
    });
    return { name, error, id: '', rights: UNKNOWN_RIGHTS, partitions };
  });
}

function readNew(answer: Reader): TopicNow[] {
  answer.tags();
  answer.int(4);
  answer.many(() => {
    answer.int(4);
    answer.word();
    answer.int(4);
    answer.word();
    answer.tags();
  });
  answer.word();
  answer.int(4);
  return answer.many(() => {
    const error = answer.int(2);
    const name = answer.word();
    const id = answer.take(16).toString('hex');
    answer.int(1);
    const partitions = answer.many(() => {
      answer.int(2);
      answer.int(4);
      const leader = answer.int(4);
      answer.int(4);
      answer.many(() => answer.int(4));
      const inSync = answer.many(() => answer.int(4)).length;
      answer.many(() => answer.int(4));
      answer.tags();
      return { leader, inSync };
    });
    const rights = answer.int(4);
    answer.tags();
    return { name, error, id, rights, partitions };
  });
}

export class KafkaStanding {
  /** Why the topics cannot be used as they must be; '' while they can. */
  reason = '';
  private readonly brokers: string;
  private readonly access: AdminAccess;
  private readonly ids = new Map<string, string>();
  /** Requests with ids that failed where the other did not, in a row. */
  private unanswered = 0;

  constructor(brokers: string, access: AdminAccess) {
    this.brokers = brokers;
    this.access = access;
  }

  /** `names`: with their prefix. Those that were made anew since the last time. Throws LOG_UNAVAILABLE. */
  async look(names: readonly string[], minInSync: ReadonlyMap<string, number>): Promise<string[]> {
    const topics = await this.topics(names);
    this.reason =
      this.lackingRights(topics) || this.withoutLeader(topics) || this.outOfSync(topics, minInSync);
    const anew: string[] = [];
    for (const { name, id, error } of topics) {
      if (id === '' || error !== 0) continue;
      if ((this.ids.get(name) ?? id) !== id) anew.push(name);
      this.ids.set(name, id);
    }
    return anew;
  }

  /** Of topics that are not listed, those that are there and may not be seen. Throws LOG_UNAVAILABLE. */
  async hidden(names: readonly string[]): Promise<string[]> {
    const topics = await this.topics(names);
    const hidden = topics.filter(({ error }) => error === NOT_ALLOWED);
    if (hidden.length > 0) this.reason = this.lackingRights(hidden);
    return hidden.map(({ name }) => name);
  }

  /** Made by us: they are no others for that. */
  forget(names: readonly string[]): void {
    for (const name of names) this.ids.delete(name);
  }

  private async topics(names: readonly string[]): Promise<TopicNow[]> {
    if (this.unanswered < UNANSWERED_MAX)
      try {
        const topics = await topicsNow(this.brokers, this.access, names, true);
        this.unanswered = 0;
        return topics;
      } catch {
        // A broker closes the connection on what it does not know; one that is away is away for the other as well.
      }
    const topics = await topicsNow(this.brokers, this.access, names, false);
    this.unanswered++;
    return topics;
  }

  private lackingRights(topics: readonly TopicNow[]): string {
    const lacking = new Map<string, string[]>();
    for (const { name, error, rights } of topics) {
      const missing = Object.entries(RIGHTS).flatMap(([right, bit]) => {
        if (error === NOT_ALLOWED) return right === 'Describe' ? [right] : [];
        return error !== 0 || rights === UNKNOWN_RIGHTS || (rights & bit) !== 0 ? [] : [right];
      });
      if (missing.length > 0) lacking.set(name, missing);
    }
    const [first] = lacking;
    if (first === undefined) return '';
    const [name, missing] = first;
    const others = lacking.size === 1 ? '' : `, nor ${lacking.size - 1} other topics as it must`;
    const { sasl, tls } = this.access;
    const named = sasl !== undefined && 'user' in sasl ? sasl.user : 'NAME';
    // Who shows nothing is known to Kafka so.
    const user = sasl === undefined && tls === undefined ? 'ANONYMOUS' : named;
    const operations = Object.keys(RIGHTS).map((right) => `--operation ${right}`);
    return `this user may not ${missing.join(', ').toLowerCase()} topic ${name}${others}; grant it: kafka-acls.sh --bootstrap-server ${this.brokers} --add --allow-principal User:${user} ${operations.join(' ')} --topic ${name}, and look for a --deny-principal that is stronger`;
  }

  private withoutLeader(topics: readonly TopicNow[]): string {
    for (const { name, partitions } of topics) {
      const without = partitions.filter(({ leader }) => leader < 0).length;
      if (without > 0)
        return `topic ${name}: ${without} of ${partitions.length} partitions have no broker: the one that has them, or its disk, is gone (kafka-topics.sh --bootstrap-server ${this.brokers} --describe --unavailable-partitions)`;
    }
    return '';
  }

  private outOfSync(topics: readonly TopicNow[], minInSync: ReadonlyMap<string, number>): string {
    for (const { name, partitions } of topics) {
      const least = minInSync.get(name) ?? 1;
      const fewest = Math.min(...partitions.map(({ inSync }) => inSync));
      if (partitions.length === 0 || fewest >= least) continue;
      const mend = mendCommand(this.brokers, name, 'min.insync.replicas', Math.max(1, fewest));
      return `topic ${name} takes nothing: ${fewest} of its replicas are in sync, and min.insync.replicas is ${least}: bring the other brokers back, or ask for less: ${mend}`;
    }
    return '';
  }
}

/** Who reads the embedded log, and how far each has come. */
import type { KvDatabase } from '../../shared/kv/kv.ts';
import { unseal } from '../../shared/kv/sealed.ts';
import type { ConsumerOptions, LogConsumer } from './log.ts';

interface Progress {
  group: string;
  topic: string;
  next: number;
}

const nameOf = (group: string, topic: string): string => `${group}\0${topic}`;

export class Groups {
  /** Groups that read no more: what they have not read may be cut. */
  private readonly retired: readonly string[];
  private readonly offsets = new Map<string, Progress>();
  /** Progress that consumers keep elsewhere, which may be ahead of what is on disk here. */
  private readonly noted = new Map<string, Progress>();
  /** Consumers of a group and topic, in the order in which they came. */
  private readonly members = new Map<string, LogConsumer[]>();

  constructor(retired: readonly string[]) {
    this.retired = retired;
  }

  /** Offsets as they are on disk. */
  async takeUp(db: KvDatabase): Promise<void> {
    this.offsets.clear();
    for (const [key, value] of await db.read(
      { gte: Buffer.from('o'), lt: Buffer.from('p') },
      Number.POSITIVE_INFINITY,
    )) {
      const [group = '', topic = ''] = key.toString('utf8', 1).split('\0');
      const offset = unseal(value);
      // A damaged one is as good as none: the group reads again, and identities make that harmless.
      if (offset?.length !== 8 || this.retired.includes(group)) continue;
      this.came(group, topic, Number(offset.readBigUInt64BE(0)));
    }
    for (const [name, progress] of this.noted)
      if (progress.next > (this.offsets.get(name)?.next ?? 0)) this.offsets.set(name, progress);
  }

  all(): Progress[] {
    return [...this.offsets.values()];
  }

  committed(group: string, topic: string): number | undefined {
    return this.offsets.get(nameOf(group, topic))?.next;
  }

  came(group: string, topic: string, next: number): void {
    this.offsets.set(nameOf(group, topic), { group, topic, next });
  }

  /** A consumer that keeps its progress elsewhere has come so far. */
  note(group: string, topic: string, next: number): void {
    this.noted.set(nameOf(group, topic), { group, topic, next });
    this.came(group, topic, next);
  }

  /** Offsets before this one were given out, whatever is on disk: they are never given twice. */
  givenBefore(topic: string): number {
    return Math.max(0, ...this.positions(topic));
  }

  /** The first offset that somebody has not read; infinite where nobody reads. */
  readByAll(topic: string): number {
    // Who has committed nothing yet, and is there, reads from the beginning.
    for (const member of this.members.keys())
      if (member.endsWith(`\0${topic}`) && !this.offsets.has(member)) return 0;
    return Math.min(Number.POSITIVE_INFINITY, ...this.positions(topic));
  }

  private positions(topic: string): number[] {
    return this.all()
      .filter((each) => each.topic === topic)
      .map(({ next }) => next);
  }

  join(consumer: LogConsumer, { group, topic }: ConsumerOptions): void {
    const name = nameOf(group, topic);
    this.members.set(name, [...(this.members.get(name) ?? []), consumer]);
  }

  /** Whether it is the first of its group and topic. */
  holds(consumer: LogConsumer, { group, topic }: ConsumerOptions): boolean {
    return this.members.get(nameOf(group, topic))?.[0] === consumer;
  }

  leave(consumer: LogConsumer, { group, topic }: ConsumerOptions): void {
    const name = nameOf(group, topic);
    const rest = (this.members.get(name) ?? []).filter((each) => each !== consumer);
    if (rest.length === 0) this.members.delete(name);
    else this.members.set(name, rest);
  }

  topicsOf(group: string): string[] {
    return this.all()
      .filter((each) => each.group === group)
      .map(({ topic }) => topic);
  }

  forget(group: string, topics: string[]): void {
    for (const topic of topics) {
      this.offsets.delete(nameOf(group, topic));
      this.noted.delete(nameOf(group, topic));
    }
  }
}

/**
 * Looks at Kafka every few seconds: whether it answers, has the topics, is the one of before, and takes what is written. What
 * somebody has deleted is made again, and whoever reads it begins anew.
 */
import { messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { clusterOf, notThere, type AdminAccess } from './kafka-admin.ts';
import { call } from './kafka-client.ts';
import type { KafkaGroups } from './kafka-groups.ts';
import type { KafkaHealth } from './kafka-health.ts';
import type { KafkaSettings } from './kafka-settings.ts';
import { KafkaStanding } from './kafka-standing.ts';
import type * as RdKafka from './rdkafka-types.ts';

export interface LooksParts {
  /** As they are configured. */
  brokers: string;
  admin: AdminAccess;
  notify: Notify;
  health: KafkaHealth;
  settings: KafkaSettings;
  members: KafkaGroups;
  /** With their prefix; `meta` beside them. */
  topics: readonly string[];
  meta: string;
  /** Who reads now. */
  consumers: ReadonlySet<{
    topic: string;
    group: string | undefined;
    madeAnew(isOwn: boolean): void;
  }>;
  producer: () => RdKafka.Producer | undefined;
  renewToken: () => void;
  makeTopics: () => Promise<void>;
}

const EVERY_MS = 3000;
const ANSWER_MS_MAX = 2000;
/** Looks for each at who is in our groups, what the topics are set to, and how they stand. */
const CLOSER_EVERY = 2;

export class KafkaLooks {
  /** HOST:PORT of each broker, as Kafka said last. */
  brokers: readonly string[] = [];
  private readonly parts: LooksParts;
  private readonly standing: KafkaStanding;
  private looks = 0;
  /** The brokers, of which one was reached where they say that they are. */
  private reached = '';
  /** Kafka's own name of itself, '' while it is not known. */
  private cluster = '';
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> | undefined;

  constructor(parts: LooksParts) {
    this.parts = parts;
    this.standing = new KafkaStanding(parts.brokers, parts.admin);
  }

  start(): void {
    this.timer = setInterval(() => {
      this.running ??= this.look().finally(() => {
        this.running = undefined;
      });
    }, EVERY_MS);
    this.timer.unref();
  }

  stop(): void {
    clearInterval(this.timer);
  }

  /** When the look that was under way is over. */
  async settled(): Promise<void> {
    await this.running;
  }

  private async look(): Promise<void> {
    const { health, topics, meta, renewToken } = this.parts;
    const producer = this.parts.producer();
    if (producer === undefined) return;
    try {
      renewToken();
      const metadata = await call<RdKafka.Metadata>('reading metadata', (done) =>
        producer.getMetadata({ timeout: ANSWER_MS_MAX }, done),
      );
      const names = new Set(metadata.topics.map(({ name }) => name));
      const missing = [meta, ...topics].filter((name) => !names.has(name));
      // What may not be seen is not listed either: it is not gone for that.
      const hidden = missing.length === 0 ? [] : await this.standing.hidden(missing);
      const gone = missing.filter((name) => !hidden.includes(name));
      if (metadata.brokers.length > 0) await this.compareWithBefore(gone);
      this.brokers = metadata.brokers.map(({ host, port }) => `${host}:${port}`);
      const elsewhere = await this.elsewhere();
      health.answers(elsewhere || this.standing.reason);
      if (elsewhere === '' && this.looks++ % CLOSER_EVERY === 0) await this.lookCloser();
    } catch (error) {
      this.reached = '';
      await health.down(messageOf(error));
    }
  }

  /** Whoever answers may say that it is where nobody reaches it; looked at when they are others, or were away. */
  private async elsewhere(): Promise<string> {
    const places = this.brokers.join();
    if (places === this.reached) return '';
    const why = await notThere(this.parts.brokers, this.brokers);
    if (why === '') this.reached = places;
    return why;
  }

  private async lookCloser(): Promise<void> {
    const { settings, topics, health, members, consumers } = this.parts;
    await settings.read();
    const anew = await this.standing.look(topics, settings.minInSync);
    health.answers(this.standing.reason);
    if (anew.length > 0) this.beginAnew(anew);
    const groups = [...consumers].flatMap(({ group }) => group ?? []);
    await members.look(this.brokers, groups);
  }

  /** Somebody has deleted them and made them again between two looks. */
  private beginAnew(topics: readonly string[]): void {
    const { notify, consumers } = this.parts;
    const text = `Kafka's topics ${topics.join(', ')} were deleted and made again by somebody: they are read from their beginning`;
    notify({ level: 'warn', event: 'log_topics', text });
    for (const consumer of consumers) consumer.madeAnew(topics.includes(consumer.topic));
  }

  /** Topics that are gone are made again; who reads begins anew, there and on a Kafka that is another one. */
  private async compareWithBefore(missing: readonly string[]): Promise<void> {
    const { brokers, admin, notify, consumers, health, makeTopics } = this.parts;
    // Whoever was wiped was away: while it answers it is the same.
    const cluster =
      this.cluster === '' || !health.present.up ? await clusterOf(brokers, admin) : this.cluster;
    const isOther = this.cluster !== '' && cluster !== this.cluster;
    if (missing.length > 0 || isOther) {
      const what =
        missing.length > 0
          ? `Kafka has lost the topics ${missing.join(', ')}: they are made again`
          : `Kafka is another one than before (cluster ${cluster}): it is read from its beginning`;
      notify({ level: 'warn', event: 'log_topics', text: what });
      const tell = (): void => {
        for (const consumer of consumers)
          consumer.madeAnew(isOther || missing.includes(consumer.topic));
      };
      // Before they are there again, so that no offset of the old ones is committed for the new, and after.
      tell();
      await makeTopics();
      this.standing.forget(isOther ? this.parts.topics : missing);
      tell();
    }
    this.cluster = cluster;
  }
}

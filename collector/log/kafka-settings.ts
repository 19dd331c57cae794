/** What the topics are set to, which an administrator may change while this runs: read at the start, now and then, and when a record is refused. */
import { HeadwaterError, hasCode, messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { RecordSize } from './kafka-size.ts';
import { compare, type TopicsAccess } from './kafka-topics.ts';
import type { Produced } from './log.ts';

export interface SettingsParts {
  size: RecordSize;
  access: () => TopicsAccess;
  replicas: () => number;
  notify: Notify;
  /** Producers are made by what the topics take. */
  onChange: () => Promise<void>;
}

export class KafkaSettings {
  /** One sentence for each that is not as it must be, as it was found last. */
  warnings: string[] = [];
  /** Topic with its prefix → `min.insync.replicas`. */
  minInSync: ReadonlyMap<string, number> = new Map();
  private readonly parts: SettingsParts;

  constructor(parts: SettingsParts) {
    this.parts = parts;
  }

  /** `bytesMax`: empty where it could not be asked. */
  async take(bytesMax: ReadonlyMap<string, number>, warnings: string[]): Promise<void> {
    this.warnings = warnings;
    if (bytesMax.size > 0) this.parts.size.bytesMax = bytesMax;
    await this.parts.onChange();
  }

  /** True when they could be asked. */
  async read(): Promise<boolean> {
    const before = new Set(this.warnings);
    const { access, replicas, notify } = this.parts;
    const { bytesMax, minInSync, warnings } = await compare(access(), replicas());
    this.minInSync = minInSync;
    await this.take(bytesMax, warnings);
    for (const text of warnings)
      if (!before.has(text)) notify({ level: 'warn', event: 'log_topics', text });
    return bytesMax.size > 0;
  }

  /** What is to be thrown for a failure of sending these: what a broker found too large is asked about, and may fit the next time. */
  async judged(error: unknown, records: readonly Produced[]): Promise<unknown> {
    if (!hasCode(error, 'LOG_TOO_LARGE')) return error;
    await this.refused(records);
    return new HeadwaterError('LOG_UNAVAILABLE', messageOf(error), { cause: error });
  }

  private async refused(records: readonly Produced[]): Promise<void> {
    const { size, onChange } = this.parts;
    const before = new Map(size.bytesMax);
    const isAsked = await this.read();
    const isNews = [...size.bytesMax].some(([topic, bytes]) => before.get(topic) !== bytes);
    if (isAsked && isNews) return;
    size.refused(records);
    await onChange();
  }
}

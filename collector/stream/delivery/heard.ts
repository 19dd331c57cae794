/**
 * How far a target has heard each partition of `results`, and since when it hears: a target that is new is told what happens
 * from then on, and one that is known what happened while nobody delivered, also of a partition that had nothing before.
 */
import { TOPIC_STATE, type LogRecord, type Produced } from '../../log/log.ts';
import type { Offsets } from '../../stage/membership.ts';
import { OwnPlaces } from '../../stage/own-place.ts';

interface Kept {
  sinceMs: number;
  /** Offset of the next record; none before the first one. */
  next?: number;
}

export class Heard extends OwnPlaces {
  private readonly kept = new Map<number, Kept>();
  /** Partitions whose beginning is not kept yet. */
  private readonly unkept = new Set<number>();

  /** `target`: its name. */
  constructor(target: string) {
    super(TOPIC_STATE, `deliver-at/${encodeURIComponent(target)}/`);
  }

  /** `committed`: by its group, as versions before kept it. */
  load(
    records: readonly LogRecord[],
    partition: number,
    committed: number | undefined,
    nowMs: number,
  ): number | undefined {
    const text = this.textIn(records, partition);
    const isNew = text === undefined;
    const kept = isNew
      ? { sinceMs: committed === undefined ? nowMs : 0 }
      : (JSON.parse(text) as Kept);
    this.kept.set(partition, kept);
    if (isNew) this.unkept.add(partition);
    else this.unkept.delete(partition);
    return kept.next;
  }

  sinceMs(partition: number): number {
    return this.kept.get(partition)?.sinceMs ?? 0;
  }

  /** What is to be kept of partitions in which nothing has happened yet. */
  unsaid(): Produced[] {
    const partitions = [...this.unkept];
    this.unkept.clear();
    return partitions.map((partition) =>
      this.record(partition, JSON.stringify(this.kept.get(partition))),
    );
  }

  override records(offsets: Offsets): Produced[] {
    return [...offsets].map(([partition, next]) => {
      const kept = { sinceMs: this.sinceMs(partition), next };
      this.kept.set(partition, kept);
      this.unkept.delete(partition);
      return this.record(partition, JSON.stringify(kept));
    });
  }
}

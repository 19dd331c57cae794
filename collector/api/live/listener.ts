/** One who listens: how far he is, and what he is told of each record. Each reading is told once, in the order of its lane. */
import { textOf, type Lane, type Position } from './position.ts';
import type { Sink } from './sink.ts';
import type { Heard } from './tail.ts';
import { partsOf, type Wanted } from './wanted.ts';

export class Listener {
  readonly wanted: Wanted;
  readonly sink: Sink;
  /** Undefined: in a log that cannot be gone on in. */
  position: Position | undefined;
  /** It hears what comes; else it reads what it has missed. */
  isLive = false;

  constructor(wanted: Wanted, sink: Sink) {
    this.wanted = wanted;
    this.sink = sink;
  }

  get id(): string | undefined {
    return this.position === undefined ? undefined : textOf(this.position);
  }

  lacks(lane: Lane, offset: number): boolean {
    return this.position === undefined || offset >= (this.position.get(lane)?.next ?? 0);
  }

  hear(heard: Heard): void {
    const { lane, offset, batch } = heard;
    if (!this.lacks(lane, offset)) return;
    const place = this.position?.get(lane);
    const skip = place?.next === offset ? place.skip : 0;
    if (batch !== undefined && this.wanted.may(batch.gateway)) {
      const { key } = this.wanted;
      const parts = (skip === 0 ? heard.written.get(key) : undefined) ?? [
        ...partsOf(batch, this.wanted, skip),
      ];
      if (skip === 0) heard.written.set(key, parts);
      for (const [index, { through, json }] of parts.entries()) {
        const isLast = index === parts.length - 1;
        this.position?.set(
          lane,
          isLast ? { next: offset + 1, skip: 0 } : { next: offset, skip: through },
        );
        this.sink.event('readings', this.id, json);
      }
    }
    this.position?.set(lane, { next: offset + 1, skip: 0 });
  }
}

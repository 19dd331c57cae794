/**
 * How long after the arrival of a record a stage has committed it. A record counts once its step is committed, so what is
 * read again after a failure counts once, with all of the time that it took. Not counted: records that do not say when they
 * came (results, alerts), that were said before (replays, what comes from the lake), and those whose time of arrival the
 * collector doubted itself.
 */
import { Histogram } from '../../shared/telemetry/histogram.ts';
import type { StoredRecord } from '../log/log.ts';
import { HEADER_AGAIN, HEADER_ARRIVED, HEADER_FROM_LAKE, HEADER_UNSETTLED } from '../log/topics.ts';

/** Seconds: from a step over a record that has just come to a stage that was away for days. */
const BOUNDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86_400];

export class Latency {
  readonly seconds = new Histogram(BOUNDS);
  /** Partition → when what was worked on and is not committed arrived, epoch milliseconds. */
  private readonly waiting = new Map<number, number[]>();

  worked(records: readonly StoredRecord[]): void {
    for (const { partition, headers } of records) {
      const arrivedMs = Number(headers[HEADER_ARRIVED] ?? 0);
      const isFirst =
        headers[HEADER_AGAIN] === undefined &&
        headers[HEADER_FROM_LAKE] === undefined &&
        headers[HEADER_UNSETTLED] === undefined;
      if (!isFirst || !(arrivedMs > 0)) continue;
      const waiting = this.waiting.get(partition);
      if (waiting === undefined) this.waiting.set(partition, [arrivedMs]);
      else waiting.push(arrivedMs);
    }
  }

  /** All that was worked on is committed. Another machine's clock may be ahead of this one's. */
  committed(nowMs: number): void {
    for (const waiting of this.waiting.values())
      for (const arrivedMs of waiting) this.seconds.observe(Math.max(0, nowMs - arrivedMs) / 1000);
    this.waiting.clear();
  }

  /** It comes again, here or at another member: of one partition, or of all. */
  forget(partition?: number): void {
    if (partition === undefined) this.waiting.clear();
    else this.waiting.delete(partition);
  }
}

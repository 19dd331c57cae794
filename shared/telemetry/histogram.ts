/**
 * A histogram as Prometheus understands it: observations counted by upper bound, their sum and their count. An observation
 * costs one look along at most a dozen bounds, no allocation.
 */
/** Seconds: from a good disk's fsync to a link that hangs. */
export const SECONDS: readonly number[] = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60,
];

export class Histogram {
  private readonly bounds: readonly number[];
  /** One more than bounds: the last counts what is above them all. */
  private readonly counts: number[];
  private sum = 0;

  /** `bounds` rise. */
  constructor(bounds: readonly number[] = SECONDS) {
    this.bounds = bounds;
    this.counts = Array.from({ length: bounds.length + 1 }, () => 0);
  }

  observe(value: number): void {
    let index = 0;
    // `le` is inclusive; NaN belongs nowhere and would spoil the sum for good.
    if (Number.isNaN(value)) return;
    while (index < this.bounds.length && value > (this.bounds[index] ?? 0)) index++;
    this.counts[index] = (this.counts[index] ?? 0) + 1;
    this.sum += value;
  }

  /** Cumulative, as the exposition format wants it; `own` labels stand before `le`. */
  series(
    own: Readonly<Record<string, string>> = {},
  ): { suffix: string; labels: Readonly<Record<string, string>>; value: number }[] {
    let count = 0;
    const buckets = this.counts.map((each, index) => {
      count += each;
      const bound = this.bounds[index];
      const le = bound === undefined ? '+Inf' : String(bound);
      return { suffix: '_bucket', labels: { ...own, le }, value: count };
    });
    return [
      ...buckets,
      { suffix: '_sum', labels: own, value: this.sum },
      { suffix: '_count', labels: own, value: count },
    ];
  }
}

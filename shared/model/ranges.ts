/**
 * Sets of sequence numbers as sorted, disjoint, inclusive ranges. Dedupe is by such sets, never by a high-water mark:
 * frames of one gateway arrive by arrival, not by sequence (live before backlog, resends).
 */
export type Range = [from: number, to: number];

export class RangeSet {
  private readonly list: Range[];

  constructor(ranges: Iterable<readonly [number, number]> = []) {
    this.list = [];
    for (const [from, to] of ranges) this.add(from, to);
  }

  get ranges(): readonly Range[] {
    return this.list;
  }

  get count(): number {
    return this.list.reduce((sum, [from, to]) => sum + to - from + 1, 0);
  }

  /** Index of the first range that ends at or after `value`. */
  private search(value: number): number {
    let low = 0;
    let high = this.list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.list[middle] as Range)[1] < value) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  has(value: number): boolean {
    const range = this.list[this.search(value)];
    return range !== undefined && range[0] <= value;
  }

  /** Whether all of [from, to] is in the set. */
  covers(from: number, to: number): boolean {
    const range = this.list[this.search(from)];
    return range !== undefined && range[0] <= from && range[1] >= to;
  }

  /** Whether any of [from, to] is in the set. */
  touches(from: number, to: number): boolean {
    const range = this.list[this.search(from)];
    return range !== undefined && range[0] <= to;
  }

  add(from: number, to: number): void {
    // Ranges that overlap or adjoin become one.
    const start = this.search(from - 1);
    let end = start;
    let low = from;
    let high = to;
    for (
      let range = this.list[end];
      range !== undefined && range[0] <= to + 1;
      range = this.list[++end]
    ) {
      low = Math.min(low, range[0]);
      high = Math.max(high, range[1]);
    }
    this.list.splice(start, end - start, [low, high]);
  }

  /** The range that holds `value`, if any. */
  around(value: number): Range | undefined {
    const range = this.list[this.search(value)];
    return range !== undefined && range[0] <= value ? range : undefined;
  }

  /** Takes [from, to] out. */
  remove(from: number, to: number): void {
    const start = this.search(from);
    let end = start;
    const left: Range[] = [];
    for (
      let range = this.list[end];
      range !== undefined && range[0] <= to;
      range = this.list[++end]
    ) {
      if (range[0] < from) left.push([range[0], from - 1]);
      if (range[1] > to) left.push([to + 1, range[1]]);
    }
    if (end > start) this.list.splice(start, end - start, ...left);
  }

  /** The parts of [from, to] that are not in the set. */
  gaps(from: number, to: number): Range[] {
    const gaps: Range[] = [];
    let next = from;
    for (let index = this.search(from); next <= to; index++) {
      const range = this.list[index];
      if (range === undefined || range[0] > to) break;
      if (range[0] > next) gaps.push([next, range[0] - 1]);
      next = range[1] + 1;
    }
    if (next <= to) gaps.push([next, to]);
    return gaps;
  }

  /** The parts of [from, to] that are in the set. */
  within(from: number, to: number): Range[] {
    const parts: Range[] = [];
    for (let index = this.search(from); ; index++) {
      const range = this.list[index];
      if (range === undefined || range[0] > to) return parts;
      parts.push([Math.max(range[0], from), Math.min(range[1], to)]);
    }
  }
}

/** So many ranges at most: of more the last one reaches to the end, over what lies between. */
export function atMost(count: number, ranges: readonly Range[]): Range[] {
  const last = ranges.at(-1);
  const rest = ranges[count - 1];
  if (ranges.length <= count || last === undefined || rest === undefined) return [...ranges];
  return [...ranges.slice(0, count - 1), [rest[0], last[1]]];
}

/** For people: so many of them at most, and how many more there are. */
export function rangesText(ranges: readonly (readonly [number, number])[], count: number): string {
  const shown = ranges
    .slice(0, count)
    .map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`));
  const more = ranges.length > count ? ` and ${ranges.length - count} more ranges` : '';
  return `${shown.join(', ')}${more}`;
}

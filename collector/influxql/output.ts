/** Rows of an answer as parts: those of the series that SLIMIT and SOFFSET leave, as many as LIMIT and OFFSET leave of each. */
import type { Row } from './evaluate.ts';
import type { Job, Part } from './job.ts';

/** Rows in one part. */
const PART_ROWS = 5000;

export class Output {
  private readonly job: Job;
  /** Groups that SLIMIT and SOFFSET leave; undefined: all. */
  private readonly wanted: ReadonlySet<number> | undefined;
  private series = 0;
  private group = -1;
  private seen = 0;
  private rows: Row[] = [];
  private isNew = true;
  private isWanted = true;

  constructor(job: Job) {
    this.job = job;
    const { slimit, soffset } = job.select;
    // Of which series a condition leaves rows is known when they come.
    if ((slimit > 0 || soffset > 0) && job.source.condition === undefined)
      this.wanted = chosenOf(job);
  }

  private part(): Part[] {
    if (this.rows.length === 0) return [];
    const { plan, relation, groups, groupedTags } = this.job;
    const part: Part = {
      name: relation.name,
      tags: groupedTags.length === 0 ? undefined : groups.groups[this.group],
      columns: ['time', ...plan.columns.map(({ name }) => name)],
      rows: this.rows,
      isNew: this.isNew,
    };
    this.rows = [];
    this.isNew = false;
    return [part];
  }

  private isChosen(place: number): boolean {
    const { slimit, soffset } = this.job.select;
    return place > soffset && (slimit === 0 || place <= soffset + slimit);
  }

  /** What is complete by now. */
  add(group: number, row: Row): Part[] {
    const { limit, offset } = this.job.select;
    let done: Part[] = [];
    if (group !== this.group) {
      done = this.part();
      this.group = group;
      this.seen = 0;
      this.isNew = true;
      this.isWanted = this.wanted?.has(group) ?? this.isChosen(++this.series);
    }
    this.seen++;
    if (this.isWanted && this.seen > offset && (limit === 0 || this.seen <= offset + limit))
      this.rows.push(row);
    return this.rows.length >= PART_ROWS ? [...done, ...this.part()] : done;
  }

  end(): Part[] {
    return this.part();
  }

  /** Nothing that comes is wanted. */
  get isFull(): boolean {
    const { wanted, group } = this;
    if (wanted === undefined) return false;
    const { descending } = this.job.select;
    return [...wanted].every((each) => (descending ? each > group : each < group));
  }
}

/** As InfluxDB chooses series: in order of the tags that they have, whichever order the answer has. */
function chosenOf({ groups: { groups }, select: { slimit, soffset } }: Job): Set<number> {
  const keyOf = (tags: Record<string, string>): string => {
    const own = Object.entries(tags).filter(([, value]) => value !== '');
    return [...own.map(([name]) => name), ...own.map(([, value]) => value)].join('\u0000');
  };
  const ranked = [...groups.entries()]
    .map(([at, tags]): [string, number] => [keyOf(tags), at])
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const end = slimit === 0 ? undefined : soffset + slimit;
  return new Set(ranked.slice(soffset, end).map(([, at]) => at));
}

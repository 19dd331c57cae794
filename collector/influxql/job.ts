/** What is known of a SELECT over one measurement before it reads, and what it gives. */
import type { FieldValue } from '../../shared/model/reading.ts';
import type { Session, SqlStore } from '../store/session.ts';
import type { TailPoints } from '../store/tails.ts';
import type { Select } from './ast.ts';
import type { From } from './bases.ts';
import type { Tags } from './condition.ts';
import type { Plan } from './plan.ts';
import type { Grouped, Relation, RelationSeries } from './relation.ts';
import type { Buckets, TimeRange } from './time.ts';

export interface Context {
  session: Session;
  /** What may be seen. */
  series: readonly RelationSeries[];
  nowNs: bigint;
  /** The store's; left out: everything is asked in SQL. */
  recent?: SqlStore['recent'];
}

/** Rows of a series; the next part may be of the same one. */
export interface Part {
  name: string;
  tags: Tags | undefined;
  columns: string[];
  /** Time first. */
  rows: [bigint, ...(FieldValue | null)[]][];
  /** The first of its series. */
  isNew: boolean;
}

/** Points of a job's series, by their numbers. */
export type Recent = ReadonlyMap<number, TailPoints>;

export interface Job {
  select: Select;
  plan: Plan;
  relation: Relation;
  groups: Grouped;
  groupedTags: string[];
  source: From;
  /** Of the source's fields. */
  fieldNames: string[];
  buckets: Buckets | undefined;
  range: TimeRange;
  /** The asked range, where more is read before it. */
  wanted: TimeRange;
  /** The points of all of its series, where they are few. */
  recent: Recent | undefined;
}

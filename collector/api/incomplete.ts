/** What the store's answers lack, as the API says it. */
import { INTEGER, TEXT, listOf, maybe, orNull } from '../../shared/http/schema.ts';
import type { StoreStage } from '../store/stage.ts';

interface Said {
  of: string;
  /** ISO 8601; null: as far back as there is anything. */
  from: string | null;
  /** Exclusive; null: to the newest. */
  to: string | null;
  reason: string;
  since: string;
  filledReadings: number;
}

const iso = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());

export function incompleteness(stage: StoreStage | undefined): Said[] {
  return (stage?.fill.incomplete() ?? []).map(({ from, to, since, ...rest }) => ({
    ...rest,
    from: iso(from),
    to: iso(to),
    since: new Date(since).toISOString(),
  }));
}

/** One of them in a header: ISO 8601's interval, open where there is no bound. */
const headerOf = ({ of, from, to }: Said): string => `${of} ${from ?? '..'}/${to ?? '..'}`;

export const headersOf = (incomplete: readonly Said[]): Record<string, string> =>
  incomplete.length === 0 ? {} : { 'headwater-incomplete': incomplete.map(headerOf).join(', ') };

/** As OpenAPI has it. */
export const INCOMPLETE = maybe({
  ...listOf({
    of: TEXT,
    from: orNull(TEXT),
    to: orNull(TEXT),
    reason: TEXT,
    since: TEXT,
    filledReadings: INTEGER,
  }),
  description:
    'What the store lacks now of what the lake or raw has; absent while it lacks nothing.',
});

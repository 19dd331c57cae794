/** What the API says of damage in the lake and of its checks. */
import { BOOLEAN, INTEGER, TEXT, listOf, object, type Schema } from '../../shared/http/schema.ts';

export const orNull = (schema: Schema): Schema => ({ oneOf: [schema, { type: 'null' }] });

/** Files that are not as they were written, and whose rows are not all there again. */
export const DAMAGES = listOf({
  zone: TEXT,
  key: TEXT,
  date: TEXT,
  gateway: TEXT,
  rows: INTEGER,
  kind: TEXT,
  reason: TEXT,
  since: INTEGER,
  final: BOOLEAN,
});

/** A check of the whole lake. */
export const PASS = object({
  startedMs: INTEGER,
  endedMs: INTEGER,
  files: INTEGER,
  bytes: INTEGER,
  found: INTEGER,
  manifests: INTEGER,
  pastLost: { type: 'array', items: TEXT },
});

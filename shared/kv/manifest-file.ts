/**
 * What LevelDB's manifest says of the files that must be there. It asks for its tables itself; a write-ahead log that is gone,
 * with everything that was acknowledged last, it does not miss, and an older manifest makes it delete tables that are newer.
 *
 * A manifest is a log whose records are edits, each a list of tag and value: 1 comparator, 2 number of the oldest log that
 * counts, 3 next file, 4 last sequence, 5 compaction pointer (level, key), 6 deleted file (level, number), 7 new file (level,
 * number, size, smallest and largest key), 9 log before. Source: LevelDB db/version_edit.cc.
 */
import { logRecords } from './log-check.ts';
import { varint } from './table-file.ts';

export interface Needed {
  /** 0: none yet. */
  log: number;
  /** Number → bytes. */
  tables: Map<number, number>;
}

/** Throws for what is no edit. */
export function neededBy(manifest: Buffer): Needed {
  const needed: Needed = { log: 0, tables: new Map() };
  for (const record of logRecords(manifest)) readEdit(record, needed);
  return needed;
}

function readEdit(edit: Buffer, needed: Needed): void {
  let at = 0;
  const number = (): number => {
    const [value, next] = varint(edit, at);
    at = next;
    return value;
  };
  const skip = (): void => {
    const length = number();
    at += length;
  };
  while (at < edit.length) {
    const tag = number();
    if (tag === 1) skip();
    else if (tag === 2) needed.log = number();
    else if (tag === 3 || tag === 4 || tag === 9) number();
    else if (tag === 5) {
      number();
      skip();
    } else if (tag === 6) {
      number();
      needed.tables.delete(number());
    } else if (tag === 7) {
      number();
      const file = number();
      needed.tables.set(file, number());
      skip();
      skip();
    } else throw new Error(`tag ${tag} is none of an edit`);
  }
}

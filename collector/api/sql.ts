/**
 * SQL over the lake, for whoever may see all of it: one SELECT of the views `raw`, `readings`, `results` and `points`, in a
 * sealed DuckDB of its own (`duckdb/sealed.ts`): no file, network or setting of this machine, bounded memory and time. Rows go
 * out as lines while they come.
 */
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import {
  READ_ALL,
  type Parameters,
  type Request,
  type StreamReply,
} from '../../shared/http/route.ts';
import { invalid } from '../../shared/http/parameters.ts';
import { streamOf, type DuckDBConnection } from '../duckdb/database.ts';
import { givenUp, interruption } from '../duckdb/interrupt.ts';
import { checkSql } from '../duckdb/sealed.ts';
import type { Lake } from '../lake/lake.ts';
import { ZONES, type FileFilter } from '../lake/layout.ts';
import { NO_LAKE, lakePart } from '../lake/part.ts';
import type { CollectorPart } from '../part.ts';
import { pass } from '../store/session.ts';
import { through, type Channel } from './channel.ts';

const TIMEOUT_MS = 60_000;
const SPILL_BYTES_MAX = 2 * 1024 ** 3;
const VIEWS = [...ZONES, 'points'];

const FIELDS: Parameters = {
  sql: { about: 'One SELECT.', required: true },
  from: { about: 'Only rows of this date (YYYY-MM-DD, UTC) and later ones.' },
  to: { about: 'Only rows of this date and earlier ones.' },
};

/** What DuckDB gives, as JSON has it: 64-bit numbers that JSON's readers would round, dates and times as texts, bytes as base64. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint')
    return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER)
      ? Number(value)
      : String(value);
  if (typeof value === 'number') return Number.isFinite(value) ? value : null;
  if (typeof value !== 'object' || value === null) return value;
  if ('bytes' in value && value.bytes instanceof Uint8Array)
    return Buffer.from(value.bytes).toString('base64');
  if ('items' in value && Array.isArray(value.items)) return value.items.map(plain);
  if ('entries' in value && Array.isArray(value.entries))
    return Object.fromEntries(
      (value.entries as { key: unknown; value: unknown }[]).map((each) => [
        String(plain(each.key)),
        plain(each.value),
      ]),
    );
  if ('entries' in value && typeof value.entries === 'object' && value.entries !== null)
    return Object.fromEntries(
      Object.entries(value.entries).map(([key, each]) => [key, plain(each)]),
    );
  return (value as { toString(): string }).toString(); // DuckDB's own classes, which write themselves as SQL does.
}

async function read(
  connection: DuckDBConnection,
  sql: string,
  signal: AbortSignal,
  channel: Channel<string>,
): Promise<void> {
  const { begin: leave, end } = interruption(connection);
  signal.addEventListener('abort', leave, { once: true });
  if (signal.aborted) leave();
  try {
    await checkSql(connection, sql, VIEWS);
    const { columns, chunks } = await streamOf(connection, sql, pass);
    await channel.put(`${JSON.stringify({ columns })}\n`);
    for await (const rows of chunks)
      await channel.put(rows.map((row) => `${JSON.stringify(row.map(plain))}\n`).join(''));
    await channel.put('{"end":true}\n');
  } catch (error) {
    if (signal.aborted) throw givenUp(error);
    const [first = ''] = messageOf(error).split('\n');
    if (
      /^(?:Parser|Binder|Catalog|Conversion|Invalid Input|Out of Range|Not implemented|Permission) Error/.test(
        first,
      )
    )
      throw new HeadwaterError('QUERY_INVALID', first.slice(0, 500), { cause: error });
    throw error;
  } finally {
    signal.removeEventListener('abort', leave);
    end();
  }
}

/** Each has the lake's memory; how many run at once, and of whom, is said by the turns of questions (`http/turns.ts`). */
const rowsText = (
  lake: Lake,
  sql: string,
  filter: FileFilter,
  signal: AbortSignal,
): AsyncGenerator<string> => {
  const limits = { timeoutMs: TIMEOUT_MS, spillBytesMax: SPILL_BYTES_MAX };
  return through<string>((channel) =>
    lake.sealed(filter, limits, (connection) => read(connection, sql, signal, channel)),
  );
};

function dateOf(text: string | undefined, name: string): string | undefined {
  if (text !== undefined && !/^\d{4}-\d\d-\d\d$/.test(text))
    invalid(`${name} is not a date: YYYY-MM-DD`);
  return text;
}

function answer(lake: Lake, { fields, signal }: Request): StreamReply {
  const { sql = '' } = fields;
  const from = dateOf(fields['from'], 'from');
  const to = dateOf(fields['to'], 'to');
  const filter = { ...(from === undefined ? {} : { from }), ...(to === undefined ? {} : { to }) };
  return { type: 'application/x-ndjson', parts: rowsText(lake, sql, filter, signal) };
}

export const sqlPart: CollectorPart<Lake> = {
  name: 'SQL',
  roles: ['query'],
  absent: NO_LAKE,
  open: (site) => site.find(lakePart),
  routes: [
    {
      method: 'POST',
      path: '/api/v1/sql',
      isCostly: true,
      about:
        'One SELECT over the lake (views `raw`, `readings`, `results`, `points`), as JSON lines: `{"columns"}`, an array for each row, `{"end":true}`.',
      right: READ_ALL,
      body: { fields: FIELDS },
      replies: { 200: { about: 'Lines.', type: 'application/x-ndjson' } },
      handle: answer,
    },
  ],
};

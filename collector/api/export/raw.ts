/**
 * Raw messages as the gateways had them, from the lake's frames: a row a message, by date of arrival, gateway, epoch and sequence. One
 * day and gateway after the other, so that what is sorted at once is bounded. One that was cut goes on as those of points do.
 */
import { maySee } from '../../../shared/access/may.ts';
import type { Identity } from '../../../shared/access/tokens.ts';
import { hasCode } from '../../../shared/errors.ts';
import { KIND_RECORDS, checkFrame, readRecords } from '../../../shared/frame/frame.ts';
import { invalid } from '../../../shared/http/parameters.ts';
import {
  READ_EACH,
  type Parameters,
  type Request,
  type StreamReply,
} from '../../../shared/http/route.ts';
import { chunksOf, quote, type DuckDBConnection } from '../../duckdb/database.ts';
import { interruption } from '../../duckdb/interrupt.ts';
import type { Lake } from '../../lake/lake.ts';
import type { FileFilter } from '../../lake/layout.ts';
import { NO_LAKE, lakePart } from '../../lake/part.ts';
import type { CollectorPart } from '../../part.ts';
import { pass } from '../../store/session.ts';
import { through, type Channel } from '../channel.ts';
import { checkAsked } from '../parameters.ts';
import { ENCODERS, FORMATS, SPREADSHEET, cellText, type Format } from './format.ts';
import { Batches, type Batch, type Column } from './rows.ts';

const RAW: Parameters = {
  format: { about: 'Of the answer.', choices: Object.keys(FORMATS), required: true },
  gateway: { about: 'Only of this gateway.' },
  from: { about: 'Arrived on this date (YYYY-MM-DD, UTC) or later.' },
  to: { about: 'Arrived on this date or earlier.' },
  cursors: {
    about:
      'Of CSV, Parquet and Arrow: `true` adds a column `cursor`, which some rows have. JSON lines have cursors of their own.',
    choices: ['true', 'false'],
  },
  cursor: { about: 'One of an export before this one: goes on behind its row.' },
  spreadsheet: SPREADSHEET,
};

/** `payload` is bytes, in texts base64. Messages that were thinned away are none: their summary is a reading. */
const COLUMNS: readonly Column[] = [
  { name: 'gateway', type: 'text' },
  { name: 'epoch', type: 'text' },
  { name: 'sequence', type: 'integer' },
  { name: 'received', type: 'time' },
  { name: 'client', type: 'text' },
  { name: 'topic', type: 'text' },
  { name: 'qos', type: 'integer' },
  { name: 'retain', type: 'boolean' },
  { name: 'payload', type: 'bytes' },
];
const WITH_CURSORS: readonly Column[] = [
  ...COLUMNS,
  { name: 'cursor', type: 'text', isOptional: true },
];

/** The last frame that was given. */
interface Place {
  date: string;
  gateway: string;
  epoch: string;
  sequence: number;
}

interface Given {
  rows: unknown[][];
  place: Place;
}

const cursorText = ({ date, gateway, epoch, sequence }: Place): string =>
  Buffer.from(JSON.stringify([date, gateway, epoch, sequence])).toString('base64url');

const DATE = /^\d{4}-\d\d-\d\d$/;

/** Throws QUERY_INVALID. */
function parseCursor(text: string): Place {
  try {
    const list = JSON.parse(Buffer.from(text, 'base64url').toString('utf8')) as unknown[];
    const [date, gateway, epoch, sequence] = list;
    if (
      typeof date === 'string' &&
      DATE.test(date) &&
      typeof gateway === 'string' &&
      typeof epoch === 'string' &&
      Number.isSafeInteger(sequence)
    )
      return { date, gateway, epoch, sequence: sequence as number };
  } catch {
    // Told below.
  }
  return invalid('cursor: it is not one that an answer had');
}

/** Messages of a frame; none of one that is not whole, which `headwater audit` names. */
function messagesOf(frame: Buffer): unknown[][] {
  try {
    const header = checkFrame(frame);
    if (header.kind !== KIND_RECORDS) return [];
    return readRecords(frame, header).map((each) => [
      header.gateway,
      header.epoch,
      each.sequence,
      Math.floor(each.receivedUs / 1000),
      each.client,
      each.topic,
      each.qos,
      each.retain,
      each.payload,
    ]);
  } catch (error) {
    if (hasCode(error, 'FRAME_INVALID')) return [];
    throw error;
  }
}

async function readDay(
  connection: DuckDBConnection,
  { date, gateway }: Pick<Place, 'date' | 'gateway'>,
  after: Place | undefined,
  channel: Channel<Given>,
  signal: AbortSignal,
): Promise<void> {
  const { begin: leave, end } = interruption(connection);
  signal.addEventListener('abort', leave, { once: true });
  if (signal.aborted) leave();
  const behind =
    after === undefined
      ? ''
      : ` AND (epoch, first_sequence) > (${quote(after.epoch)}, ${after.sequence})`;
  const sql = `SELECT epoch, first_sequence, frame FROM raw WHERE gateway = ${quote(gateway)} AND kind = ${KIND_RECORDS}${behind} ORDER BY epoch, first_sequence`;
  try {
    for await (const chunk of chunksOf(connection, sql, pass))
      for (const [epoch, sequence, frame] of chunk) {
        const { bytes } = frame as { bytes: Uint8Array }; // A BLOB column.
        const rows = messagesOf(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
        const place = { date, gateway, epoch: String(epoch), sequence: Number(sequence) };
        await channel.put({ rows, place });
      }
  } finally {
    signal.removeEventListener('abort', leave);
    end();
  }
}

interface Asked {
  from: string | undefined;
  to: string | undefined;
  gateway: string | undefined;
  after: Place | undefined;
}

/** Of a day of which everything is lost no file is listed: the answer would be whole without it. Throws LAKE_UNAVAILABLE. */
function refuseLost({ check }: Lake, filter: FileFilter, { gateways }: Identity): void {
  if (gateways === undefined || filter.gateway !== undefined) check.refuseLost('raw', filter);
  else for (const gateway of gateways) check.refuseLost('raw', { ...filter, gateway });
}

/**
 * Frames in order. A day that is merged while it is read begins again behind what was given of it. Throws LAKE_UNAVAILABLE, before
 * the first or behind the last, while some of them are being made again.
 */
export async function* framesOf(
  lake: Lake,
  { from, to, gateway, after }: Asked,
  identity: Identity,
  signal: AbortSignal,
): AsyncGenerator<Given> {
  const filter = {
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
    ...(gateway === undefined ? {} : { gateway }),
  };
  const days = new Map(
    (await lake.check.files('raw', filter))
      .filter((file) => maySee(identity, file.gateway))
      .map((file): [string, Pick<Place, 'date' | 'gateway'>] => [
        `${file.date}/${file.gateway}`,
        { date: file.date, gateway: file.gateway },
      ]),
  );
  refuseLost(lake, filter, identity);
  const began = after && `${after.date}/${after.gateway}`;
  for (const name of [...days.keys()].sort()) {
    if (began !== undefined && name < began) continue;
    const day = days.get(name);
    if (day === undefined || signal.aborted) continue;
    let last = name === began ? after : undefined;
    const only = { from: day.date, to: day.date, gateway: day.gateway, zones: ['raw'] as const };
    const frames = through<Given>((channel) =>
      lake.query(only, (connection) => readDay(connection, day, last, channel, signal)),
    );
    for await (const given of frames) {
      last = given.place;
      yield given;
    }
  }
  refuseLost(lake, filter, identity);
}

/** Rows of a frame, the last of them with its cursor. */
const withCursor = ({ rows, place }: Given): unknown[][] =>
  rows.map((row, at) => (at === rows.length - 1 ? [...row, cursorText(place)] : row));

async function* batchesOf(
  frames: AsyncIterable<Given>,
  columns: readonly Column[],
): AsyncGenerator<Batch> {
  const batches = new Batches(columns);
  for await (const given of frames) {
    for (const row of withCursor(given)) batches.add(row);
    if (batches.isFull) yield batches.take();
  }
  const last = batches.take();
  if ((last[0]?.length ?? 0) > 0) yield last;
}

/** Frames whose cursors are not told. */
const CURSOR_EVERY = 64;

async function* csvLines(
  frames: AsyncIterable<Given>,
  columns: readonly Column[],
  isSpreadsheet: boolean,
): AsyncGenerator<string> {
  const text = (row: Given['rows'][number]): string =>
    columns.map((column, at) => cellText(row[at], column, isSpreadsheet)).join(',');
  yield `${columns.map(({ name }) => name).join(',')}\r\n`;
  for await (const given of frames)
    yield withCursor(given)
      .map((row) => `${text(row)}\r\n`)
      .join('');
}

async function* jsonLines(frames: AsyncIterable<Given>): AsyncGenerator<string> {
  let count = 0;
  for await (const { rows, place } of frames) {
    const lines = rows.map((row) =>
      JSON.stringify(
        Object.fromEntries(
          COLUMNS.map(({ name, type }, at) => [
            name,
            type === 'bytes' ? Buffer.from(row[at] as Uint8Array).toString('base64') : row[at],
          ]),
        ),
      ),
    );
    if (++count % CURSOR_EVERY === 0) lines.push(`{"cursor":"${cursorText(place)}"}`);
    if (lines.length > 0) yield `${lines.join('\n')}\n`;
  }
  yield '{"end":true}\n';
}

function partsOf(
  format: Format,
  frames: AsyncIterable<Given>,
  given: URLSearchParams,
): AsyncIterable<string | Uint8Array> {
  if (format === 'jsonl') return jsonLines(frames);
  const columns = given.get('cursors') === 'true' ? WITH_CURSORS : COLUMNS;
  if (format === 'csv') return csvLines(frames, columns, given.get('spreadsheet') === 'true');
  return ENCODERS[format](columns, batchesOf(frames, columns));
}

function dateOf(text: string | null, name: string): string | undefined {
  if (text !== null && !DATE.test(text)) invalid(`${name} is not a date: YYYY-MM-DD`);
  return text ?? undefined;
}

function answer(lake: Lake, { query, identity, signal }: Request): StreamReply {
  const format = query.get('format') as Format; // One of the choices.
  const gateway = query.get('gateway') ?? undefined;
  if (gateway !== undefined) checkAsked(identity, new URLSearchParams({ 'tag.gateway': gateway }));
  const cursor = query.get('cursor');
  const asked: Asked = {
    from: dateOf(query.get('from'), 'from'),
    to: dateOf(query.get('to'), 'to'),
    gateway,
    after: cursor === null ? undefined : parseCursor(cursor),
  };
  const frames = framesOf(lake, asked, identity, signal);
  return {
    type: FORMATS[format],
    parts: partsOf(format, frames, query),
  };
}

export const exportRawPart: CollectorPart<Lake> = {
  name: 'export of raw messages',
  roles: ['query'],
  absent: NO_LAKE,
  open: (site) => site.find(lakePart),
  routes: [
    {
      method: 'GET',
      path: '/api/v1/export/raw',
      isCostly: true,
      about:
        'Raw messages as the gateways had them, from the lake, in order of arrival date, gateway, epoch and sequence, sent as they are read.',
      right: READ_EACH,
      query: RAW,
      replies: { 200: { about: 'As asked for.', type: Object.values(FORMATS) } },
      handle: answer,
    },
  ],
};

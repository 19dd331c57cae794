/**
 * Everything of some series in one answer, to be read while it comes: JSON lines, CSV, Parquet or Arrow. Memory stays as it is,
 * however much there is. JSON lines have a line `{"cursor":…}` now and then and `{"end":true}` behind the last, the others where
 * `cursors=true` a column that has one now and then: who was cut off asks again with the last cursor that came, and drops what
 * came behind it. A Parquet file without its footer, and an Arrow stream without its end, were cut; a file that `limit` ends is whole,
 * and its last row has a cursor.
 */
import { READ_EACH, type Parameters, type StreamReply } from '../../../shared/http/route.ts';
import { csvCell } from '../../../shared/model/csv.ts';
import type { CollectorPart } from '../../part.ts';
import { parseCursor } from '../../store/pages.ts';
import { storePart, storeStagePart } from '../../store/part.ts';
import type { StoreStage } from '../../store/stage.ts';
import { ENCODERS, FORMATS, SPREADSHEET, type Format } from './format.ts';
import { Batches, type Batch, type Column } from './rows.ts';
import type { PointsPart, SeriesKey, TimeSeriesStore } from '../../store/store.ts';
import { headersOf, incompleteness } from '../incomplete.ts';
import { checkAsked, FILTER, parseQuery } from '../parameters.ts';
import { seenParts } from '../points.ts';

interface Running {
  store: TimeSeriesStore;
  stage: StoreStage | undefined;
  nowMs: () => number;
}

const EXPORT: Parameters = {
  ...FILTER,
  format: { about: 'Of the answer.', choices: Object.keys(FORMATS), required: true },
  from: { about: 'RFC 3339, epoch milliseconds, or now-1h; inclusive.' },
  to: { about: 'The same; exclusive.' },
  limit: {
    about: 'Most points of this answer; its last cursor says where the following one begins.',
    integer: { min: 1, max: 1_000_000_000 },
  },
  cursors: {
    about:
      'Of CSV, Parquet and Arrow: `true` adds a column `cursor`, which the last row and some before it have. JSON lines have cursors of their own.',
    choices: ['true', 'false'],
  },
  cursor: { about: 'One of an export before this one: goes on behind its row.' },
  spreadsheet: SPREADSHEET,
};

/** `more`: a cell behind the others. */
type Line = (time: number, value: unknown, more?: string) => string;

function lineOf(
  format: Format,
  { measurement, field, tags }: SeriesKey,
  isSpreadsheet = false,
): Line {
  if (format === 'jsonl') {
    const head = `${JSON.stringify({ measurement, field, tags }).slice(0, -1)},"time":`;
    return (time, value) => `${head}${time},"value":${JSON.stringify(value)}}\n`;
  }
  const cell = (text: string): string => csvCell(text, isSpreadsheet);
  const head = [measurement, field, JSON.stringify(tags)].map(cell).join(',');
  return (time, value, more) =>
    `${head},${new Date(time).toISOString()},${cell(String(value))}${more === undefined ? '' : `,${more}`}\r\n`;
}

/** As CSV has them; a value is in the column of its kind. */
const COLUMNS: readonly Column[] = [
  { name: 'measurement', type: 'text' },
  { name: 'field', type: 'text' },
  { name: 'tags', type: 'text' },
  { name: 'time', type: 'time' },
  { name: 'value', type: 'number', isOptional: true },
  { name: 'value_text', type: 'text', isOptional: true },
  { name: 'value_bool', type: 'boolean', isOptional: true },
];
const WITH_CURSORS: readonly Column[] = [
  ...COLUMNS,
  { name: 'cursor', type: 'text', isOptional: true },
];

type Parts = AsyncIterable<PointsPart>;
type Lacks = () => ReturnType<typeof incompleteness>;

async function* batchesOf(parts: Parts, columns: readonly Column[]): AsyncGenerator<Batch> {
  const batches = new Batches(columns);
  for await (const { points, measurement, field, tags, cursor } of parts) {
    const text = JSON.stringify(tags);
    for (const [at, [time, value]] of points.entries())
      batches.add([
        measurement,
        field,
        text,
        // Parquet and Arrow have whole milliseconds.
        Math.floor(time),
        typeof value === 'number' ? value : null,
        typeof value === 'string' ? value : null,
        typeof value === 'boolean' ? value : null,
        at === points.length - 1 ? cursor : null,
      ]);
    if (batches.isFull) yield batches.take();
  }
  const last = batches.take();
  if ((last[0]?.length ?? 0) > 0) yield last;
}

/** `lacks`: what the store lacks, asked before and behind: whatever it had not when a point was passed is not in the answer. */
async function* jsonLines(parts: Parts, lacks: Lacks): AsyncGenerator<string> {
  const before = lacks();
  for await (const { points, cursor, ...series } of parts) {
    const line = lineOf('jsonl', series);
    yield `${points.map(([time, value]) => line(time, value)).join('')}{"cursor":"${cursor}"}\n`;
  }
  const incomplete = before.length > 0 ? before : lacks();
  yield `${JSON.stringify({ end: true, ...(incomplete.length > 0 && { incomplete }) })}\n`;
}

/** As a reader wants them. */
interface Wanted {
  hasCursors: boolean;
  isSpreadsheet: boolean;
}

async function* csvLines(
  parts: Parts,
  { hasCursors, isSpreadsheet }: Wanted,
): AsyncGenerator<string> {
  yield `measurement,field,tags,time,value${hasCursors ? ',cursor' : ''}\r\n`;
  for await (const { points, cursor, ...series } of parts) {
    const line = lineOf('csv', series, isSpreadsheet);
    const cell = (at: number): string | undefined =>
      hasCursors ? (at === points.length - 1 ? cursor : '') : undefined;
    yield points.map(([time, value], at) => line(time, value, cell(at))).join('');
  }
}

function partsOf(
  format: Format,
  parts: Parts,
  wanted: Wanted,
  lacks: Lacks,
): AsyncIterable<string | Uint8Array> {
  if (format === 'jsonl') return jsonLines(parts, lacks);
  if (format === 'csv') return csvLines(parts, wanted);
  const columns = wanted.hasCursors ? WITH_CURSORS : COLUMNS;
  return ENCODERS[format](columns, batchesOf(parts, columns));
}

export const exportPart: CollectorPart<Running> = {
  name: 'export',
  roles: ['query'],
  open: (site) => ({
    store: site.get(storePart),
    stage: site.find(storeStagePart),
    nowMs: site.context.nowMs,
  }),
  routes: [
    {
      method: 'GET',
      path: '/api/v1/export',
      isCostly: true,
      about:
        'All points of some series, readings and results, as JSON lines, CSV, Parquet or Arrow (IPC stream), sent as they are read. With cursors it can be gone on with after a cut.',
      right: READ_EACH,
      query: EXPORT,
      replies: { 200: { about: 'As asked for.', type: Object.values(FORMATS) } },
      handle: ({ store, stage, nowMs }, { query: given, identity, signal }): StreamReply => {
        const format = given.get('format') as Format; // One of the choices.
        const query = { ...parseQuery(given, nowMs()), signal };
        checkAsked(identity, given);
        if (query.cursor !== undefined) parseCursor(query.cursor);
        const isComing = (): boolean => stage?.fill.isComing() === true;
        const parts = seenParts(store, query, identity, isComing);
        const lacks: Lacks = () => incompleteness(stage);
        return {
          type: FORMATS[format],
          parts: partsOf(
            format,
            parts,
            {
              hasCursors: given.get('cursors') === 'true',
              isSpreadsheet: given.get('spreadsheet') === 'true',
            },
            lacks,
          ),
          headers: headersOf(lacks()),
        };
      },
    },
  ],
};

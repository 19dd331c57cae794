/**
 * Everything of some series in one answer, to be read while it comes: JSON lines, CSV, Parquet or Arrow. Memory stays as it is,
 * however much there is. JSON lines have a line `{"cursor":…}` now and then and `{"end":true}` behind the last: who was cut off
 * asks again with the last cursor that came, and drops the lines behind it. A Parquet file without its footer, and an Arrow stream
 * without its end, were cut.
 */
import { maySee } from '../../../shared/access/may.ts';
import type { Identity } from '../../../shared/access/tokens.ts';
import { READ_EACH, type Parameters, type StreamReply } from '../../../shared/http/route.ts';
import { invalid } from '../../../shared/http/parameters.ts';
import type { CollectorPart } from '../../part.ts';
import { ask } from '../../store/aggregate.ts';
import { parseCursor } from '../../store/pages.ts';
import { storePart, storeStagePart } from '../../store/part.ts';
import type { StoreStage } from '../../store/stage.ts';
import { ENCODERS, FORMATS, csvCell, type Format } from './format.ts';
import { Batches, type Batch, type Column } from './rows.ts';
import type { SeriesKey, StoreQuery, TimeSeriesStore } from '../../store/store.ts';
import { headersOf, incompleteness } from '../incomplete.ts';
import { checkAsked, FILTER, parseQuery } from '../parameters.ts';

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
  cursor: { about: 'Of an export that was cut off: goes on behind it. JSON lines only.' },
};

type Line = (time: number, value: unknown) => string;

function lineOf(format: Format, { measurement, field, tags }: SeriesKey): Line {
  if (format === 'jsonl') {
    const head = `${JSON.stringify({ measurement, field, tags }).slice(0, -1)},"time":`;
    return (time, value) => `${head}${time},"value":${JSON.stringify(value)}}\n`;
  }
  const head = [measurement, field, JSON.stringify(tags)].map(csvCell).join(',');
  return (time, value) => `${head},${new Date(time).toISOString()},${csvCell(String(value))}\r\n`;
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

async function* batchesOf(
  store: TimeSeriesStore,
  query: StoreQuery,
  identity: Identity,
): AsyncGenerator<Batch> {
  const batches = new Batches(COLUMNS);
  for await (const { points, measurement, field, tags } of ask(store, query)) {
    if (!maySee(identity, tags['gateway'] ?? '')) continue;
    const text = JSON.stringify(tags);
    for (const [time, value] of points)
      batches.add([
        measurement,
        field,
        text,
        // Parquet and Arrow have whole milliseconds.
        Math.floor(time),
        typeof value === 'number' ? value : null,
        typeof value === 'string' ? value : null,
        typeof value === 'boolean' ? value : null,
      ]);
    if (batches.isFull) yield batches.take();
  }
  const last = batches.take();
  if ((last[0]?.length ?? 0) > 0) yield last;
}

async function* linesText(
  store: TimeSeriesStore,
  query: StoreQuery,
  identity: Identity,
  format: Format,
): AsyncGenerator<string> {
  if (format === 'csv') yield 'measurement,field,tags,time,value\r\n';
  for await (const { points, cursor, ...series } of ask(store, query)) {
    if (maySee(identity, series.tags['gateway'] ?? '')) {
      const line = lineOf(format, series);
      yield points.map(([time, value]) => line(time, value)).join('');
    }
    if (format === 'jsonl') yield `{"cursor":"${cursor}"}\n`;
  }
  if (format === 'jsonl') yield '{"end":true}\n';
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
        'All points of some series, readings and results, as JSON lines, CSV, Parquet or Arrow (IPC stream), sent as they are read. JSON lines can be gone on with after a cut.',
      right: READ_EACH,
      query: EXPORT,
      replies: { 200: { about: 'As asked for.', type: Object.values(FORMATS) } },
      handle: ({ store, stage, nowMs }, { query: given, identity, signal }): StreamReply => {
        const format = given.get('format') as Format; // One of the choices.
        const query = { ...parseQuery(given, nowMs()), signal };
        checkAsked(identity, given);
        if (query.cursor !== undefined) {
          if (format !== 'jsonl') invalid('cursor: only JSON lines can be gone on with');
          parseCursor(query.cursor);
        }
        return {
          type: FORMATS[format],
          parts:
            ENCODERS[format]?.(COLUMNS, batchesOf(store, query, identity)) ??
            linesText(store, query, identity, format),
          headers: headersOf(incompleteness(stage)),
        };
      },
    },
  ],
};

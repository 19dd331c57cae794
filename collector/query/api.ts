/** The collector's HTTP side: API, page, health and metrics. */
import { HeadwaterError } from '../../shared/errors.ts';
import { maySee, type Identity } from '../../shared/access/tokens.ts';
import { serveIngest } from '../../shared/http/ingest.ts';
import { invalid, parseTime } from '../../shared/http/parameters.ts';
import {
  HttpServer,
  json,
  type HttpOptions,
  type Reply,
  type Request,
} from '../../shared/http/server.ts';
import { Metrics, processMetrics } from '../../shared/telemetry/metrics.ts';
import type { ReplayJobs, Selection } from '../decode/replay-jobs.ts';
import type { DecodeStage } from '../decode/stage.ts';
import type { LogSink } from '../ingest/http-sink.ts';
import type { Ingest } from '../ingest/ingest.ts';
import type { Processing } from '../processing.ts';
import type { LedgerView } from '../ledger/view.ts';
import type { Log } from '../log/log.ts';
import { ask } from '../store/aggregate.ts';
import { gathered } from '../store/pages.ts';
import type { StoreStage } from '../store/stage.ts';
import type { SeriesKey, TimeSeriesStore } from '../store/store.ts';
import { headerOf, incompleteness } from './incomplete.ts';
import type { LiveStream } from './live.ts';
import { OPENAPI } from './openapi.ts';
import { servePage } from './page.ts';
import { bodyOf, parseFilter, parseQuery } from './parameters.ts';
import { processingMetrics, serveProcessing } from './processing.ts';
import type { QuarantineView } from './quarantine.ts';
import type { SeriesMeta } from './series-meta.ts';

/** What runs in this process; roles that it does not have are undefined. */
export interface Parts {
  log: Log;
  ingest: Ingest | undefined;
  decode: DecodeStage | undefined;
  storeStage: StoreStage | undefined;
  store: TimeSeriesStore | undefined;
  live: LiveStream | undefined;
  quarantine: QuarantineView | undefined;
  replays: ReplayJobs | undefined;
  meta: SeriesMeta | undefined;
  sink: LogSink | undefined;
  processing: Processing;
  ledger: LedgerView;
  /** Why the uplink is not acknowledged now, or undefined. */
  refuse: () => string | undefined;
  nowMs: () => number;
}

export function collectorMetrics(parts: Parts): Metrics {
  const { log, ingest, decode, storeStage, ledger, refuse } = parts;
  const metrics = new Metrics();
  processMetrics(metrics);
  if (ingest !== undefined) {
    metrics.gauge(
      'headwater_ingest_gateways',
      'Gateway connections now.',
      () => ingest.server.connectionCount,
    );
    metrics.counter(
      'headwater_ingest_frames_total',
      'Frames received, resends included.',
      () => ingest.receiver.receivedFrames,
    );
    metrics.counter(
      'headwater_ingest_messages_total',
      'Messages received in frames, resends included.',
      () => ingest.receiver.receivedMessages,
    );
    metrics.counter(
      'headwater_ingest_bytes_total',
      'Bytes of uplink messages received.',
      () => ingest.receiver.receivedBytes,
    );
    metrics.counter(
      'headwater_ingest_acknowledged_messages_total',
      'Messages acknowledged to gateways: on the stable storage of the log.',
      () => ingest.receiver.acknowledgedMessages,
    );
    metrics.counter(
      'headwater_ingest_refused_total',
      'Uplink messages and connections refused, by reason.',
      ingest.refusedBy.read,
    );
    metrics.counter(
      'headwater_ingest_reclaimed_messages_total',
      'Messages asked for again, because the log lacked what had been acknowledged.',
      () => ingest.receiver.reclaimedMessages,
    );
    metrics.gauge(
      'headwater_ingest_blocked',
      '1 while the uplink is not acknowledged, because the disk is nearly full.',
      () => (refuse() === undefined ? 0 : 1),
    );
  }
  if (decode !== undefined) {
    metrics.counter(
      'headwater_decode_messages_total',
      'Messages decoded or quarantined, each identity once.',
      () => decode.decoder.decodedMessages,
    );
    metrics.counter(
      'headwater_decode_readings_total',
      'Readings made of messages.',
      () => decode.decoder.decodedReadings,
    );
    metrics.counter(
      'headwater_decode_duplicates_total',
      'Messages that came again and were left out.',
      () => decode.duplicateMessages,
    );
    metrics.counter(
      'headwater_decode_empty_total',
      'Messages without any value.',
      () => decode.decoder.emptyMessages,
    );
    metrics.counter(
      'headwater_decode_omitted_values_total',
      'Numbers that were none (NaN, infinities) beside others that were stored.',
      () => decode.decoder.omittedValues,
    );
    metrics.counter(
      'headwater_decode_left_over_total',
      'Messages of which a mapping left a value over that it does not drop by name.',
      () => decode.decoder.leftOverMessages,
    );
    metrics.counter(
      'headwater_decode_quarantined_total',
      'Messages that could not be decoded, by reason.',
      decode.quarantinedBy.read,
    );
  }
  if (decode !== undefined) {
    metrics.counter(
      'headwater_decode_late_readings_total',
      'Readings that reached the collector more than ten seconds after the gateway.',
      () => decode.decoder.lateReadings,
    );
    metrics.gauge(
      'headwater_decode_held_frames',
      "Frames that wait until their gateway's clock is known.",
      () => decode.heldFrames,
    );
  }
  if (storeStage !== undefined) {
    metrics.counter(
      'headwater_store_moved_readings_total',
      'Readings whose time was put right after they had been written.',
      () => storeStage.movedReadings,
    );
    metrics.counter(
      'headwater_store_readings_total',
      'Readings written to the store.',
      () => storeStage.storedReadings,
    );
    metrics.counter(
      'headwater_store_removed_readings_total',
      'Points that a replay took away, since a changed mapping puts them elsewhere.',
      () => storeStage.removedReadings,
    );
    metrics.counter(
      'headwater_store_refused_total',
      'Readings refused by the store, by reason.',
      storeStage.refusedBy.read,
    );
  }
  if (storeStage !== undefined) {
    metrics.counter(
      'headwater_store_filled_readings_total',
      'Readings that the store was given from the lake, since the log no longer had them.',
      () => storeStage.fill.filledReadings,
    );
    metrics.gauge(
      'headwater_store_incomplete',
      '1 while the store lacks something of what the lake or raw has.',
      () => (storeStage.fill.incomplete().length > 0 ? 1 : 0),
    );
  }
  const { sink, quarantine } = parts;
  if (sink !== undefined)
    metrics.counter(
      'headwater_ingest_http_messages_total',
      'Messages that came by HTTP and are in the log.',
      () => sink.acceptedMessages,
    );
  if (quarantine !== undefined)
    metrics.gauge(
      'headwater_quarantine_open_messages',
      'Messages in quarantine that no replay has resolved.',
      () => quarantine.count,
    );
  processingMetrics(metrics, parts.processing);
  metrics.gauge('headwater_ledger_lost_messages', 'Messages reported lost, by cause.', () =>
    [...ledger.totals().lost].map(([cause, value]) => ({ labels: { cause }, value })),
  );
  metrics.gauge(
    'headwater_ledger_missing_messages',
    'Messages that neither arrived nor are held by their gateway nor were reported lost.',
    () => ledger.totals().missing,
  );
  metrics.gauge(
    'headwater_ledger_pending_messages',
    'Messages that gateways hold and that have not arrived.',
    () => ledger.totals().pending,
  );
  metrics.gauge(
    'headwater_log_lag_records',
    'Records that a stage has still to read; absent while that is not known.',
    () =>
      log
        .groups()
        .flatMap(({ group, topic, lagRecords }) =>
          lagRecords === null ? [] : [{ labels: { group, topic }, value: lagRecords }],
        ),
  );
  return metrics;
}

/** Only what an asker may see of a list whose items name their gateway. */
const visible = <T extends { gateway: string }>(identity: Identity, list: T[]): T[] =>
  list.filter(({ gateway }) => maySee(identity, gateway));

/** Series carry their gateway as a tag. A filter for another one than an asker may see is an error, not an empty answer. */
function seen<T extends { tags: Record<string, string> }>(
  { identity, query }: Request,
  list: T[],
): T[] {
  if (identity.gateways === undefined) return list;
  const asked = query.get('tag.gateway');
  if (asked !== null && !maySee(identity, asked))
    throw new HeadwaterError('FORBIDDEN', `this token may not see gateway '${asked.slice(0, 64)}'`);
  return list.filter(({ tags }) => maySee(identity, tags['gateway'] ?? ''));
}

function selectionOf(query: URLSearchParams, nowMs: number): Omit<Selection, 'which'> {
  const selection: Omit<Selection, 'which'> = {};
  for (const name of ['gateway', 'topic', 'reason'] as const) {
    const value = query.get(name);
    if (value !== null && value !== '') selection[name] = value;
  }
  const [from, to] = [query.get('from'), query.get('to')];
  if (from !== null) selection.fromMs = parseTime(from, 'from', nowMs);
  if (to !== null) selection.toMs = parseTime(to, 'to', nowMs);
  return selection;
}

/** The body of a request for a replay: the same names as in the query of the quarantine, and `which`. */
async function replayOf(request: Request, nowMs: number): Promise<Selection> {
  const body = await bodyOf(request, ['which', 'gateway', 'topic', 'reason', 'from', 'to']);
  const { which = 'quarantined', ...rest } = body;
  if (which !== 'quarantined' && which !== 'all') return invalid("which is 'quarantined' or 'all'");
  return { which, ...selectionOf(new URLSearchParams(rest), nowMs) };
}

/** What is about all gateways is not for those who may see some. */
export function unrestricted({ gateways }: Identity): void {
  if (gateways !== undefined)
    throw new HeadwaterError(
      'FORBIDDEN',
      'this is about all gateways, and this token may see some',
    );
}

function serveQuarantine(
  server: HttpServer,
  quarantine: QuarantineView,
  replays: ReplayJobs,
  nowMs: () => number,
  options: HttpOptions,
): void {
  server.on('GET', '/api/v1/quarantine', async ({ query, identity }) => {
    await quarantine.whenRead();
    return json(
      quarantine.list(query.get('limit'), selectionOf(query, nowMs()), (gateway) =>
        maySee(identity, gateway),
      ),
    );
  });
  server.on('GET', '/api/v1/replay', ({ identity }) => {
    unrestricted(identity);
    return json({ jobs: replays.list() });
  });
  server.on(
    'POST',
    '/api/v1/replay',
    async (request) => {
      const selection = await replayOf(request, nowMs());
      if (
        request.identity.gateways !== undefined &&
        (selection.gateway === undefined || !maySee(request.identity, selection.gateway))
      )
        throw new HeadwaterError('FORBIDDEN', 'this token has to name a gateway that it may see');
      const { id } = await replays.create(selection);
      options.audit?.say({
        event: 'replay',
        user: request.identity.name,
        address: request.address,
        about: JSON.stringify(selection),
      });
      return json({ id }, 202);
    },
    'admin',
  );
}

/** What the store answers, with what it lacks for now. */
function serveStore(
  server: HttpServer,
  { meta, storeStage, nowMs }: Parts,
  store: TimeSeriesStore,
): void {
  const described = <T extends SeriesKey>(list: T[]): T[] => meta?.describe(list) ?? list;
  /** With what the store lacks now, so that an answer that may be short says so. */
  const answer = (series: unknown[]): Reply => {
    const incomplete = incompleteness(storeStage);
    return incomplete.length === 0
      ? json({ series })
      : {
          ...json({ series, incomplete }),
          headers: { 'headwater-incomplete': incomplete.map(headerOf).join(', ') },
        };
  };
  server.on('GET', '/api/v1/series', async (request) => {
    parseFilter(request.query);
    return answer(described(seen(request, await store.series())));
  });
  server.on('GET', '/api/v1/latest', async (request) =>
    answer(described(seen(request, await store.latest(parseFilter(request.query))))),
  );
  server.on('GET', '/api/v1/query', async (request) => {
    const query = parseQuery(request.query, nowMs());
    return answer(seen(request, await gathered(ask(store, query))));
  });
}

function serveStream(server: HttpServer, live: LiveStream): void {
  server.on('GET', '/api/v1/stream', ({ identity }, response) => {
    if (!live.add(response, (gateway) => maySee(identity, gateway)))
      throw new HeadwaterError('UNREACHABLE', 'too many listeners: try again later');
    return undefined;
  });
}

export function collectorApi(parts: Parts, options: HttpOptions): HttpServer {
  const { log, ingest, store, live, refuse, nowMs } = parts;
  const metrics = collectorMetrics(parts);
  const server = new HttpServer(options);
  server.on('GET', '/healthz', () => ({ body: 'ok\n' }));
  server.on('GET', '/readyz', () => {
    const why = refuse();
    return why === undefined ? { body: 'ready\n' } : { status: 503, body: `${why}\n` };
  });
  server.on('GET', '/metrics', ({ identity }) => {
    unrestricted(identity);
    return { type: 'text/plain; version=0.0.4; charset=utf-8', body: metrics.text() };
  });
  server.on('GET', '/openapi.json', () => json(OPENAPI));
  server.on('GET', '/api/v1/gateways', ({ identity }) =>
    json({ gateways: visible(identity, ingest?.receiver.gateways() ?? []) }),
  );
  server.on('GET', '/api/v1/status', ({ identity }) => {
    unrestricted(identity);
    return json({
      log: log.kind,
      store: store?.kind ?? null,
      stages: log.groups(),
      blocked: refuse() ?? null,
      warnings: [...log.warnings(), ...(store?.warnings() ?? [])],
    });
  });
  server.on('GET', '/api/v1/ledger', ({ query, identity }) => {
    const answer = parts.ledger.answer(query.get('gateway') ?? undefined);
    const gateways = visible(identity, answer.gateways);
    const judged =
      gateways.length === answer.gateways.length ? answer : parts.ledger.judge(gateways);
    const incomplete = incompleteness(parts.storeStage);
    return json(incomplete.length === 0 ? judged : { ...judged, incomplete });
  });
  const { quarantine, replays, sink } = parts;
  if (quarantine !== undefined && replays !== undefined)
    serveQuarantine(server, quarantine, replays, nowMs, options);
  if (sink !== undefined) serveIngest(server, sink);
  serveProcessing(server, parts, options);
  if (store !== undefined && live !== undefined) {
    serveStore(server, parts, store);
    serveStream(server, live);
    servePage(server);
  }
  return server;
}

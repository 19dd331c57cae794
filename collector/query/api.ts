/** The collector's HTTP side: API, page, health and metrics. */
import { HeadwaterError } from '../../shared/errors.ts';
import { HttpServer, json } from '../../shared/http/server.ts';
import { Metrics, processMetrics } from '../../shared/telemetry/metrics.ts';
import type { DecodeStage } from '../decode/stage.ts';
import type { Ingest } from '../ingest/ingest.ts';
import type { LedgerView } from '../ledger/view.ts';
import type { Log } from '../log/log.ts';
import type { StoreStage } from '../store/stage.ts';
import type { TimeSeriesStore } from '../store/store.ts';
import type { LiveStream } from './live.ts';
import { OPENAPI } from './openapi.ts';
import { servePage } from './page.ts';
import { parseFilter, parseQuery } from './parameters.ts';
import type { QuarantineView } from './quarantine.ts';

/** What runs in this process; roles that it does not have are undefined. */
export interface Parts {
  log: Log;
  ingest: Ingest | undefined;
  decode: DecodeStage | undefined;
  storeStage: StoreStage | undefined;
  store: TimeSeriesStore | undefined;
  live: LiveStream | undefined;
  quarantine: QuarantineView | undefined;
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
      'headwater_store_refused_total',
      'Readings refused by the store, by reason.',
      storeStage.refusedBy.read,
    );
  }
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
  metrics.gauge('headwater_log_lag_records', 'Records that a stage has still to read.', () =>
    log
      .groups()
      .map(({ group, topic, lagRecords }) => ({ labels: { group, topic }, value: lagRecords })),
  );
  return metrics;
}

export function collectorApi(parts: Parts, token: string | undefined): HttpServer {
  const { log, ingest, store, live, refuse, nowMs } = parts;
  const metrics = collectorMetrics(parts);
  const server = new HttpServer({ token });
  server.on('GET', '/healthz', () => ({ body: 'ok\n' }));
  server.on('GET', '/readyz', () => {
    const why = refuse();
    return why === undefined ? { body: 'ready\n' } : { status: 503, body: `${why}\n` };
  });
  server.on('GET', '/metrics', () => ({
    type: 'text/plain; version=0.0.4; charset=utf-8',
    body: metrics.text(),
  }));
  server.on('GET', '/openapi.json', () => json(OPENAPI));
  server.on('GET', '/api/v1/gateways', () => json({ gateways: ingest?.receiver.gateways() ?? [] }));
  server.on('GET', '/api/v1/status', () =>
    json({
      log: log.kind,
      store: store?.kind ?? null,
      stages: log.groups(),
      blocked: refuse() ?? null,
      warnings: [...log.warnings(), ...(store?.warnings() ?? [])],
    }),
  );
  server.on('GET', '/api/v1/ledger', ({ query }) =>
    json(parts.ledger.answer(query.get('gateway') ?? undefined)),
  );
  const { quarantine } = parts;
  if (quarantine !== undefined) {
    server.on('GET', '/api/v1/quarantine', ({ query }) =>
      json(quarantine.list(query.get('limit'))),
    );
  }
  if (store !== undefined && live !== undefined) {
    server.on('GET', '/api/v1/series', async ({ query }) => {
      parseFilter(query);
      return json({ series: await store.series() });
    });
    server.on('GET', '/api/v1/latest', async ({ query }) =>
      json({ series: await store.latest(parseFilter(query)) }),
    );
    server.on('GET', '/api/v1/query', async ({ query }) =>
      json({ series: await store.query(parseQuery(query, nowMs())) }),
    );
    server.on('GET', '/api/v1/stream', (_request, response) => {
      if (!live.add(response))
        throw new HeadwaterError('UNREACHABLE', 'too many listeners: try again later');
      return undefined;
    });
    servePage(server);
  }
  return server;
}

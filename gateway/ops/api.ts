/** What the gateway shows of itself over HTTP: health, metrics, and what waits in the buffer and why. */
import { serveIngest } from '../../shared/http/ingest.ts';
import { HttpServer, json, type HttpOptions } from '../../shared/http/server.ts';
import { Metrics, processMetrics } from '../../shared/telemetry/metrics.ts';
import type { MessageBuffer } from '../buffer/buffer.ts';
import type { Ingress } from '../ingress/ingress.ts';
import { parseHistoryQuery, queryHistory } from './history.ts';
import type { BufferSink } from './ingest.ts';
import { servePage } from './page.ts';
import type { Uplink } from '../uplink/uplink.ts';

export interface Parts {
  id: string;
  buffer: MessageBuffer<never>;
  ingress: Ingress;
  uplink: Uplink | undefined;
  sink: BufferSink;
  nowMs: () => number;
}

export function gatewayMetrics({ buffer, ingress, uplink, sink }: Parts): Metrics {
  const metrics = new Metrics();
  processMetrics(metrics);
  const stats = () => buffer.stats();
  metrics.counter(
    'headwater_ingress_messages_total',
    'PUBLISH packets received from devices.',
    () => ingress.receivedMessages,
  );
  metrics.counter(
    'headwater_ingress_payload_bytes_total',
    'Payload bytes received from devices.',
    () => ingress.receivedBytes,
  );
  metrics.counter(
    'headwater_ingress_http_messages_total',
    'Messages that came by HTTP and are durable.',
    () => sink.acceptedMessages,
  );
  metrics.counter(
    'headwater_ingress_denied_total',
    'What access rules or limits denied, by kind; the audit log says whom and what.',
    () => [
      { labels: { kind: 'publish' }, value: ingress.deniedPublishes },
      { labels: { kind: 'subscribe' }, value: ingress.deniedSubscriptions },
    ],
  );
  metrics.gauge(
    'headwater_ingress_connections',
    'Device connections now.',
    () => ingress.server.connectionCount,
  );
  metrics.counter(
    'headwater_ingress_connections_refused_total',
    'Device connections refused for a limit.',
    () => ingress.server.refused,
  );
  metrics.counter(
    'headwater_ingress_logins_unchecked_total',
    'Passwords that were not looked at: too many wrong ones from the address, or nobody waited any more.',
    () => ingress.uncheckedLogins,
  );
  metrics.counter(
    'headwater_ingress_connections_closed_total',
    'Device connections closed, by reason.',
    ingress.closedBy.read,
  );
  metrics.counter(
    'headwater_ingress_offline_dropped_total',
    'Messages that a session has lost because more was queued for it than is allowed.',
    () => ingress.offlineDropped,
  );
  metrics.counter(
    'headwater_limit_refused_total',
    'Times that a user or address got nothing more of what is there for all, by limit (docs/limits.md).',
    () =>
      ingress.shares.read(
        ingress.server.share,
        ({ refused }) => refused,
        (door, users) => door + users,
      ),
  );
  metrics.gauge('headwater_limit_used', 'What is taken of a limit that holds for all.', () =>
    ingress.shares.read(ingress.server.share, ({ used }) => used),
  );
  metrics.gauge('headwater_limit_max', 'The limit.', () =>
    ingress.shares.read(ingress.server.share, ({ whole }) => whole),
  );
  metrics.counter(
    'headwater_ingress_sessions_ended_total',
    'Persistent and other sessions that were ended here, by reason.',
    ingress.endedSessions.read,
  );
  metrics.gauge(
    'headwater_ingress_retained_messages',
    'Retained messages kept.',
    () => ingress.retainedCount,
  );
  metrics.counter(
    'headwater_buffer_committed_messages_total',
    'Messages made durable.',
    () => stats().committedMessages,
  );
  metrics.counter(
    'headwater_buffer_commits_total',
    'Group commits, each one fsync.',
    () => stats().committedGroups,
  );
  metrics.counter(
    'headwater_buffer_committed_bytes_total',
    'Bytes of committed frames.',
    () => stats().committedFrameBytes,
  );
  metrics.gauge(
    'headwater_buffer_waiting_messages',
    'Messages not yet acknowledged by a collector; NaN until what an earlier run left is counted.',
    () => stats().waitingMessages ?? Number.NaN,
  );
  metrics.gauge(
    'headwater_buffer_waiting_bytes',
    'Bytes of frames not yet acknowledged by a collector; NaN until counted.',
    () => stats().waitingBytes ?? Number.NaN,
  );
  metrics.gauge(
    'headwater_buffer_disk_bytes',
    'Bytes of the buffer on disk.',
    () => stats().diskBytes,
  );
  metrics.gauge(
    'headwater_buffer_disk_limit_bytes',
    'What the buffer may take on disk.',
    () => stats().diskBytesMax,
  );
  metrics.gauge(
    'headwater_buffer_pending_bytes',
    'Received and not yet durable.',
    () => stats().pendingBytes,
  );
  metrics.gauge('headwater_buffer_blocked', '1 while acknowledgements are held back.', () =>
    buffer.state.kind === 'blocked' ? 1 : 0,
  );
  metrics.counter(
    'headwater_buffer_write_errors_total',
    'Failed writes; nothing was acknowledged after one before a reopen.',
    () => stats().writeErrors,
  );
  metrics.gauge(
    'headwater_buffer_history_messages',
    'Messages that a collector has and that are still here.',
    () => stats().historyMessages,
  );
  metrics.counter(
    'headwater_buffer_evicted_messages_total',
    'Messages of the history that made room.',
    () => stats().evictedMessages,
  );
  metrics.counter(
    'headwater_buffer_dropped_messages_total',
    'Messages given up because the buffer was full; each is in a loss report.',
    () => stats().droppedMessages,
  );
  metrics.counter(
    'headwater_buffer_thinned_messages_total',
    'Messages thinned to summaries because the buffer was full.',
    () => stats().thinnedMessages,
  );
  metrics.gauge(
    'headwater_buffer_full_in_seconds',
    'Until the buffer is full at the rate of the last minutes; +Inf when that is not in sight.',
    () => (stats().hoursUntilFull ?? Number.POSITIVE_INFINITY) * 3600,
  );
  metrics.counter(
    'headwater_buffer_losses_total',
    'Losses found and reported.',
    () => stats().losses,
  );
  if (uplink !== undefined) {
    metrics.gauge('headwater_uplink_connected', '1 while connected to a collector.', () =>
      uplink.stats().connected ? 1 : 0,
    );
    metrics.counter(
      'headwater_uplink_connects_total',
      'Connections made to a collector.',
      () => uplink.stats().connects,
    );
    metrics.counter(
      'headwater_uplink_sent_bytes_total',
      'Bytes sent in frames, resends included.',
      () => uplink.stats().sentBytes,
    );
    metrics.counter(
      'headwater_uplink_sent_messages_total',
      'Messages sent, resends included.',
      () => uplink.stats().sentMessages,
    );
    metrics.counter(
      'headwater_uplink_acknowledged_messages_total',
      'Messages that the collector has on stable storage.',
      () => uplink.stats().acknowledgedMessages,
    );
    metrics.counter(
      'headwater_uplink_backlog_bytes_total',
      'Bytes sent in the backlog lane.',
      () => uplink.stats().backlogBytes,
    );
    metrics.gauge(
      'headwater_uplink_window_bytes',
      'What may be on its way now, by the delay of the link.',
      () => uplink.stats().windowBytes,
    );
    metrics.gauge(
      'headwater_uplink_in_flight_bytes',
      'Sent and not yet acknowledged.',
      () => uplink.stats().inFlightBytes,
    );
    metrics.counter(
      'headwater_uplink_ack_timeouts_total',
      'Links given up because no acknowledgement came.',
      () => uplink.stats().ackTimeouts,
    );
  }
  return metrics;
}

export function gatewayApi(parts: Parts, options: HttpOptions): HttpServer {
  const { id, buffer, uplink } = parts;
  const metrics = gatewayMetrics(parts);
  const server = new HttpServer(options);
  server.on('GET', '/healthz', () => ({ body: 'ok\n' }));
  server.on('GET', '/readyz', () => {
    const { state } = buffer;
    return state.kind === 'open' ? { body: 'ready\n' } : { status: 503, body: `${state.why}\n` };
  });
  server.on('GET', '/metrics', () => ({
    type: 'text/plain; version=0.0.4; charset=utf-8',
    body: metrics.text(),
  }));
  server.on('GET', '/api/v1/buffer', () => {
    const { state } = buffer;
    return json({
      gateway: id,
      epoch: buffer.epoch,
      state: state.kind,
      why: state.kind === 'blocked' ? state.why : waitingReason(parts),
      ...buffer.stats(),
      uplink: uplink?.stats() ?? null,
    });
  });
  server.on('GET', '/api/v1/query', async ({ query }) =>
    json(await queryHistory(buffer, parseHistoryQuery(query, parts.nowMs()))),
  );
  serveIngest(server, parts.sink);
  servePage(server);
  return server;
}

function waitingReason({ buffer, uplink }: Parts): string {
  if (uplink === undefined) return 'no collector is configured: messages stay here';
  const { connected, collector, lastError } = uplink.stats();
  if (!connected)
    return `no connection to ${collector}${lastError === '' ? '' : ` (${lastError})`}`;
  return (buffer.stats().waitingMessages ?? 0) === 0
    ? 'nothing waits'
    : 'on the way to the collector';
}

/**
 * Alert rules for Prometheus, as code: each names what an operator has to do. Thresholds are those at which there is still
 * time: a stage that waits is told by the log within ten seconds, and by an alert after two minutes.
 */
export interface AlertRule {
  alert: string;
  /** PromQL over documented names (docs/metrics.md). */
  expr: string;
  /** How long it must hold, as Prometheus writes durations. */
  for: string;
  severity: 'critical' | 'warning';
  summary: string;
  /** What to do. */
  description: string;
}

export const ALERT_RULES: readonly AlertRule[] = [
  {
    alert: 'HeadwaterLogDown',
    expr: 'headwater_log_up == 0',
    for: '1m',
    severity: 'critical',
    summary: 'The log of {{ $labels.instance }} cannot be written',
    description:
      'Nothing is acknowledged to gateways, which keep it. See the log server, then `headwater doctor`.',
  },
  {
    alert: 'HeadwaterStageStalled',
    expr: 'headwater_stage_stalled_seconds > 60',
    for: '1m',
    severity: 'critical',
    summary: 'Stage {{ $labels.stage }} of {{ $labels.instance }} waits',
    description:
      'It has failed for {{ $value | humanizeDuration }}. `/api/v1/stages` says what for; nothing is lost while the log has room.',
  },
  {
    alert: 'HeadwaterIngestBlocked',
    expr: 'headwater_ingest_blocked == 1',
    for: '1m',
    severity: 'critical',
    summary: '{{ $labels.instance }} acknowledges nothing: its disk is nearly full',
    description: 'Make room under the data folder, or give it a larger disk.',
  },
  {
    alert: 'HeadwaterMessagesMissing',
    expr: 'headwater_ledger_missing_messages > 0',
    for: '10m',
    severity: 'critical',
    summary: '{{ $value }} messages are missing',
    description:
      'No gateway holds them, none was reported lost. `headwater ledger` names gateway, epoch and ranges.',
  },
  {
    alert: 'HeadwaterMessagesLost',
    // A cause that was never there before comes with its first value, of which delta() sees no change.
    expr: 'delta(headwater_ledger_lost_messages[1h]) > 0 or (headwater_ledger_lost_messages > 0 unless headwater_ledger_lost_messages offset 1h)',
    for: '0m',
    severity: 'warning',
    summary: 'Messages were lost ({{ $labels.cause }})',
    description: '`headwater ledger` names gateway, epoch, ranges and the reason.',
  },
  {
    alert: 'HeadwaterGatewayUplinkDown',
    expr: 'headwater_uplink_connected == 0',
    for: '5m',
    severity: 'warning',
    summary: 'Gateway {{ $labels.instance }} has no collector',
    description:
      'It keeps what devices send until its buffer is full. See the link, the address and the certificate.',
  },
  {
    alert: 'HeadwaterBufferFullSoon',
    expr: 'headwater_buffer_full_in_seconds < 6 * 3600',
    for: '5m',
    severity: 'warning',
    summary: 'The buffer of {{ $labels.instance }} is full in {{ $value | humanizeDuration }}',
    description: 'See why it does not drain: the uplink, or more messages than the link carries.',
  },
  {
    alert: 'HeadwaterBufferBlocked',
    expr: 'headwater_buffer_blocked == 1',
    for: '1m',
    severity: 'critical',
    summary: 'Gateway {{ $labels.instance }} acknowledges nothing',
    description:
      'Its buffer is full or its disk fails. `/api/v1/buffer` of the gateway says which.',
  },
  {
    alert: 'HeadwaterBufferWriteErrors',
    expr: 'increase(headwater_buffer_write_errors_total[15m]) > 0',
    for: '0m',
    severity: 'warning',
    summary: 'Writes of {{ $labels.instance }} failed',
    description: 'Nothing was acknowledged after one. A card that does so is to be replaced.',
  },
  {
    alert: 'HeadwaterCertificateEnds',
    expr: 'headwater_tls_certificate_expiry_time_seconds - time() < 14 * 86400',
    for: '10m',
    severity: 'warning',
    summary: 'The certificate of {{ $labels.instance }} ends in {{ $value | humanizeDuration }}',
    description: 'Put a new one into the same files: it is taken without a restart.',
  },
  {
    alert: 'HeadwaterDiskNearlyFull',
    expr: 'headwater_disk_free_bytes < 2 * 1024 * 1024 * 1024',
    for: '10m',
    severity: 'warning',
    summary: '{{ $labels.instance }} has {{ $value | humanize1024 }}B of disk left',
    description: 'Make room under its data folder before it holds back acknowledgements.',
  },
  {
    alert: 'HeadwaterStoreRefuses',
    expr: 'increase(headwater_store_refused_total[15m]) > 0 or (headwater_store_refused_total > 0 unless headwater_store_refused_total offset 15m)',
    for: '0m',
    severity: 'warning',
    summary: 'The store refuses readings ({{ $labels.reason }})',
    description: 'They are in quarantine: `headwater quarantine` shows them with the reason.',
  },
  {
    alert: 'HeadwaterClockDoubted',
    expr: 'headwater_clock_doubted == 1',
    for: '5m',
    severity: 'warning',
    summary: 'The clock of {{ $labels.instance }} is behind what it has seen',
    description: 'Gateways are told no time until it is right: see its NTP.',
  },
  {
    alert: 'HeadwaterGatewayClockOff',
    expr: 'abs(headwater_gateway_clock_offset_seconds) > 60',
    for: '10m',
    severity: 'warning',
    summary:
      'Gateway {{ $labels.gateway }} and {{ $labels.instance }} differ by {{ $value | humanizeDuration }}',
    description: 'One of the two clocks is wrong: see NTP on both.',
  },
  {
    alert: 'HeadwaterTwoGatewaysOneName',
    expr: 'headwater_ingest_doubled_gateways > 0',
    for: '0m',
    severity: 'critical',
    summary: 'Two machines use the name of one gateway',
    description: 'A card was copied. The log of the collector says which name, and from where.',
  },
];

/** The rule file; JSON strings are YAML strings, so that no quotation of ours can break it. */
export function alertRules(): string {
  const rules = ALERT_RULES.map((rule) => {
    const text = JSON.stringify;
    return [
      `      - alert: ${rule.alert}`,
      `        expr: ${text(rule.expr)}`,
      `        for: ${rule.for}`,
      `        labels: { severity: ${rule.severity} }`,
      '        annotations:',
      `          summary: ${text(rule.summary)}`,
      `          description: ${text(rule.description)}`,
    ].join('\n');
  });
  return `# Generated by \`npm run generate\` from dashboards/prometheus.ts.\ngroups:\n  - name: headwater\n    rules:\n${rules.join('\n')}\n`;
}

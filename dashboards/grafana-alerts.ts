/**
 * Alert rules and the contact point that Grafana is provisioned with: of delivery and of stream rules, asked of the store. Those
 * of metrics are Prometheus' own (prometheus.ts). Rules name their contact point, so that nobody's notification policies change.
 */
import { SOURCES } from './grafana.ts';

export const CONTACT = { uid: 'headwater-contact', name: 'Headwater' };

export interface StoreRule {
  uid: string;
  title: string;
  /** InfluxQL: a series for each that alerts by itself; above zero it holds. */
  query: string;
  /** Seconds back from now that it is asked over. */
  rangeS: number;
  for: string;
  severity: 'critical' | 'warning';
  summary: string;
  /** What to do. */
  description: string;
}

export const STORE_RULES: readonly StoreRule[] = [
  {
    uid: 'headwater-gateway-silent',
    title: 'A gateway is silent',
    query: `SELECT count("state") FROM (SELECT last("state_text") AS "state" FROM "headwater_gateways" WHERE $timeFilter GROUP BY "gateway") WHERE "state" = 'silent' GROUP BY "gateway"`,
    rangeS: 7200,
    for: '5m',
    severity: 'warning',
    summary: 'Gateway {{ $labels.gateway }} is out of reach',
    description:
      'It keeps what devices send until its buffer is full. See its link, its power and its certificate.',
  },
  {
    uid: 'headwater-missing',
    title: 'Messages are missing',
    query: 'SELECT last("missing") FROM "headwater_gateways" WHERE $timeFilter GROUP BY "gateway"',
    rangeS: 7200,
    for: '10m',
    severity: 'critical',
    summary: 'Messages of gateway {{ $labels.gateway }} are missing',
    description: '`headwater ledger` names epoch and ranges.',
  },
  {
    uid: 'headwater-lost',
    title: 'Messages were lost',
    query:
      'SELECT sum("messages") FROM "headwater_losses" WHERE $timeFilter GROUP BY "gateway", "cause"',
    rangeS: 3600,
    for: '0s',
    severity: 'warning',
    summary: 'Gateway {{ $labels.gateway }} has lost messages ({{ $labels.cause }})',
    description: '`headwater ledger` names epoch, ranges and the reason.',
  },
  {
    uid: 'headwater-rule-holds',
    title: 'A stream rule holds',
    query:
      'SELECT count("active") FROM (SELECT last("active_bool") AS "active" FROM "alerts" WHERE $timeFilter GROUP BY *) WHERE "active" = true GROUP BY "rule"',
    rangeS: 86_400,
    for: '0s',
    severity: 'warning',
    summary: 'Rule {{ $labels.rule }} holds',
    description: 'The dashboard Alerts says of which series, since when and why.',
  },
];

const expression = (refId: string, range: { from: number; to: number }, model: object) => ({
  refId,
  relativeTimeRange: range,
  datasourceUid: '__expr__',
  model: { refId, datasource: { type: '__expr__', uid: '__expr__' }, ...model },
});

function ruleOf(rule: StoreRule) {
  const { type, uid } = SOURCES.influxdb;
  const range = { from: rule.rangeS, to: 0 };
  return {
    uid: rule.uid,
    title: rule.title,
    condition: 'C',
    for: rule.for,
    data: [
      {
        refId: 'A',
        relativeTimeRange: range,
        datasourceUid: uid,
        model: {
          refId: 'A',
          datasource: { type, uid },
          rawQuery: true,
          query: rule.query,
          resultFormat: 'time_series',
        },
      },
      expression('B', range, { type: 'reduce', expression: 'A', reducer: 'last' }),
      expression('C', range, {
        type: 'threshold',
        expression: 'B',
        conditions: [{ evaluator: { type: 'gt', params: [0] } }],
      }),
    ],
    // Nothing is said of what is well.
    noDataState: 'OK',
    execErrState: 'Error',
    labels: { severity: rule.severity },
    annotations: { summary: rule.summary, description: rule.description },
    notification_settings: { receiver: CONTACT.name },
  };
}

/** Files below `provisioning/alerting`, as they are before YAML. */
export const alerting = (): Record<string, object> => ({
  rules: {
    apiVersion: 1,
    groups: [
      {
        orgId: 1,
        name: 'headwater',
        folder: 'Headwater',
        interval: '1m',
        rules: STORE_RULES.map(ruleOf),
      },
    ],
  },
  'contact-points': {
    apiVersion: 1,
    contactPoints: [
      {
        orgId: 1,
        name: CONTACT.name,
        receivers: [
          {
            uid: CONTACT.uid,
            type: 'webhook',
            settings: { url: '${HEADWATER_ALERT_WEBHOOK}', httpMethod: 'POST' },
          },
        ],
      },
    ],
  },
});

/** What a server's certificate says of itself, for alerts before it ends. */
import { gauge, type MetricTable } from '../telemetry/metrics.ts';
import type { Health } from '../telemetry/health.ts';
import type { ServerTls } from './tls.ts';

export const CERTIFICATE_METRICS: MetricTable<{ tls: ServerTls | undefined }> = {
  headwater_tls_certificate_expiry_time_seconds: gauge(
    'When the certificate that this server shows ends, seconds since 1970 UTC; +Inf where it shows none.',
    ({ tls }) => (tls === undefined ? Number.POSITIVE_INFINITY : tls.expiryMs() / 1000),
  ),
};

/** An expired one is named as what keeps others away. */
export const certificateHealth = ({ tls }: { tls: ServerTls | undefined }): Health[] =>
  tls === undefined ? [] : [{ name: 'certificate', why: tls.expired, isEssential: false }];

/** What a server's certificate says of itself, for alerts before it ends. */
import { gauge, type MetricTable } from '../telemetry/metrics.ts';
import type { ServerTls } from './tls.ts';

export const CERTIFICATE_METRICS: MetricTable<{ tls: ServerTls | undefined }> = {
  headwater_tls_certificate_expiry_time_seconds: gauge(
    'When the certificate that this server shows ends, seconds since 1970 UTC; +Inf where it shows none.',
    ({ tls }) => (tls === undefined ? Number.POSITIVE_INFINITY : tls.expiryMs() / 1000),
  ),
};

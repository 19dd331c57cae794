/** The collector's HTTP server. */
import { parseOrigins } from '../../shared/http/cors.ts';
import { httpPart, type HttpSide } from '../../shared/parts/http.ts';
import { httpGateway } from '../ingest/part.ts';
import { guardPart } from '../ops/parts.ts';
import type { CollectorContext } from '../part.ts';

export const COLLECTOR_SIDE: HttpSide = {
  title: 'Headwater collector',
  about: 'Series, latest values and queries; all times are epoch milliseconds.',
  whole: 'all',
  flag: '--http',
};

export const collectorHttpPart = httpPart<CollectorContext>(COLLECTOR_SIDE, (site) => {
  const { config, notify } = site.context;
  const { tokens, failures, audit, tls } = site.get(guardPart);
  return {
    address: config['http.listen'],
    options: {
      tokens,
      failures,
      audit,
      tls: config['http.tls'] ? tls : undefined,
      here: httpGateway(config),
      origins: parseOrigins(config['http.corsOrigins']),
      notify,
    },
  };
});

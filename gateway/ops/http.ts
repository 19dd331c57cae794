/** The gateway's HTTP server, and how it is at a glance. */
import { parseOrigins } from '../../shared/http/cors.ts';
import { httpPart, type HttpSide } from '../../shared/parts/http.ts';
import { gauge } from '../../shared/telemetry/metrics.ts';
import { json } from '../../shared/http/route.ts';
import {
  INTEGER,
  NUMBER,
  TEXT,
  TEXTS,
  BOOLEAN,
  maybe,
  object,
  orNull,
  textsOf,
} from '../../shared/http/schema.ts';
import { bufferPart } from '../buffer/part.ts';
import { guardPart } from '../ingress/guard-part.ts';
import { READ_HERE, type GatewayContext, type GatewayPart, type GatewaySite } from '../part.ts';
import type { Health } from '../../shared/telemetry/health.ts';
import { standstill } from '../../shared/telemetry/standstill.ts';
import { enrollPart } from '../uplink/enroll-part.ts';
import { uplinkPart } from '../uplink/part.ts';

export const GATEWAY_SIDE: HttpSide = {
  title: 'Headwater gateway',
  about: 'What waits here and why, and the messages of the last hours.',
  whole: 'here',
  flag: '--gateway-http',
};

export const gatewayHttpPart = httpPart<GatewayContext>(GATEWAY_SIDE, (site) => {
  const { config, id, notify } = site.context;
  const { tokens, failures, audit, tls } = site.get(guardPart);
  return {
    address: config['http.listen'],
    options: {
      tokens,
      failures,
      audit,
      tls: config['http.tls'] ? tls : undefined,
      here: id,
      origins: parseOrigins(config['http.corsOrigins']),
      notify,
    },
  };
});

export interface Waiting {
  health: readonly Health[];
  /** Undefined while what an earlier run left is not counted. */
  messages: number | undefined;
  hasCollector: boolean;
  /** Without a certificate of its own it connects to nobody. */
  isEnrolled: boolean;
}

/** Why messages wait: of what is unwell, that which holds them up. A renewal that fails holds up none, nor does a part beside. */
export function waitingReason({ health, messages, hasCollector, isEnrolled }: Waiting): string {
  const why = (part: string): string | undefined => health.find(({ name }) => name === part)?.why;
  if (!hasCollector) return 'no collector is configured: messages stay here';
  const held = (isEnrolled ? undefined : why('enrolment')) ?? why('uplink');
  if (held !== undefined) return held;
  return messages === 0 ? 'nothing waits' : 'on the way to the collector';
}

function reasonOf(site: GatewaySite): string {
  return waitingReason({
    health: site.health(),
    messages: site.get(bufferPart).buffer.stats().waitingMessages,
    hasCollector: site.find(uplinkPart) !== undefined,
    isEnrolled: site.find(enrollPart)?.isEnrolled ?? true,
  });
}

/** As `BufferStats` and `UplinkStats` say. */
const BUFFER = object({
  gateway: TEXT,
  epoch: TEXT,
  state: textsOf('open', 'blocked'),
  why: maybe(TEXT),
  waitingMessages: maybe(INTEGER),
  waitingFrames: maybe(INTEGER),
  waitingBytes: maybe(INTEGER),
  diskBytes: INTEGER,
  diskBytesMax: INTEGER,
  historyMessages: INTEGER,
  historyBytes: INTEGER,
  hoursUntilFull: maybe(NUMBER),
  hoursIfCut: maybe(NUMBER),
  evictedMessages: INTEGER,
  droppedMessages: INTEGER,
  thinnedMessages: INTEGER,
  pendingBytes: INTEGER,
  committedMessages: INTEGER,
  committedGroups: INTEGER,
  committedFrameBytes: INTEGER,
  writeErrors: INTEGER,
  reopens: INTEGER,
  losses: INTEGER,
  lastCommitUs: NUMBER,
  uplink: orNull(
    object({
      connected: BOOLEAN,
      collector: TEXT,
      connects: INTEGER,
      bytesToday: INTEGER,
      lastError: TEXT,
      sentFrames: INTEGER,
      sentBytes: INTEGER,
      sentMessages: INTEGER,
      backlogBytes: INTEGER,
      acknowledgedMessages: INTEGER,
      inFlightBytes: INTEGER,
      ackTimeouts: INTEGER,
      windowBytes: INTEGER,
      expiredMessages: INTEGER,
      recalledMessages: INTEGER,
    }),
  ),
  warnings: TEXTS,
});

export const statusPart: GatewayPart<GatewaySite> = {
  name: 'status',
  open: (site) => site,
  metrics: {
    headwater_gateway_info: gauge('1, with the name of this gateway.', ({ context: { id } }) => [
      { labels: { gateway: id }, value: 1 },
    ]),
  },
  routes: [
    {
      method: 'GET',
      path: '/api/v1/buffer',
      about: 'What waits in the buffer and why, how full it is, and how the uplink is.',
      right: READ_HERE,
      replies: { 200: { about: 'The buffer.', schema: BUFFER } },
      handle: (site) => {
        const { buffer, trouble } = site.get(bufferPart);
        const { state } = buffer;
        return json({
          gateway: site.context.id,
          epoch: buffer.epoch,
          state: state.kind,
          why: state.kind === 'blocked' ? state.why : reasonOf(site),
          ...buffer.stats(),
          uplink: site.find(uplinkPart)?.stats() ?? null,
          warnings: [...(trouble === undefined ? [] : [trouble]), ...standstill.warnings()],
        });
      },
    },
  ],
};

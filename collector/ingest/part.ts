/** What takes messages, as parts of a collector: gateways by their uplinks, and everybody else by HTTP. */
import type { Share } from '../../shared/access/shares.ts';
import { builtMs } from '../../shared/env/build.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { HttpIngest, INGEST_ROUTES } from '../../shared/http/ingest.ts';
import type { Address } from '../../shared/net/listen.ts';
import { counter, gauge, histogram, type Labels } from '../../shared/telemetry/metrics.ts';
import { GATEWAY_ID, UP_BYTES_MAX } from '../../shared/wire/wire.ts';
import type { CollectorConfig } from '../config.ts';
import { enrollPart } from '../enroll/part.ts';
import { ledgerPart } from '../ledger/part.ts';
import { logPart } from '../log/part.ts';
import { diskPart, guardPart } from '../ops/parts.ts';
import type { DiskGuard } from '../ops/disk-guard.ts';
import type { CollectorGuard } from '../ops/guard.ts';
import type { CollectorPart, CollectorSite } from '../part.ts';
import { remotePart } from '../remote/part.ts';
import { CollectorClock } from './clock.ts';
import { EpochRoom } from './epoch-room.ts';
import { LogSink } from './http-sink.ts';
import { Ingest } from './ingest.ts';

/** The name under which the collector takes messages itself. Throws CONFIG_INVALID. */
export function httpGateway(config: CollectorConfig): string {
  const id = config['ingest.httpGateway'];
  if (!GATEWAY_ID.test(id))
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `ingest.httpGateway: '${id}' cannot be a gateway's id`,
    );
  return id;
}

/** What this machine's clock is worth: asked by all that takes messages. */
export const clockPart: CollectorPart<CollectorClock> = {
  name: 'clock',
  open: (site) => {
    const { config, env, notify } = site.context;
    const trusted = config['clock.trusted'];
    const clock = new CollectorClock({ env, notify, trusted, notBeforeMs: builtMs() });
    const ledger = site.get(ledgerPart);
    clock.start(ledger.isRead ? ledger.newestMs() : undefined);
    if (!ledger.isRead) void ledger.whenRead.then(() => clock.compare(ledger.newestMs()));
    return clock;
  },
  health: ({ doubt }) => [{ name: 'clock', why: doubt, isEssential: false }],
  metrics: {
    headwater_clock_doubted: gauge(
      "1 while this machine's clock is behind this version's making or what the log has, so that gateways are told no time.",
      ({ doubt }) => (doubt === undefined ? 0 : 1),
    ),
    headwater_gateway_clock_offset_seconds: gauge(
      "By how much a gateway's wall clock was ahead of this machine's when it was last heard, by gateway.",
      (clock) => clock.offsets(),
    ),
  },
  close: (clock) => clock.close(),
};

export const sinkPart: CollectorPart<{ sink: LogSink; ingest: HttpIngest }> = {
  name: 'ingest by HTTP',
  roles: ['ingest'],
  open: (site) => {
    const { config, env } = site.context;
    const disk = site.get(diskPart);
    const sink = new LogSink(
      env,
      site.get(logPart),
      httpGateway(config),
      config['ingest.bodyBytesMax'],
      () => disk.full,
      site.get(clockPart),
    );
    return { sink, ingest: new HttpIngest(sink) };
  },
  metrics: {
    headwater_ingest_http_messages_total: counter(
      'Messages that came by HTTP and are in the log.',
      ({ sink }) => sink.acceptedMessages,
    ),
  },
  routes: INGEST_ROUTES.map((route) => ({
    ...route,
    handle: ({ ingest }, request, response) => route.handle(ingest, request, response),
  })),
};

interface Uplinks {
  ingest: Ingest;
  disk: DiskGuard;
  guard: CollectorGuard;
  /** Once they listen. */
  uplink: Address | undefined;
  uplinks: Address | undefined;
}

/** As long as they may be, those of a dozen gateways whose name nobody has checked. */
const BEGUN_BYTES_MAX = 128 * 1024 * 1024;

/** What stands of each limit of the uplinks. */
const limits =
  (value: (share: Share) => number) =>
  ({ ingest: { shares } }: Uplinks): { labels: Labels; value: number }[] =>
    Object.entries(shares).map(([limit, share]) => ({ labels: { limit }, value: value(share) }));

function ingestOf(site: CollectorSite, disk: DiskGuard, guard: CollectorGuard): Ingest {
  const { config, env, notify } = site.context;
  const gatewaysMax = config['ingest.gatewaysMax'];
  const { declarations } = site.get(remotePart);
  const ledger = site.get(ledgerPart);
  const room = new EpochRoom(ledger, config['ingest.epochsPerGatewayMax']);
  return new Ingest(
    env,
    {
      mqtt: {
        connectBytesMax: 4096,
        packetBytesMax: UP_BYTES_MAX,
        clientIdBytesMax: 80,
        filtersMax: 10,
      },
      server: {
        connectionsMax: gatewaysMax,
        connectionsPerAddressMax: gatewaysMax,
        connectTimeoutMs: 8000,
      },
      begunBytesMax: BEGUN_BYTES_MAX,
      pendingBytesMax: config['ingest.pendingBytesMax'],
      secret: guard.secret,
      needsCertificate: guard.clientCertificates === 'required',
      reserved: config['ingest.httpGateway'],
      enrolled: site.find(enrollPart)?.enrolment,
      failures: guard.failures,
      audit: guard.audit,
      refuse: () => disk.full,
      clock: site.get(clockPart),
      room: (gateway, frames) => room.check(gateway, frames),
      told: (gateway, status) => {
        disk.newFolder.hear(gateway, status);
        declarations.heard(gateway, status);
        return declarations.toSay(gateway);
      },
    },
    site.get(logPart),
    ledger,
    notify,
  );
}

export const ingestPart: CollectorPart<Uplinks> = {
  name: 'ingest',
  roles: ['ingest'],
  open: async (site) => {
    const { config } = site.context;
    if (config['uplink.listen'] === undefined && config['uplinks.listen'] === undefined)
      return undefined;
    const [disk, guard] = [site.get(diskPart), site.get(guardPart)];
    const ingest = ingestOf(site, disk, guard);
    await ingest.start();
    const { declarations } = site.get(remotePart);
    declarations.onChange = () => ingest.receiver.sayAll((each) => declarations.toSay(each));
    return { ingest, disk, guard, uplink: undefined, uplinks: undefined };
  },
  start: async (running, site) => {
    const { config } = site.context;
    const { server } = running.ingest;
    const { clientCertificates } = running.guard;
    const enrolling = site.find(enrollPart);
    const tls = enrolling?.tls ?? running.guard.tls;
    const [plain, secure] = [config['uplink.listen'], config['uplinks.listen']];
    if (plain !== undefined) running.uplink = await server.listen(plain, '--uplink');
    if (secure === undefined || tls === undefined) return;
    tls.onRevocation = () => server.closeCertified();
    running.uplinks = await server.listenTls(secure, '--uplinks', tls, clientCertificates);
    if (enrolling === undefined) return;
    enrolling.uplinks = running.uplinks;
    enrolling.enrolment.onRevoked = (gateway) => server.closeCertified(gateway);
  },
  metrics: {
    headwater_ingest_gateways: gauge(
      'Gateway connections now.',
      ({ ingest }) => ingest.server.connectionCount,
    ),
    headwater_ingest_frames_total: counter(
      'Frames received, resends included.',
      ({ ingest }) => ingest.receiver.receivedFrames,
    ),
    headwater_ingest_too_large_messages: gauge(
      'Messages that connected gateways keep, since the raw topic of the log takes too little for them.',
      ({ ingest }) => ingest.receiver.tooLarge.messages,
    ),
    headwater_ingest_messages_total: counter(
      'Messages received in frames, resends included.',
      ({ ingest }) => ingest.receiver.receivedMessages,
    ),
    headwater_ingest_bytes_total: counter(
      'Bytes of uplink messages received.',
      ({ ingest }) => ingest.receiver.receivedBytes,
    ),
    headwater_ingest_acknowledged_messages_total: counter(
      'Messages acknowledged to gateways: on the stable storage of the log.',
      ({ ingest }) => ingest.receiver.acknowledgedMessages,
    ),
    headwater_ingest_acknowledge_seconds: histogram(
      'From the arrival of an uplink message to its acknowledgement, after the fsync of the log.',
      ({ ingest }) => ingest.receiver.acknowledgeSeconds,
    ),
    headwater_ingest_refused_total: counter(
      'Uplink messages and connections refused, by reason.',
      ({ ingest }) => ingest.refusedBy.read(),
    ),
    headwater_ingest_reclaimed_messages_total: counter(
      'Messages asked for again, because the log lacked what had been acknowledged.',
      ({ ingest }) => ingest.receiver.reclaimedMessages,
    ),
    headwater_ingest_limit_refused_total: counter(
      'Times that a gateway or address got nothing more of what is there for all, by limit (docs/limits.md).',
      limits(({ refused }) => refused),
    ),
    headwater_ingest_limit_used: gauge(
      'What is taken of a limit that holds for all.',
      limits(({ used }) => used),
    ),
    headwater_ingest_limit_max: gauge(
      'The most of it, for all together.',
      limits(({ whole }) => whole),
    ),
    headwater_ingest_doubled_gateways: gauge(
      'Gateways of whose name two machines have come since the start.',
      ({ ingest }) => ingest.receiver.doubledGateways,
    ),
    headwater_ingest_blocked: gauge(
      '1 while the uplink is not acknowledged, because the disk is nearly full.',
      ({ disk }) => (disk.full === undefined ? 0 : 1),
    ),
  },
  close: ({ ingest }) => ingest.close(),
};

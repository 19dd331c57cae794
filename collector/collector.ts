/** A collector: ingest → log → decode → log → store, and the API over the store. Which of them run here is its roles. */
import { claimFolder } from '../shared/config/data-folder.ts';
import { builtMs } from '../shared/env/build.ts';
import type { Env } from '../shared/env/env.ts';
import { HeadwaterError, messageOf } from '../shared/errors.ts';
import type { Address } from '../shared/net/listen.ts';
import type { HttpServer } from '../shared/http/server.ts';
import type { Notify } from '../shared/telemetry/log.ts';
import { GATEWAY_ID, UP_BYTES_MAX } from '../shared/wire/wire.ts';
import { ROLES, type CollectorConfig, type Role } from './config.ts';
import type { Mappings } from './decode/mapping/mappings.ts';
import { MAPPING_PREFIX, MappingSet, type MappingVersion } from './decode/mapping/set.ts';
import type { SeriesLimits } from './decode/admission.ts';
import { ReplayJobs } from './decode/replay-jobs.ts';
import { Replayer } from './decode/replay.ts';
import { DecodeStage } from './decode/stage.ts';
import { CollectorClock } from './ingest/clock.ts';
import { LogSink } from './ingest/http-sink.ts';
import { CollectorGuard } from './ops/guard.ts';
import { SeriesMeta } from './query/series-meta.ts';
import { Ingest } from './ingest/ingest.ts';
import { Processing } from './processing.ts';
import { LedgerView } from './ledger/view.ts';
import { TOPIC_LEDGER, type Log } from './log/log.ts';
import { createLog } from './log/open.ts';
import { DiskGuard } from './ops/disk-guard.ts';
import { collectorApi } from './query/api.ts';
import { LiveStream } from './query/live.ts';
import { QuarantineView } from './query/quarantine.ts';
import { createStore } from './store/open.ts';
import { StoreStage } from './store/stage.ts';
import type { TimeSeriesStore } from './store/store.ts';

export interface CollectorAddresses {
  uplink: Address | undefined;
  uplinks: Address | undefined;
  http: Address | undefined;
}

export function parseRoles(names: readonly string[]): Set<Role> {
  const roles = new Set<Role>();
  for (const name of names) {
    if (!(ROLES as readonly string[]).includes(name)) {
      throw new HeadwaterError(
        'CONFIG_INVALID',
        `--roles: '${name}' is no role; known are ${ROLES.join(', ')}`,
      );
    }
    roles.add(name as Role);
  }
  if (roles.size === 0)
    throw new HeadwaterError('CONFIG_INVALID', `--roles: name at least one of ${ROLES.join(', ')}`);
  return roles;
}

/** Roles apart need a log and a store that several processes can use. */
function checkRoles(roles: Set<Role>, config: CollectorConfig): void {
  const missing = ROLES.filter((role) => !roles.has(role));
  if (missing.length === 0) return;
  if (config.log === 'embedded') {
    throw new HeadwaterError(
      'ROLES_CONFLICT',
      `--roles without ${missing.join(', ')}: the embedded log is one process's own, so no other could do the rest; use --log kafka://HOST:PORT`,
    );
  }
  if (config.store === 'embedded' && roles.has('store') !== roles.has('query')) {
    throw new HeadwaterError(
      'ROLES_CONFLICT',
      "the embedded store is one process's own: roles store and query go together, or use --store influxdb://HOST:PORT/ORG/BUCKET",
    );
  }
}

const seriesLimits = (config: CollectorConfig): SeriesLimits => ({
  perClient: config['decode.seriesPerClientMax'],
  perGateway: config['decode.seriesPerGatewayMax'],
  fieldsPerTopic: config['decode.fieldsPerTopicMax'],
  fieldsPerGateway: config['decode.fieldsPerGatewayMax'],
  fieldsInAll: config['decode.fieldsMax'],
});

/** Throws CONFIG_INVALID. */
function httpGateway(config: CollectorConfig): string {
  const id = config['ingest.httpGateway'];
  if (!GATEWAY_ID.test(id))
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `ingest.httpGateway: '${id}' cannot be a gateway's id`,
    );
  return id;
}

export class Collector {
  private readonly env: Env;
  private readonly config: CollectorConfig;
  private readonly notify: Notify;
  private readonly extraMappings: readonly { file: string; text: string }[];
  private log: Log | undefined;
  private ingest: Ingest | undefined;
  private decode: DecodeStage | undefined;
  private storeStage: StoreStage | undefined;
  private store: TimeSeriesStore | undefined;
  private live: LiveStream | undefined;
  private quarantine: QuarantineView | undefined;
  private ledger: LedgerView | undefined;
  private api: HttpServer | undefined;
  private guarding: CollectorGuard | undefined;
  private replays: ReplayJobs | undefined;
  private replayer: Replayer | undefined;
  private meta: SeriesMeta | undefined;
  private sink: LogSink | undefined;
  private mappings: MappingSet | undefined;
  private guard: DiskGuard | undefined;
  private clock: CollectorClock | undefined;
  private processing: Processing | undefined;
  private closing: Promise<void> | undefined;

  /** `extraMappings` come after those of the configured file. */
  constructor(
    env: Env,
    config: CollectorConfig,
    notify: Notify,
    extraMappings: readonly { file: string; text: string }[] = [],
  ) {
    this.env = env;
    this.config = config;
    this.notify = notify;
    this.extraMappings = extraMappings;
  }

  /** Opens what its roles need, then listens. Rejects with one clear sentence. */
  async start(influxToken: string | undefined): Promise<CollectorAddresses> {
    const { config, notify } = this;
    const roles = parseRoles(config.roles);
    checkRoles(roles, config);
    const guard = new CollectorGuard(config, this.env, notify);
    this.guarding = guard;
    guard.check(config, roles.has('ingest'), notify);
    this.mappings = new MappingSet(
      {
        file: config.mappings,
        extra: this.extraMappings,
        shipped: config['decode.shippedMappings'],
        localZone: config['decode.localZone'],
        pastDays: config['decode.deviceTimePastDays'],
      },
      notify,
    );
    const loaded = await this.mappings.load();
    await claimFolder(config.data, 'collector', '');
    try {
      return await this.open(roles, loaded, guard, influxToken);
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  private async open(
    roles: Set<Role>,
    loaded: { mappings: Mappings; version: MappingVersion },
    guarding: CollectorGuard,
    influxToken: string | undefined,
  ): Promise<CollectorAddresses> {
    const { config, env, notify } = this;
    const nowMs = (): number => env.clock.wallUs() / 1000;
    const log = await createLog({ config, notify, nowMs });
    this.log = log;
    await log.open();
    for (const text of log.warnings()) notify({ level: 'warn', event: 'log', text });
    this.guard = new DiskGuard(config.data, config['disk.freeBytesMin'], notify);
    await this.guard.start();
    const refuse = (): string | undefined => this.guard?.full;
    if (roles.has('store') || roles.has('query')) {
      this.store = await createStore({ config, notify, nowMs, token: influxToken });
      await this.store.open();
    }
    if (roles.has('decode')) {
      const decode = new DecodeStage(log, loaded.mappings, seriesLimits(config), notify);
      this.decode = decode;
      await this.keepVersion(log, loaded.version);
      decode.start();
      this.mappings?.watch((mappings, version) => {
        decode.decoder.mappings = mappings;
        void this.keepVersion(log, version);
      });
    }
    if (roles.has('store') && this.store !== undefined) {
      this.storeStage = new StoreStage({
        log,
        store: this.store,
        notify,
        fillRate: config['store.fillReadingsPerSecond'],
      });
      this.storeStage.start();
    }
    if (roles.has('query')) {
      const own = env.random.bytes(6).toString('hex');
      this.live = new LiveStream(log, notify);
      this.live.start(`headwater-live-${own}`);
      this.quarantine = new QuarantineView(log, notify);
      this.quarantine.start(`headwater-quarantine-${own}`);
      this.meta = new SeriesMeta(log);
      await this.meta.start();
    }
    this.ledger = new LedgerView(log);
    await this.ledger.start();
    this.processing = await Processing.create({
      config,
      env,
      notify,
      log,
      roles,
      ledger: this.ledger,
    });
    await this.processing.start();
    if (roles.has('decode') || roles.has('query')) {
      const newId = (): string => env.random.bytes(6).toString('hex');
      this.replays = new ReplayJobs(log, nowMs, newId);
    }
    const { decode, replays } = this;
    if (decode !== undefined && replays !== undefined)
      this.replayer = new Replayer({
        log,
        jobs: replays,
        mappings: () => decode.decoder.mappings,
        limits: seriesLimits(config),
        nowMs,
        notify,
      });
    await replays?.start();
    if (replays !== undefined) this.processing.startRebuild(replays);
    if (this.storeStage !== undefined) this.processing.fillFrom(this.storeStage.fill);
    const clock = new CollectorClock({
      env,
      notify,
      trusted: config['clock.trusted'],
      notBeforeMs: builtMs(),
    });
    this.clock = clock;
    clock.start(this.ledger.newestMs());
    if (roles.has('ingest'))
      this.sink = new LogSink(
        env,
        log,
        httpGateway(config),
        config['ingest.bodyBytesMax'],
        refuse,
        clock,
      );
    let uplink: Address | undefined;
    const uplinkAddress = config['uplink.listen'];
    if (roles.has('ingest') && uplinkAddress !== undefined) {
      this.ingest = new Ingest(
        env,
        {
          mqtt: {
            connectBytesMax: 4096,
            packetBytesMax: UP_BYTES_MAX,
            clientIdBytesMax: 80,
            filtersMax: 10,
          },
          server: {
            connectionsMax: config['ingest.gatewaysMax'],
            connectionsPerAddressMax: config['ingest.gatewaysMax'],
            connectTimeoutMs: 8000,
          },
          pendingBytesMax: config['ingest.pendingBytesMax'],
          secret: guarding.secret,
          needsCertificate: guarding.clientCertificates === 'required',
          reserved: config['ingest.httpGateway'],
          failures: guarding.failures,
          audit: guarding.audit,
          refuse,
          clock,
        },
        log,
        this.ledger,
        notify,
      );
      await this.ingest.start();
    }
    let http: Address | undefined;
    const httpAddress = config['http.listen'];
    if (httpAddress !== undefined) {
      const store = roles.has('query') ? this.store : undefined;
      this.api = collectorApi(
        {
          log,
          ingest: this.ingest,
          decode: this.decode,
          storeStage: this.storeStage,
          store,
          live: this.live,
          quarantine: this.quarantine,
          replays: this.replays,
          meta: this.meta,
          sink: this.sink,
          processing: this.processing,
          ledger: this.ledger,
          refuse,
          nowMs,
        },
        {
          tokens: guarding.tokens,
          failures: guarding.failures,
          audit: guarding.audit,
          tls: config['http.tls'] ? guarding.tls : undefined,
        },
      );
      http = await this.api.listen(httpAddress, '--http');
    }
    if (this.ingest !== undefined && uplinkAddress !== undefined) {
      uplink = await this.ingest.server.listen(uplinkAddress, '--uplink');
    }
    const secureAddress = config['uplinks.listen'];
    let uplinks: Address | undefined;
    if (this.ingest !== undefined && secureAddress !== undefined && guarding.tls !== undefined) {
      const { tls, clientCertificates } = guarding;
      const { server } = this.ingest;
      tls.onRevocation = () => server.closeCertified();
      uplinks = await this.ingest.server.listenTls(
        secureAddress,
        '--uplinks',
        tls,
        clientCertificates,
      );
    }
    return { uplink, uplinks, http };
  }

  /** So that a later replay knows what this version wrote. */
  private async keepVersion(log: Log, version: MappingVersion): Promise<void> {
    const record = { at: Math.round(this.env.clock.wallUs() / 1000), ...version };
    const key = `${MAPPING_PREFIX}${version.hash}`;
    try {
      const value = Buffer.from(JSON.stringify(record));
      await log.append(TOPIC_LEDGER, [{ key, headers: {}, value }]);
    } catch (error) {
      this.notify({
        level: 'warn',
        event: 'mappings_kept',
        text: `the mappings in force could not be noted in the log: ${messageOf(error)}`,
      });
    }
  }

  get parts(): { log: Log | undefined; store: TimeSeriesStore | undefined } {
    return { log: this.log, store: this.store };
  }

  /** Stops taking frames, finishes the steps under way and closes. Idempotent. */
  close(): Promise<void> {
    this.closing ??= this.shut();
    return this.closing;
  }

  private async shut(): Promise<void> {
    this.mappings?.close();
    this.clock?.close();
    await this.ingest?.close();
    await this.api?.close();
    await this.live?.close();
    await this.quarantine?.close();
    await this.replayer?.close();
    await this.replays?.close();
    await this.meta?.close();
    await this.ledger?.close();
    await this.decode?.close();
    await this.processing?.close();
    await this.storeStage?.close();
    await this.store?.close();
    await this.log?.close();
    this.guard?.stop();
    await this.guarding?.close();
  }
}

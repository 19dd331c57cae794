/** A collector: its parts in their order. Ingest → log → decode → log → store, and the API over the store. */
import type { Env } from '../shared/env/env.ts';
import type { Address } from '../shared/net/listen.ts';
import { Site, type Part } from '../shared/parts/site.ts';
import type { Notify } from '../shared/telemetry/log.ts';
import { collectorHttpPart } from './api/http.ts';
import { accountPart } from './api/ledger.ts';
import { livePart } from './api/live/part.ts';
import { overviewPart } from './api/overview.ts';
import { pagePart } from './api/page.ts';
import { mappingTryPart } from './api/mapping-try.ts';
import { messagesPart } from './api/messages.ts';
import { quarantinePart } from './api/quarantine.ts';
import { explainPart } from './api/explain.ts';
import { exportPart } from './api/export/part.ts';
import { exportRawPart } from './api/export/raw.ts';
import { influxqlPart } from './api/influxql.ts';
import { seriesPart } from './api/series.ts';
import { sqlPart } from './api/sql.ts';
import { stagesPart } from './api/stages.ts';
import { statusPart } from './api/status.ts';
import { auditPart } from './audit/part.ts';
import { batchPart } from './batch/part.ts';
import type { CollectorConfig } from './config.ts';
import { decodePart, mappingsPart } from './decode/part.ts';
import { replayerPart, replaysPart } from './decode/replay-part.ts';
import { enrollPart } from './enroll/part.ts';
import { clockPart, ingestPart, sinkPart } from './ingest/part.ts';
import { fleetPart } from './fleet/part.ts';
import { lakeCheckPart } from './lake-check-part.ts';
import { lakePart, lakeStagesPart } from './lake/part.ts';
import { ledgerPart } from './ledger/part.ts';
import type { Log } from './log/log.ts';
import { logPart } from './log/part.ts';
import { diskPart, guardPart } from './ops/parts.ts';
import type { CollectorContext } from './part.ts';
import { rebuildPart } from './rebuild-part.ts';
import { remotePart } from './remote/part.ts';
import { checkRoles, parseRoles } from './roles.ts';
import { storePart, storeStagePart } from './store/part.ts';
import type { TimeSeriesStore } from './store/store.ts';
import { streamPart } from './stream/part.ts';

/** In this order they open; what listens to the outside comes last, and is closed first. */
export const COLLECTOR_PARTS: readonly Part<CollectorContext, unknown>[] = [
  guardPart,
  mappingsPart,
  diskPart,
  logPart,
  storePart,
  decodePart,
  storeStagePart,
  livePart,
  quarantinePart,
  mappingTryPart,
  messagesPart,
  seriesPart,
  influxqlPart,
  exportPart,
  ledgerPart,
  lakePart,
  sqlPart,
  exportRawPart,
  lakeStagesPart,
  streamPart,
  batchPart,
  replaysPart,
  replayerPart,
  rebuildPart,
  lakeCheckPart,
  auditPart,
  explainPart,
  accountPart,
  statusPart,
  overviewPart,
  stagesPart,
  pagePart,
  clockPart,
  sinkPart,
  enrollPart,
  remotePart,
  fleetPart,
  collectorHttpPart,
  ingestPart,
];

export interface CollectorAddresses {
  uplink: Address | undefined;
  uplinks: Address | undefined;
  /** Where gateways enrol. */
  enroll: Address | undefined;
  http: Address | undefined;
}

export class Collector {
  private readonly context: Omit<CollectorContext, 'influxToken'>;
  private site: Site<CollectorContext> | undefined;

  /** `extraMappings` come after those of the configured file. */
  constructor(
    env: Env,
    config: CollectorConfig,
    notify: Notify,
    extraMappings: readonly { file: string; text: string }[] = [],
  ) {
    this.context = {
      config,
      env,
      notify,
      extraMappings,
      // Whole: what the API calls milliseconds is an integer.
      nowMs: () => Math.round(env.clock.wallUs() / 1000),
      newId: () => env.random.bytes(6).toString('hex'),
    };
  }

  /** Opens what its roles need, then listens. Rejects with one clear sentence. */
  async start(influxToken: string | undefined): Promise<CollectorAddresses> {
    const { config } = this.context;
    const roles = parseRoles(config.roles);
    checkRoles(roles, config);
    const site = new Site<CollectorContext>(
      { ...this.context, influxToken },
      COLLECTOR_PARTS,
      roles,
    );
    this.site = site;
    await site.start();
    const { uplink, uplinks } = site.find(ingestPart) ?? {};
    const enroll = site.find(enrollPart)?.listening;
    return { uplink, uplinks, enroll, http: site.find(collectorHttpPart)?.listening };
  }

  /** For the process that holds both sides. */
  get parts(): { log: Log | undefined; store: TimeSeriesStore | undefined } {
    return { log: this.site?.find(logPart), store: this.site?.find(storePart) };
  }

  /** While it starts or closes: for what. */
  get waitsFor(): string | undefined {
    return this.site?.waitsFor;
  }

  /** Stops taking frames, finishes the steps under way and closes. Idempotent. */
  async close(): Promise<void> {
    await this.site?.close();
  }
}

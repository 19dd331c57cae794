/** What a collector does with readings besides storing them: the lake, streams and batches, as far as its roles go. */
import { join } from 'node:path';
import type { Env } from '../shared/env/env.ts';
import type { Notify } from '../shared/telemetry/log.ts';
import type { CollectorConfig, Role } from './config.ts';
import { loadJobs } from './batch/job.ts';
import { BatchRunner } from './batch/runner.ts';
import { Schedule } from './batch/schedule.ts';
import type { ReplayJobs } from './decode/replay-jobs.ts';
import type { Lake } from './lake/lake.ts';
import type { LedgerView } from './ledger/view.ts';
import { ZONES } from './lake/layout.ts';
import { createLake } from './lake/open.ts';
import { LakeStage } from './lake/stage.ts';
import type { Log } from './log/log.ts';
import { Rebuild } from './rebuild.ts';
import type { Fill } from './store/fill.ts';
import { DeliveryStages } from './stream/delivery/stage.ts';
import { RuleFile } from './stream/rule-file.ts';
import { explainSilence } from './stream/silence.ts';
import { StreamStage } from './stream/stage.ts';

export interface ProcessingContext {
  config: CollectorConfig;
  env: Env;
  notify: Notify;
  log: Log;
  roles: ReadonlySet<Role>;
  ledger: LedgerView;
}

export class Processing {
  readonly lake: Lake | undefined;
  readonly lakeStages: LakeStage[] = [];
  stream: StreamStage | undefined;
  delivery: DeliveryStages | undefined;
  batch: BatchRunner | undefined;
  schedule: Schedule | undefined;
  rebuild: Rebuild | undefined;
  private ruleFile: RuleFile | undefined;
  private readonly context: ProcessingContext;

  private constructor(context: ProcessingContext, lake: Lake | undefined) {
    this.context = context;
    this.lake = lake;
  }

  /** Throws CONFIG_INVALID, ADAPTER_MISSING, ADAPTER_CONTRACT. */
  static async create(context: ProcessingContext): Promise<Processing> {
    const { roles, config, env, notify } = context;
    const needsLake = (['lake', 'stream', 'batch', 'query'] as const).some((role) =>
      roles.has(role),
    );
    const nowMs = (): number => env.clock.wallUs() / 1000;
    return new Processing(
      context,
      needsLake ? await createLake({ config, notify, nowMs }) : undefined,
    );
  }

  async start(): Promise<void> {
    const { config, notify, log, roles } = this.context;
    const { lake } = this;
    const trouble = await lake?.open();
    if (trouble !== undefined) notify({ level: 'warn', event: 'lake', text: trouble });
    if (lake !== undefined && lake.store.kind === 'local' && log.kind !== 'embedded')
      notify({
        level: 'warn',
        event: 'lake',
        text: `the lake is a folder of this machine (${lake.store.address}): several collectors need one that all reach, such as s3://BUCKET/PREFIX`,
      });
    if (roles.has('lake') && lake !== undefined)
      for (const zone of ZONES) {
        const stage = new LakeStage({
          zone,
          log,
          lake,
          flushMs: config['lake.flushSeconds'] * 1000,
          flushBytes: config['lake.flushBytes'],
          notify,
        });
        this.lakeStages.push(stage);
        stage.start();
      }
    if (roles.has('stream')) await this.startStream();
    if (roles.has('batch') && lake !== undefined) this.startBatch(lake);
  }

  /** Once replays can be made. */
  startRebuild(replays: ReplayJobs): void {
    const { log, env } = this.context;
    const newId = (): string => env.random.bytes(6).toString('hex');
    if (this.lake !== undefined) this.rebuild = new Rebuild(log, this.lake, replays, newId);
  }

  /** What a store lacks comes from the lake and, where that is short as well, from raw. */
  fillFrom(fill: Fill): void {
    const { lake, rebuild } = this;
    fill.lake = lake;
    if (rebuild !== undefined) fill.rebuild = () => rebuild.whole();
  }

  private startBatch(lake: Lake): void {
    const { config, env, notify, log } = this.context;
    const folder = join(config.data, 'batch-work');
    this.batch = new BatchRunner({
      log,
      lake,
      jobs: loadJobs(config['batch.jobs'], config['batch.shippedJobs']),
      engine: config['batch.engine'] === 'spark' ? 'spark' : 'duckdb',
      timeoutMs: config['batch.secondsMax'] * 1000,
      spark: { python: config['batch.python'], lakeUrl: config['batch.sparkLake'], folder },
      folder,
      wallMs: () => env.clock.wallUs() / 1000,
      notify,
    });
    this.schedule = new Schedule(this.batch);
    this.schedule.start();
  }

  private async startStream(): Promise<void> {
    const { config, env, notify, log, ledger } = this.context;
    const wallMs = (): number => env.clock.wallUs() / 1000;
    this.ruleFile = new RuleFile(config['stream.rules'], notify);
    const { rules, delivery } = await this.ruleFile.load();
    const stream = new StreamStage({
      log,
      lake: this.lake,
      stateBytesMax: config['stream.stateBytesMax'],
      wallMs,
      explain: explainSilence(ledger, wallMs),
      notify,
    });
    this.stream = stream;
    await stream.start(rules);
    const deliveries = new DeliveryStages(log, notify, wallMs);
    this.delivery = deliveries;
    deliveries.start(delivery);
    this.ruleFile.watch(async (changed) => {
      await stream.change(changed.rules);
      await deliveries.close();
      deliveries.start(changed.delivery);
    });
  }

  async close(): Promise<void> {
    this.ruleFile?.close();
    this.schedule?.close();
    await this.rebuild?.close();
    await this.batch?.close();
    await this.delivery?.close();
    await this.stream?.close();
    await Promise.all(this.lakeStages.map((stage) => stage.close()));
    await this.lake?.close();
  }
}

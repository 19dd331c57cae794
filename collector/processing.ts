/** What a collector does with readings besides storing them: the lake, streams and batches, as far as its roles go. */
import type { Env } from '../shared/env/env.ts';
import type { Notify } from '../shared/telemetry/log.ts';
import type { CollectorConfig, Role } from './config.ts';
import type { Lake } from './lake/lake.ts';
import type { LedgerView } from './ledger/view.ts';
import { ZONES } from './lake/layout.ts';
import { createLake } from './lake/open.ts';
import { LakeStage } from './lake/stage.ts';
import type { Log } from './log/log.ts';
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
  private ruleFile: RuleFile | undefined;
  private readonly context: ProcessingContext;

  private constructor(context: ProcessingContext, lake: Lake | undefined) {
    this.context = context;
    this.lake = lake;
  }

  /** Throws CONFIG_INVALID, ADAPTER_MISSING, ADAPTER_CONTRACT. */
  static async create(context: ProcessingContext): Promise<Processing> {
    const { roles, config } = context;
    const needsLake = (['lake', 'stream', 'batch', 'query'] as const).some((role) =>
      roles.has(role),
    );
    return new Processing(context, needsLake ? await createLake(config) : undefined);
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
  }

  private async startStream(): Promise<void> {
    const { config, env, notify, log, ledger } = this.context;
    const wallMs = (): number => env.clock.wallUs() / 1000;
    this.ruleFile = new RuleFile(config['stream.rules'], notify);
    const { rules } = await this.ruleFile.load();
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
    this.ruleFile.watch(async (changed) => {
      await stream.change(changed.rules);
    });
  }

  async close(): Promise<void> {
    this.ruleFile?.close();
    await this.stream?.close();
    await Promise.all(this.lakeStages.map((stage) => stage.close()));
    await this.lake?.close();
  }
}

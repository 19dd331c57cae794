/** The one place that knows the log adapters' names; it also loads a package that someone else wrote. */
import { join } from 'node:path';
import type { AnyDefinition, LogDefinition } from '../../contracts/define.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { loadAdapter } from '../adapters.ts';
import type { CollectorConfig } from '../config.ts';
import { made } from '../guard.ts';
import { GuardedLog, LOG_METHODS } from './guarded.ts';
import { LOG_CONTRACT_VERSION, type Log } from './log.ts';
import { LAKE_TOPICS, lakeGroup, topics } from './topics.ts';

export interface LogContext {
  config: CollectorConfig;
  notify: Notify;
  nowMs: () => number;
}

/** Creates the configured log; `open()` does the work. Throws ADAPTER_MISSING, ADAPTER_CONTRACT, CONFIG_INVALID. */
export async function createLog(context: LogContext): Promise<Log> {
  const { config, notify, nowMs } = context;
  const name = config.log;
  if (name === 'embedded') {
    const { EmbeddedLog } = await import('./embedded.ts');
    return new EmbeddedLog(
      {
        folder: config.data,
        cacheBytes: config['log.cacheBytes'],
        topics: topics(config['log.readingsBytesMax']),
        // Without a lake its stages are not there, and nothing may wait for them.
        retired: config.lake === 'none' ? LAKE_TOPICS.map(lakeGroup) : [],
        now: nowMs,
      },
      notify,
    );
  }
  if (/^kafka(:|$)/i.test(name)) {
    const { brokersOf, kafkaAccess } = await import('./kafka-access.ts');
    const brokers = brokersOf(name);
    const { KafkaLog } = await import('./kafka.ts');
    return await KafkaLog.create(
      {
        brokers,
        topicPrefix: config['kafka.topicPrefix'],
        partitions: config['kafka.partitions'],
        topics: topics(config['log.readingsBytesMax']),
        access: kafkaAccess(config),
        now: nowMs,
      },
      notify,
    );
  }
  type Definition = LogDefinition & AnyDefinition;
  const found = await loadAdapter<Definition>('log', LOG_CONTRACT_VERSION, name, '--log', config);
  const { definition, address, options } = found;
  if (!definition.supports.atomicStep)
    throw new HeadwaterError(
      'ADAPTER_CONTRACT',
      `--log ${name}: it cannot commit a step as one (supports.atomicStep), and Headwater would store readings twice after a crash`,
    );
  const log = made(
    `--log ${name}`,
    () =>
      definition.create({
        address,
        options,
        notify,
        nowMs,
        folder: join(config.data, `log-${definition.name}`),
        namespace: config['log.namespace'],
        partitions: config['log.partitions'],
        topics: topics(config['log.readingsBytesMax']),
        retired: config.lake === 'none' ? LAKE_TOPICS.map(lakeGroup) : [],
      }),
    LOG_METHODS,
  );
  return new GuardedLog(log, definition.name, notify);
}

/** The one place that knows the log adapters' names; it also loads a package that someone else wrote. */
import { HeadwaterError, codeOf, messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { CollectorConfig } from '../config.ts';
import { LOG_CONTRACT_VERSION, type Log } from './log.ts';
import { LAKE_TOPICS, lakeGroup, topics } from './topics.ts';

export interface LogContext {
  config: CollectorConfig;
  notify: Notify;
  nowMs: () => number;
}

/** What a third-party package exports: `contract` names the version it was written for. */
export interface LogPackage {
  contract: { log: number };
  createLog(context: LogContext): Log;
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
  if (name.startsWith('kafka://')) {
    const { KafkaLog } = await import('./kafka.ts');
    return await KafkaLog.create(
      {
        brokers: name.slice('kafka://'.length),
        topicPrefix: config['kafka.topicPrefix'],
        partitions: config['kafka.partitions'],
        topics: topics(config['log.readingsBytesMax']),
        now: nowMs,
      },
      notify,
    );
  }
  const adapter = (await loadPackage(name, '--log')) as Partial<LogPackage>;
  if (adapter.contract?.log !== LOG_CONTRACT_VERSION || typeof adapter.createLog !== 'function') {
    throw new HeadwaterError(
      'ADAPTER_CONTRACT',
      `--log ${name}: the package provides no log of contract version ${LOG_CONTRACT_VERSION}`,
    );
  }
  return adapter.createLog(context);
}

/** Imports a package by name from where the command was started. Throws ADAPTER_MISSING. */
export async function loadPackage(name: string, flag: string): Promise<unknown> {
  const { createRequire } = await import('node:module');
  const { pathToFileURL } = await import('node:url');
  const { join } = await import('node:path');
  try {
    const from = createRequire(join(process.cwd(), 'package.json'));
    return (await import(pathToFileURL(from.resolve(name)).href)) as unknown;
  } catch (error) {
    if (codeOf(error) !== 'MODULE_NOT_FOUND' && codeOf(error) !== 'ERR_MODULE_NOT_FOUND') {
      throw new HeadwaterError(
        'ADAPTER_MISSING',
        `${flag} ${name}: the package does not load: ${messageOf(error)}`,
        { cause: error },
      );
    }
    throw new HeadwaterError(
      'ADAPTER_MISSING',
      `${flag} ${name} is neither built in nor an installed package`,
      { cause: error },
    );
  }
}

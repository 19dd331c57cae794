/** The servers that all files of a run share, each caller with a name of its own in them. They are not to be stopped. */
import { randomBytes } from 'node:crypto';
import { fetchOnce } from '../support/reconcile.ts';
import type { Server } from './servers.ts';

const unique = (): string => `t${randomBytes(6).toString('hex')}`;

async function shared<T>(name: string): Promise<T> {
  const services = process.env['HEADWATER_TEST_SERVICES'];
  if (services === undefined) throw new Error('vitest.config.ts names test/services/global.ts');
  const response = await fetchOnce(`${services}/${name}`);
  if (!response.ok) throw new Error(`${name}: ${await response.text()}`);
  return (await response.json()) as T; // What global.ts has started under this name.
}

export interface SharedKafka {
  /** HOST:PORT. */
  address: string;
  /** Before the names of topics and groups. */
  topicPrefix: string;
  /** What a collector's environment needs for that. */
  environment: Record<string, string>;
  /** What `--log` takes. */
  log: string;
}

export async function sharedKafka(): Promise<SharedKafka> {
  const { address } = await shared<Server>('kafka');
  const topicPrefix = `${unique()}.`;
  const environment = { HEADWATER_KAFKA_TOPIC_PREFIX: topicPrefix };
  return { address, topicPrefix, environment, log: `kafka://${address}` };
}

export interface SharedHdfs {
  /** Of WebHDFS, HOST:PORT. */
  address: string;
  /** What Hadoop's own clients speak, HOST:PORT. */
  rpc: string;
  /** The caller's own, with no slash before it. */
  folder: string;
}

export async function sharedHdfs(): Promise<SharedHdfs> {
  const { address, rpc } = await shared<{ address: string; rpc: string }>('hdfs');
  return { address, rpc, folder: unique() };
}

/** The lake on servers of others, through the collector: written, read back, and read by Spark where it lies. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { LAKE_PYTHON, sparkForS3, startS3 } from '../services/servers.ts';
import { sharedHdfs } from '../services/shared.ts';
import {
  apart,
  collectorSettings,
  difference,
  ingest,
  pointsOf,
  processed,
} from '../support/lake.ts';
import { long } from '../support/long.ts';
import { run, startCollector, temporaryFolder, until } from '../support/process.ts';

const opened: { stop: () => unknown }[] = [];
afterAll(async () => {
  for (const { stop } of opened.toReversed()) await stop();
});

describe('the lake on other servers', () => {
  /** The server's name, what `--lake` is, how Spark reaches the same, and settings and environment for both. */
  const servers = {
    S3: async () => {
      const s3 = await startS3();
      opened.push(s3);
      return {
        lake: `s3://${s3.bucket}/a/b`,
        spark: `s3a://${s3.bucket}/a/b`,
        settings: { 'lake.s3Endpoint': s3.endpoint },
        environment: { ...s3.credentials, SPARK_CONF_DIR: sparkForS3(s3) },
      };
    },
    HDFS: async () => {
      const hdfs = await sharedHdfs();
      return {
        lake: `webhdfs://${hdfs.address}/${hdfs.folder}/a/b?user=root`,
        spark: `hdfs://${hdfs.rpc}/${hdfs.folder}/a/b`,
        settings: {},
        environment: {},
      };
    },
  };

  const trial = (server: 'S3' | 'HDFS'): [name: string, () => Promise<void>] => [
    `what is on ${server} is read back for corrections, batches and a rebuild as from a disk; Spark reads it there by itself`,
    async () => {
      const { lake, spark, settings, environment } = await servers[server]();
      const rules = join(temporaryFolder(), 'rules.yaml');
      writeFileSync(
        rules,
        'rules: [{ name: w, from: { measurement: m }, window: 1h, lateness: 1h, compute: [count, sum] }]\n',
      );
      const collector = await startCollector(
        [
          '--config',
          collectorSettings({
            'lake.flushSeconds': 1,
            'stream.rules': rules,
            'batch.python': LAKE_PYTHON,
            'batch.sparkLake': spark,
            ...settings,
          }),
          '--lake',
          lake,
        ],
        environment,
      );
      opened.push({ stop: () => collector.kill() });
      const http = collector.address['http'] ?? '';
      for (const [hour, value] of [
        [10, 1],
        [20, 2],
        [10, 4],
      ] as const)
        await ingest(collector, 'site/a/m', { time: `2026-01-05T${hour}:00:00Z`, value });
      await processed([http]);
      const windows = async (): Promise<string[]> =>
        (await pointsOf(http, 'w'))
          .filter((text) => text.startsWith('value_sum'))
          .map((text) => text.split(' ').at(-1) ?? '');
      await until(
        'the corrected window',
        async () => (await windows()).sort().join() === '2,5' || undefined,
        30_000,
      );
      const batch = await run(['batch', 'backfill', 'daily_summary', '--http', http]);
      expect(batch.output).toMatch(/2026-01-05: 1 results/);
      const summary = await pointsOf(http, 'daily_summary');
      const again = await run([
        'batch',
        ...['backfill', 'daily_summary', '--force', '--engine', 'spark', '--http', http],
      ]);
      expect(again.output).toMatch(/2026-01-05: 1 results/);
      await processed([http]);
      expect(apart(await pointsOf(http, 'daily_summary'), summary, () => true)).toBe(undefined);
      const before = await pointsOf(http, 'm');
      const rebuilt = await run(['rebuild', '--http', http]);
      expect(rebuilt.code, rebuilt.output).toBe(0);
      await processed([http]);
      expect(difference(await pointsOf(http, 'm'), before)).toBeUndefined();
      expect((await windows()).sort()).toEqual(['2', '5']);
    },
  ];

  it(...trial('S3'));
  // What is its own, its protocol, is in `test/integration/object-stores.test.ts`.
  long(...trial('HDFS'));
});

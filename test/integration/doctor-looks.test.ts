/** `headwater doctor` on real servers: it says what is there and what is not, and nothing is there after it that was not before. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { stringify } from 'yaml';
import { configuration } from '../../cli/doctor/configuration.ts';
import type { Finding } from '../../cli/doctor/finding.ts';
import { topicSettings } from '../../collector/log/kafka-admin.ts';
import { startInflux1, startInflux2 } from '../services/servers.ts';
import { sharedKafka } from '../services/shared.ts';
import { temporaryFolder } from '../support/process.ts';

async function look(settings: Record<string, unknown>): Promise<Finding[]> {
  const folder = temporaryFolder();
  const file = join(folder, 'collector.yaml');
  writeFileSync(file, stringify({ data: join(folder, 'data'), lake: 'none', ...settings }));
  return await configuration({ file, side: 'collector', flags: {} });
}
const of = (findings: readonly Finding[], level: Finding['level']): string[] =>
  findings.filter((each) => each.level === level).map(({ text }) => text);

it('Kafka: topics that are not there are told and not made', async () => {
  const { log } = await sharedKafka();
  const topicPrefix = 'doctor-looks.';
  const found = await look({ log, kafka: { topicPrefix } });
  expect(of(found, 'fail')).toEqual([]);
  expect(of(found, 'ok')).toContain(`log ${log} answers`);
  expect(of(found, 'warn')).toContainEqual(expect.stringContaining('flush.messages=1'));
  expect(of(found, 'warn')).toContainEqual(expect.stringContaining('topics are not there yet'));
  const brokers = log.slice('kafka://'.length);
  expect((await topicSettings(brokers, {}, [`${topicPrefix}raw`, `${topicPrefix}meta`])).size).toBe(
    0,
  );
});

it('InfluxDB 1.8: a database that is not there is told and not made', async () => {
  const influx = await startInflux1();
  onTestFinished(() => influx.stop());
  const found = await look({ store: `influxdb://${influx.address}/never_made` });
  expect(of(found, 'fail')).toEqual([]);
  expect(of(found, 'warn')).toContainEqual(expect.stringContaining("no database 'never_made' yet"));
  const answer = await fetch(`http://${influx.address}/query?q=SHOW+DATABASES`);
  expect(await answer.text()).not.toContain('never_made');
});

it('InfluxDB 2: a bucket that is there is well; one that is not, or a wrong token, is a failure', async () => {
  const influx = await startInflux2();
  onTestFinished(() => influx.stop());
  const tokenFile = join(temporaryFolder(), 'token');
  writeFileSync(tokenFile, influx.token, { mode: 0o600 });
  const well = await look({ store: influx.store, 'store.tokenFile': tokenFile });
  expect(of(well, 'fail')).toEqual([]);
  expect(of(well, 'ok')).toContain(`store ${influx.store} answers`);
  const other = influx.store.replace(/[^/]+$/, 'never_made');
  const missing = await look({ store: other, 'store.tokenFile': tokenFile });
  expect(of(missing, 'fail')).toEqual([expect.stringContaining("no bucket 'never_made'")]);
  writeFileSync(tokenFile, 'wrong', { mode: 0o600 });
  const refused = await look({ store: influx.store, 'store.tokenFile': tokenFile });
  expect(of(refused, 'fail')).toEqual([expect.stringContaining('refuses the token')]);
});

/** An administrator raises the partitions of a Kafka that a collector uses: nothing is decoded or stored twice. */
import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { topics } from '../../collector/log/topics.ts';
import { decodeReadings } from '../../shared/model/readings-record.ts';
import { sharedKafka } from '../services/shared.ts';
import { raisePartitions } from '../support/kafka-admin.ts';
import {
  startCollector,
  startGateway,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';
import { fetchOnce, forwarded } from '../support/reconcile.ts';

const GATEWAYS = 3;
const READINGS = 400;

it('partitions of all topics raised from 4 to 8 between two runs: every reading is in `readings` once', async () => {
  const kafka = await sharedKafka();
  const data = temporaryFolder();
  const collect = (uplink = '127.0.0.1:0'): Promise<Headwater> =>
    startCollector(
      ['--log', kafka.log, '--data', data, '--lake', 'none', '--uplink', uplink],
      kafka.environment,
    );
  const first = await collect();
  const gateways: Headwater[] = [];
  for (let at = 0; at < GATEWAYS; at++)
    gateways.push(await startGateway(first.address['uplink'], ['--id', `raised-${at}`]));
  let round = 0;
  const publish = async (): Promise<void> => {
    round++;
    const body = Array.from(
      { length: READINGS },
      (_, at) => `m,d=d${at % 7} v=${at},round=${round}`,
    );
    for (const { address } of gateways) {
      const url = `http://${address['http']}/api/v2/write?bucket=b`;
      const response = await fetchOnce(url, { method: 'POST', body: body.join('\n') });
      expect(response.status, await response.text()).toBe(204);
    }
  };
  /** Identity of every reading in the topic, as another client of Kafka sees them. */
  const identities = (): string[] =>
    execFileSync(
      'kcat',
      `-b ${kafka.address} -C -t ${kafka.topicPrefix}readings -o beginning -e -q -X isolation.level=read_committed`.split(
        ' ',
      ),
      { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 },
    )
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => decodeReadings(Buffer.from(line)))
      .flatMap(({ gateway, epoch, readings }) =>
        readings.map(({ sequence, index }) => `${gateway}/${epoch}/${sequence}/${index}`),
      );
  const decoded = async (count: number): Promise<void> => {
    for (const { address } of gateways) await forwarded(address['http'] ?? '');
    await until(
      `${count} readings`,
      () => new Set(identities()).size >= count || undefined,
      60_000,
    );
  };
  await publish();
  await decoded(GATEWAYS * READINGS);
  await first.kill();

  for (const { name } of topics(Infinity))
    await raisePartitions(kafka.address, `${kafka.topicPrefix}${name}`, 8);

  const second = await collect(first.address['uplink']);
  expect(second.output()).toMatch(/has 8 partitions.*and 4 are used/);
  await publish();
  await decoded(2 * GATEWAYS * READINGS);
  // What would come twice comes when the gateways have been asked for what is missing: nothing is.
  const ledger = `http://${second.address['http']}/api/v1/gateways`;
  await until('an account without a gap', async () => {
    const text = await (await fetchOnce(ledger)).text();
    return !/"missing":[1-9]/.test(text) || undefined;
  });
  expect(identities()).toHaveLength(2 * GATEWAYS * READINGS);
  for (const gateway of gateways) await gateway.kill();
  await second.kill();
});

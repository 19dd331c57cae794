/**
 * Kafka loses everything under a running collector (its disk was replaced, another cluster stands in its place): the topics
 * are made again, gateways bring again what they have as history, nothing is lost or stored twice, and "answers again" is said
 * when it does.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startKafka } from '../services/servers.ts';
import { runLoad } from '../support/load.ts';
import { startCollector, startGateway, temporaryFolder, until } from '../support/process.ts';
import { forwarded, getJson, reconciled } from '../support/reconcile.ts';

let kafka: Awaited<ReturnType<typeof startKafka>>;
beforeAll(async () => {
  kafka = await startKafka();
});
afterAll(async () => await kafka.stop());

const READINGS = 3000;

it('a Kafka that is wiped while a collector runs: all stored, each once, without a restart of anybody', async () => {
  const collector = await startCollector([
    ...['--log', `kafka://${kafka.address}`, '--data', temporaryFolder()],
    ...['--uplink', '127.0.0.1:0'],
  ]);
  const gateway = await startGateway(collector.address['uplink'], ['--id', 'wiped']);
  const acknowledged = new Set<number>();
  const sent = new Set<number>();
  const publish = async (round: number): Promise<void> => {
    await runLoad({
      ...{ host: '127.0.0.1', port: gateway.port('mqtt'), connections: 2, window: 100 },
      messages: READINGS,
      topic: () => 'hall/1/wiped',
      payload: (index) => `{"n":${round * READINGS + index}}`,
      onAck: (index) => acknowledged.add(round * READINGS + index),
      onSend: (index) => sent.add(round * READINGS + index),
    });
  };
  const all = async (): Promise<unknown> =>
    await reconciled(collector, 'wiped', 'n', acknowledged, sent, 90_000);
  const whole = (stored: number): object => ({ missing: 0, extra: 0, foreign: 0, stored });
  await publish(0);
  await forwarded(gateway.address['http'] ?? '');
  expect(await all(), collector.output().slice(-2000)).toEqual(whole(READINGS));

  await kafka.kill();
  await until('its end to be told', () => collector.output().includes('log_down: ') || undefined);
  kafka.wipe();
  // Acknowledged while there is no Kafka at all.
  await publish(1);
  await kafka.restart();
  await until(
    'the topics to be made again',
    () => collector.output().includes('they are made again') || undefined,
  );
  await publish(2);
  expect(await all(), collector.output().slice(-4000)).toEqual(whole(3 * READINGS));
  await until(
    'it to be said',
    () => collector.output().includes('Kafka answers again') || undefined,
  );
  const said = collector.output();
  expect(said.indexOf('they are made again')).toBeLessThan(said.indexOf('Kafka answers again'));
  await until('the ledger to be whole', async () => {
    const { missing } = await getJson<{ missing: boolean }>(
      `http://${collector.address['http']}/api/v1/ledger`,
    );
    return !missing || undefined;
  });
  await gateway.kill();
  await collector.kill();
});

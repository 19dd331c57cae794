/** An alert that a target refuses for itself does not hold up the others. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it } from 'vitest';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { TOPIC_QUARANTINE, TOPIC_RESULTS } from '../../collector/log/log.ts';
import { topics } from '../../collector/log/topics.ts';
import { send } from '../../collector/stream/delivery/senders.ts';
import { DeliveryStages } from '../../collector/stream/delivery/stage.ts';
import type { WebhookTarget } from '../../collector/stream/delivery/targets.ts';
import { STREAM } from '../../collector/stream/results.ts';
import { ALERTS } from '../../collector/stream/rules.ts';
import { processTime } from '../../shared/env/env.ts';
import { processTimers } from '../../shared/env/timers.ts';
import { decodeQuarantined } from '../../shared/model/quarantine-record.ts';
import { encodeReadings } from '../../shared/model/readings-record.ts';
import { temporaryFolder, until } from '../support/process.ts';

it('an alert is not sent on to another address that its webhook answers with', async () => {
  const inside: string[] = [];
  const within = createServer((request, response) => {
    inside.push(`${request.method} ${request.url}`);
    response.end();
  });
  await new Promise<void>((resolve) => within.listen(0, '127.0.0.1', resolve));
  const secret = `http://127.0.0.1:${(within.address() as AddressInfo).port}/latest/meta-data`;
  let asked = 0;
  const outside = createServer((_request, response) => {
    const status = [301, 302, 303, 307, 308][asked++ % 5] as number;
    response.writeHead(status, { location: secret }).end();
  });
  await new Promise<void>((resolve) => outside.listen(0, '127.0.0.1', resolve));
  const alert = { rule: 'r', status: 'firing', time: '', reason: '' } as const;
  const target: WebhookTarget = {
    kind: 'webhook',
    name: 'hook',
    url: `http://127.0.0.1:${(outside.address() as AddressInfo).port}/`,
    authorizationFile: undefined,
    allowPlaintext: false,
  };
  for (let tries = 0; tries < 5; tries++)
    await expect(send(target, { ...alert, message: '', tags: {}, id: '' })).rejects.toThrow();
  expect([asked, inside]).toEqual([5, []]);
  for (const server of [within, outside]) server.close();
});

it('an alert that its webhook answers 422 goes to quarantine after ten tries, and those behind it arrive; 500 is waited for, and who says when to come again is asked no sooner', async () => {
  const taken: string[] = [];
  const asked = new Map<string, number>();
  const times = new Map<string, number[]>();
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString('utf8')));
    request.on('end', () => {
      const { rule } = JSON.parse(body) as { rule: string };
      const count = (asked.get(rule) ?? 0) + 1;
      asked.set(rule, count);
      times.set(rule, [...(times.get(rule) ?? []), performance.now()]);
      if (rule === 'busy' && count === 1) {
        response.writeHead(429, { 'retry-after': '1' }).end();
        return;
      }
      response.statusCode = rule === 'refused' ? 422 : rule === 'slow' && count < 4 ? 500 : 204;
      if (response.statusCode === 204) taken.push(rule);
      response.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const log = new EmbeddedLog(
    { folder: temporaryFolder(), cacheBytes: 1 << 20, topics: topics(Infinity), now: () => 2e12 },
    () => undefined,
  );
  await log.open();
  const said: string[] = [];
  const stages = new DeliveryStages(
    log,
    ({ event }) => said.push(event),
    () => 1000,
    {
      ...processTime,
      timers: { ...processTimers, after: (ms, work) => processTimers.after(ms / 20, work) },
    },
  );
  const { port } = server.address() as AddressInfo;
  stages.start({
    targets: [
      { kind: 'webhook', name: 'hook', url: `http://127.0.0.1:${port}/`, rules: undefined },
    ],
  } as unknown as Parameters<DeliveryStages['start']>[0]);
  await log.append(
    TOPIC_RESULTS,
    ['first', 'refused', 'slow', 'busy', 'last'].map((rule, sequence) => ({
      key: STREAM,
      headers: {},
      value: encodeReadings({
        gateway: STREAM,
        epoch: `alert/${rule}`,
        arrivedMs: 2e12,
        readings: [
          {
            measurement: ALERTS,
            tags: { rule },
            fields: { active_bool: true, message_text: 'm' },
            sequence,
            index: 0,
            timeMs: 1.9e12,
            ns: 0,
          },
        ],
      }),
    })),
  );
  await until('the last one', () => taken.includes('last') || undefined, 10_000);
  expect(taken).toEqual(['first', 'slow', 'busy', 'last']);
  const [refusedAt = 0, takenAt = 0] = times.get('busy') ?? [];
  expect(asked.get('busy')).toBe(2);
  expect(takenAt - refusedAt).toBeGreaterThanOrEqual(1000);
  expect(asked.get('refused')).toBe(10);
  expect(stages.refused).toBe(1);
  expect(said).toContain('alert_refused');
  const options = { topic: TOPIC_QUARANTINE, from: 'start', bytesMax: 1 << 20 } as const;
  const consumer = await log.consumer({ group: 'look', ...options });
  const found = await until('the quarantine', async () => {
    const records = await consumer.poll(20);
    return records.length > 0 ? records : undefined;
  });
  const [item] = found.map(({ value }) => decodeQuarantined(value));
  expect(item?.reason).toBe("target 'hook' refuses this alert of rule 'refused'");
  expect(JSON.parse(item?.payload.toString() ?? '')).toMatchObject({
    rule: 'refused',
    message: 'm',
  });
  await stages.close();
  await log.close();
  server.close();
});

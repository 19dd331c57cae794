/** What nothing but the log has, after a log that was damaged: told anew from raw, said again, or named. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { DecodeStage } from '../../collector/decode/stage.ts';
import { ledgerPart } from '../../collector/ledger/part.ts';
import { LedgerView } from '../../collector/ledger/view.ts';
import { decode, recordKey, topicPrefix } from '../../collector/log/embedded-records.ts';
import type { EmbeddedLog } from '../../collector/log/embedded.ts';
import { TOPIC_LEDGER, TOPIC_RAW, TOPIC_READINGS } from '../../collector/log/log.ts';
import { logPart } from '../../collector/log/part.ts';
import { guardPart } from '../../collector/ops/parts.ts';
import type { CollectorContext } from '../../collector/part.ts';
import { remotePart } from '../../collector/remote/part.ts';
import { CLOCK_SYNCHRONISED, KIND_STATUS, checkFrame } from '../../shared/frame/frame.ts';
import { noteFrame } from '../../shared/frame/notes.ts';
import { processTime } from '../../shared/env/env.ts';
import { after, type KvDatabase } from '../../shared/kv/kv.ts';
import { Site } from '../../shared/parts/site.ts';
import { LakeSite, frameOf } from '../support/lake-site.ts';
import { temporaryFolder, until } from '../support/process.ts';

const damaged = (log: EmbeddedLog): Promise<void> =>
  (log as unknown as { losses: { begin(): Promise<void> } }).losses.begin();

const receivedBy = (ledger: LedgerView): unknown[] =>
  ledger
    .answer()
    .gateways.map(({ gateway, epochs }) => [gateway, epochs.map(({ received }) => received)])
    .sort();

it('the ledger is told anew from raw, keeps what it says beyond that, and nothing is decoded a second time', async () => {
  const site = new LakeSite(temporaryFolder());
  await site.open();
  await site.append([frameOf(1, 5), frameOf(6, 5), frameOf(1, 7, { gateway: 'b' })]);
  await site.caughtUp();
  const { log } = site;
  const before = await log.next(TOPIC_READINGS);
  await site.decode.close();
  // Lost: what the ledger has of one gateway, and a raw frame of the other.
  await log.append(TOPIC_LEDGER, [
    { key: 'decoded/b/0102030405060708', headers: {}, value: Buffer.alloc(0) },
  ]);
  const { db } = log as unknown as { db: KvDatabase };
  await db.write([{ type: 'del', key: recordKey(TOPIC_RAW, 1) }], { sync: true });
  await damaged(log);
  // It is remembered until what was told anew is in the log, which the step after it knows.
  const { madeUp } = log;
  let told = 0;
  Object.assign(log, {
    madeUp: async (of: 'ledger') => {
      const [record] = await log.state(TOPIC_LEDGER, 0, 'decoded/b/');
      told = record?.value.length ?? 0;
      await madeUp(of);
    },
  });
  const said: string[] = [];
  const limits = { perClient: 1000, perGateway: 1000 };
  const decode = new DecodeStage(log, new Mappings([]), limits, ({ text }) => void said.push(text));
  const ledger = new LedgerView(log);
  await ledger.start();
  decode.start();
  // A new record is what writes it.
  await site.append([frameOf(8, 1, { gateway: 'b' })]);
  const expected = [
    ['b', [[[1, 8]]]],
    ['gw', [[[1, 10]]]],
  ];
  await until('the ledger', () => JSON.stringify(receivedBy(ledger)) === JSON.stringify(expected));
  expect(said.join()).toContain('may lack something, for the log was damaged; it is rebuilt');
  expect(await log.next(TOPIC_READINGS)).toBe(before + 1);
  await site.append([frameOf(9, 1, { gateway: 'b' })]);
  await until('what was told anew', () => !log.hasLost('ledger') || undefined);
  expect(told).toBeGreaterThan(0);
  for (const each of [decode, ledger, site]) await each.close();
});

it('status reports, which have no sequence, are said again beside the frames of a lost raw file', async () => {
  const site = new LakeSite(temporaryFolder());
  await site.open();
  const dayMs = Date.UTC(2026, 4, 1, 12);
  const identity = { epoch: Buffer.from('0102030405060708', 'hex'), bootId: Buffer.alloc(8) };
  const status = (gateway: string, at: number) => ({
    key: gateway,
    headers: { arrived: String(dayMs + at), lane: '0' },
    value: noteFrame(KIND_STATUS, { epochs: [] }, { ...identity, gateway }, 0, {
      wallUs: (dayMs + at) * 1000,
      monotonicUs: at,
      clockQuality: CLOCK_SYNCHRONISED,
    }),
  });
  await site.append([1, 2, 3].map((at) => status('alone', at)));
  await site.append([status('gw', 1), frameOf(1, 5, { dayMs }), status('gw', 2)]);
  await site.caughtUp();
  const rows = async (): Promise<string[]> => await site.rows('raw');
  const before = await rows();
  expect(before).toHaveLength(6);
  for (const { key } of await site.lake.files('raw')) rmSync(join(site.lakeFolder, key));
  await site.scrub.pass();
  await site.healed();
  await site.caughtUp();
  expect(site.lake.check.damages).toEqual([]);
  expect(await rows()).toEqual(before);
  // One that neither log nor lake has any more is told, though its file's messages all come again.
  const { db } = site.log as unknown as { db: KvDatabase };
  const raw = topicPrefix(TOPIC_RAW);
  const own = (await db.read({ gte: raw, lt: after(raw) }, Infinity)).filter(([, bytes]) => {
    const { value } = decode(bytes);
    return checkFrame(value).kind === KIND_STATUS;
  });
  await db.write(
    own.map(([key]) => ({ type: 'del', key })),
    { sync: true },
  );
  // What it has in memory goes with it.
  await site.close();
  await site.open();
  for (const { key } of await site.lake.files('raw')) rmSync(join(site.lakeFolder, key));
  await site.scrub.pass();
  await site.healed();
  await site.caughtUp();
  expect(await rows()).toHaveLength(1);
  // Reports are no messages: where they alone are gone the ledger does not say that something is missing.
  expect(site.lake.check.damages).toEqual([]);
  expect(site.said.join('\n')).toMatch(
    /not all of the 3 reports of raw\/.* no message was among them/,
  );
  expect(site.said.join('\n')).toMatch(
    /rows of raw\/.* all messages are there again, but not all of the 2/,
  );
  await site.close();
});

it('settings declared for gateways, which nothing else has, are named', async () => {
  const site = new LakeSite(temporaryFolder());
  await site.open();
  const said: string[] = [];
  const context = {
    notify: ({ text }: { text: string }) => void said.push(text),
    ...{ nowMs: () => 1, env: processTime },
  } as unknown as CollectorContext; // No more is asked for.
  const ledger = new LedgerView(site.log);
  const open = async (): Promise<void> => {
    const standIns = new Map<unknown, unknown>([
      [logPart, site.log],
      [ledgerPart, ledger],
      [guardPart, { audit: {} }],
    ]);
    const parts = [logPart, ledgerPart, guardPart, remotePart];
    const own = new Site<CollectorContext>(context, parts, new Set(), standIns);
    for (const part of parts.slice(0, 3)) {
      const { running } = own as unknown as { running: Map<unknown, unknown> };
      running.set(part, standIns.get(part));
    }
    const remote = await remotePart.open(own);
    await remote?.declarations.declare({
      ...{ target: 'site:roof', first: 0, backAfterSeconds: 600 },
      settings: { 'uplink.keepAliveSeconds': 30 },
    });
    await remote?.declarations.close();
  };
  await open();
  expect(said).toEqual([]);
  await damaged(site.log);
  await open();
  expect(said.join()).toMatch(/may be lost with it; declared now for: site:roof; declare again/);
  await site.close();
});

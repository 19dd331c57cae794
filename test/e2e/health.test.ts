/** What a person or a program sees of the health of both sides: metrics that are never absent, readiness, the ledger's words. */
import { expect, it } from 'vitest';
import { gatewaysText } from '../../cli/gateways.ts';
import { ledgerText } from '../../cli/ledger.ts';
import { logPart } from '../../collector/log/part.ts';
import type { Log } from '../../collector/log/log.ts';
import type { CollectorContext } from '../../collector/part.ts';
import { Site } from '../../shared/parts/site.ts';
import { blockedBy } from '../../shared/telemetry/health.ts';
import { startUp } from '../support/lake.ts';
import { temporaryFolder } from '../support/process.ts';

it('a new server has every metric of its health, before anything has come', async () => {
  const up = await startUp(temporaryFolder(), {});
  const metrics = async (http: string | undefined): Promise<string> =>
    await (await fetch(`http://${http}/metrics`)).text();
  const collector = await metrics(up.address['http']);
  for (const line of [
    /^headwater_ingest_acknowledge_seconds_bucket\{le="\+Inf"\} \d+$/m,
    /^headwater_log_up 1$/m,
    /^headwater_store_up 1$/m,
    /^headwater_stage_stalled_seconds\{stage="decode"\} 0$/m,
    /^headwater_stage_last_success_time_seconds\{stage="store"\} \d/m,
    /^headwater_stage_waiting_records\{stage="decode"\} \d+$/m,
  ])
    expect(collector).toMatch(line);
  for (const text of [collector, await metrics(up.address['gateway-http'])])
    for (const line of [
      /^headwater_disk_free_bytes [1-9]\d*$/m,
      /^headwater_tls_certificate_expiry_time_seconds \+Inf$/m,
      /^headwater_build_info\{version="\d+\.\d+\.\d+",node="\d+\.\d+\.\d+"\} 1$/m,
    ])
      expect(text).toMatch(line);
  await up.kill();
});

it('while nothing can be appended, ingest is not ready, and a process that only answers is', async () => {
  const health = { up: false, sinceMs: 0, reason: 'no broker answers' };
  // The log's own answer; how the logs come to it is in their suite.
  const down = { health: () => health } as unknown as Log;
  for (const [role, expected] of [
    ['ingest', /the log: no broker answers/],
    ['query', /^$/],
  ] as const) {
    const site = new Site<CollectorContext>(
      {} as CollectorContext, // A part that stands in asks for nothing.
      [{ ...logPart, open: () => down, close: () => undefined }],
      new Set([role]),
    );
    await site.start();
    expect(blockedBy(site.health()) ?? '').toMatch(expected);
    expect(site.health()).toMatchObject([{ name: 'log', why: /no broker/ }]);
  }
});

it('what a gateway says of itself is no line of its own among those that a person is shown', () => {
  const loss = { from: 1, to: 2, cause: 'dropped', since: 1e12 } as const;
  const reason = 'full\nNothing is missing.\u001b[2A\ngateway other: 9 received';
  const epoch = { epoch: 'e', received: [], pending: [], missing: [], damage: [], statusMs: 0 };
  const text = ledgerText({
    missing: true,
    gateways: [{ gateway: 'gw', epochs: [{ ...epoch, lost: [{ ...loss, reason }] }] }],
  });
  expect(text.split('\n')).toHaveLength(4);
  expect(text).toMatch(/^[ -~\n]+$/);
  const gateway = { gateway: 'gw', connected: true, lastSeenMs: 0, messages: 1, doubled: false };
  const rows = gatewaysText([{ ...gateway, version: '1\nother  revoked' }]);
  expect(rows.split('\n')).toHaveLength(2);
});

it('the ledger says how much is here and has not come through yet', () => {
  const answer = { missing: false, gateways: [] };
  expect(ledgerText({ ...answer, waiting: { notDecoded: 400, notStored: 200 } })).toBe(
    'Nothing is missing.\n400 frames are here and not yet decoded, 200 records decoded and not yet stored.\n',
  );
  expect(ledgerText({ ...answer, waiting: { notDecoded: 0, notStored: 0 } })).toBe(
    'Nothing is missing.\n',
  );
  expect(ledgerText({ ...answer, waiting: { notDecoded: null, notStored: 3 } })).toMatch(
    /not known how many/,
  );
});

/** Checking and healing the lake as a part of a collector: where the lake is written, and replays can be asked for. */
import type { Audit } from '../shared/access/audit.ts';
import { HeadwaterError } from '../shared/errors.ts';
import { ADMIN_ALL, READ_ALL, json } from '../shared/http/route.ts';
import { BOOLEAN, INTEGER, TEXT, maybe, object } from '../shared/http/schema.ts';
import { replaysPart } from './decode/replay-part.ts';
import { Heal } from './heal.ts';
import { forget } from './lake/forget.ts';
import { forgetPast } from './lake/past.ts';
import type { Lake } from './lake/lake.ts';
import { SpanSet } from './lake/manifest.ts';
import { NO_LAKE, lakePart } from './lake/part.ts';
import { DAMAGES, PASS, orNull } from './lake/schema.ts';
import { Scrub } from './lake/scrub.ts';
import { ledgerPart } from './ledger/part.ts';
import type { LedgerView } from './ledger/view.ts';
import { logPart } from './log/part.ts';
import { guardPart } from './ops/parts.ts';
import type { CollectorPart } from './part.ts';
import { rebuildPart } from './rebuild-part.ts';

interface Checking {
  lake: Lake;
  scrub: Scrub;
  heal: Heal;
  audit: Audit;
  nowMs: () => number;
}

/** What the ledger has as arrived. */
function receivedOf(ledger: LedgerView): SpanSet {
  const received = new SpanSet();
  for (const { gateway, epochs } of ledger.answer().gateways)
    for (const { epoch, received: ranges } of epochs) received.add(gateway, { [epoch]: ranges });
  return received;
}

const CHECK = object({
  running: BOOLEAN,
  pass: orNull(PASS),
  failure: maybe(TEXT),
  damages: DAMAGES,
});

const answer = ({ scrub, lake }: Checking): object => ({
  ...scrub.asked,
  damages: lake.check.damages,
});

export const lakeCheckPart: CollectorPart<Checking> = {
  name: 'checking the lake',
  roles: ['lake'],
  absent: NO_LAKE,
  open: async (site) => {
    const lake = site.find(lakePart);
    const replays = site.find(replaysPart);
    const rebuilding = site.find(rebuildPart);
    if (lake === undefined || replays === undefined || rebuilding === undefined) return undefined;
    const { notify, nowMs, newId } = site.context;
    const log = site.get(logPart);
    const ledger = site.get(ledgerPart);
    const received = (): SpanSet => receivedOf(ledger);
    const heal = new Heal({
      ...{ log, lake, rebuild: rebuilding.rebuild, replays: replays.jobs, newId },
      received,
      holds: (gateway, spans) => ledger.holds(gateway, spans),
      askGateways: () => ledger.askGateways(),
    });
    ledger.wantedRaw = (gateway) => heal.stillWanted(gateway);
    const scrub = new Scrub(lake, notify, nowMs);
    await scrub.start();
    return { lake, scrub, heal, nowMs, audit: site.get(guardPart).audit };
  },
  routes: [
    {
      method: 'GET',
      path: '/api/v1/lake/check',
      about: 'The check of the whole lake that was asked for, and what is damaged.',
      right: READ_ALL,
      replies: { 200: { about: 'It.', schema: CHECK } },
      handle: (checking) => json(answer(checking)),
    },
    {
      method: 'POST',
      path: '/api/v1/lake/check',
      about: 'Compares every file of the lake with its checksum and with what must be there.',
      right: ADMIN_ALL,
      body: { fields: {} },
      replies: { 202: { about: 'Begun.', schema: CHECK } },
      handle: (checking) => {
        checking.scrub.begin();
        return json(answer(checking), 202);
      },
    },
    {
      method: 'POST',
      path: '/api/v1/lake/forget',
      about: 'Deletes every file of the lake of days before a date.',
      right: ADMIN_ALL,
      body: { fields: { before: { about: 'YYYY-MM-DD; it stays itself.', required: true } } },
      replies: { 200: { about: 'Done.', schema: object({ files: INTEGER }) } },
      handle: async ({ lake, audit, nowMs }, { identity, address, fields }) => {
        const { before = '' } = fields;
        if (!/^\d{4}-\d\d-\d\d$/.test(before))
          throw new HeadwaterError('QUERY_INVALID', `before '${before}' is no date (YYYY-MM-DD)`);
        const files =
          (await forget(lake, before, nowMs())) + (await forgetPast(lake, Date.parse(before)));
        audit.say({ event: 'lake_forget', user: identity.name, address, about: before });
        return json({ files });
      },
    },
  ],
  close: async ({ scrub, heal }) => {
    await scrub.close();
    await heal.close();
  },
};

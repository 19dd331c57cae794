/** The account of the ledger, with what the store's answers lack. */
import { isRetryable } from '../../contracts/errors.ts';
import { maySee } from '../../shared/access/may.ts';
import { READ_EACH, json } from '../../shared/http/route.ts';
import {
  BOOLEAN,
  INTEGER,
  RANGES,
  TEXT,
  listOf,
  maybe,
  object,
  orNull,
} from '../../shared/http/schema.ts';
import type { Lake } from '../lake/lake.ts';
import { lakePart } from '../lake/part.ts';
import { DAMAGES } from '../lake/schema.ts';
import { ledgerPart } from '../ledger/part.ts';
import type { LedgerAnswer } from '../ledger/view.ts';
import { FINDING, auditPart } from '../audit/part.ts';
import { diskPart } from '../ops/parts.ts';
import type { CollectorPart, CollectorSite } from '../part.ts';
import { storeStagePart } from '../store/part.ts';
import { stagesPart } from './stages.ts';
import { INCOMPLETE, incompleteness } from './incomplete.ts';

/** With what of each epoch the lake has, of raw frames and of readings. While the lake is away nothing is said of it. */
async function withLake(
  lake: Lake | undefined,
  gateways: LedgerAnswer['gateways'],
): Promise<object[]> {
  if (lake === undefined) return gateways;
  try {
    const answers: object[] = [];
    for (const { gateway, epochs } of gateways) {
      const { raw, readings } = await lake.has(gateway);
      const stands = epochs.map((each) => ({
        ...each,
        lake: { raw: raw[each.epoch] ?? [], readings: readings[each.epoch] ?? [] },
      }));
      answers.push({ gateway, epochs: stands });
    }
    return answers;
  } catch (error) {
    if (!isRetryable(error)) throw error;
    return gateways;
  }
}

/** With the counts and digests that the last audit saw of each stage, and what differed then. */
function withAudit(site: CollectorSite, gateways: readonly object[]): object[] {
  const last = site.find(auditPart)?.audit.last;
  const known = gateways as LedgerAnswer['gateways'];
  if (last === undefined) return [...known];
  return known.map(({ gateway, epochs }) => ({
    gateway,
    epochs: epochs.map((each) => {
      const own = ({ gateway: of, epoch }: { gateway: string; epoch: string }): boolean =>
        of === gateway && epoch === each.epoch;
      const seen = last.epochs.find(own);
      const differing = last.findings.filter(own);
      const { lake, store } = { ...seen };
      return { ...each, audited: { atMs: last.endedMs, lake, store, differing } };
    }),
  }));
}

const TOTAL = object({ points: INTEGER, digest: TEXT });
const EPOCH = {
  epoch: TEXT,
  received: RANGES,
  lost: listOf({
    from: INTEGER,
    to: orNull(INTEGER),
    cause: TEXT,
    reason: TEXT,
    since: INTEGER,
  }),
  pending: RANGES,
  missing: listOf({ from: INTEGER, to: INTEGER, since: INTEGER }),
  damage: listOf({ where: TEXT, reason: TEXT, since: INTEGER }),
  statusMs: INTEGER,
  lake: maybe({
    ...object({ raw: RANGES, readings: RANGES }),
    description: 'What of it the lake has; left out while the lake is away.',
  }),
  audited: maybe({
    ...object({
      atMs: INTEGER,
      lake: maybe(TOTAL),
      store: maybe(TOTAL),
      differing: listOf(FINDING),
    }),
    description: 'What the last audit saw of it.',
  }),
};

export const accountPart: CollectorPart<CollectorSite> = {
  name: 'account',
  open: (site) => site,
  routes: [
    {
      method: 'GET',
      path: '/api/v1/ledger',
      about:
        'Whether anything is missing: what arrived, is on its way, lost (why, since when) or nowhere, by gateway and epoch.',
      right: READ_EACH,
      query: { gateway: { about: 'Only this gateway.' } },
      replies: {
        200: {
          about: 'The account.',
          schema: object({
            missing: BOOLEAN,
            gateways: listOf({ gateway: TEXT, epochs: listOf(EPOCH) }),
            lake: DAMAGES,
            incomplete: INCOMPLETE,
            doubt: maybe({
              ...TEXT,
              description: 'The data folder was new, and somebody remembers that there was one.',
            }),
            waiting: maybe(object({ notDecoded: orNull(INTEGER), notStored: orNull(INTEGER) })),
          }),
        },
      },
      handle: async (site, { query, identity }) => {
        const ledger = site.get(ledgerPart);
        const only = query.get('gateway') ?? undefined;
        const isAsked = (gateway: string): boolean =>
          (only === undefined || only === gateway) && maySee(identity, gateway);
        const known = ledger.answer(only).gateways;
        const gateways = known.filter(({ gateway }) => isAsked(gateway));
        const judged = ledger.judge(gateways, isAsked);
        const incomplete = incompleteness(site.find(storeStagePart));
        const waiting =
          identity.gateways === undefined ? site.find(stagesPart)?.waiting() : undefined;
        const { doubt } = site.get(diskPart).newFolder;
        return json({
          ...judged,
          ...(doubt === undefined ? {} : { doubt }),
          gateways: withAudit(site, await withLake(site.find(lakePart), gateways)),
          ...(incomplete.length === 0 ? {} : { incomplete }),
          ...(waiting === undefined ? {} : { waiting }),
        });
      },
    },
  ],
};

/** The account of the ledger, with what the store's answers lack. */
import { isRetryable } from '../../contracts/errors.ts';
import { maySee } from '../../shared/access/may.ts';
import { listReply } from '../../shared/http/list.ts';
import { READ_EACH } from '../../shared/http/route.ts';
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

type Gateway = LedgerAnswer['gateways'][number];
type Told = Omit<Gateway, 'epochs'> & { epochs: (Gateway['epochs'][number] & object)[] };

/** With what of each epoch the lake has, of raw frames and of readings. While the lake is away nothing is said of it. */
async function* withLake(
  found: Lake | undefined,
  gateways: readonly Gateway[],
): AsyncGenerator<Told> {
  let lake = found;
  for (const each of gateways) {
    let told: Told = each;
    try {
      if (lake !== undefined) {
        const { raw, readings } = await lake.has(each.gateway);
        const epochs = each.epochs.map((own) => ({
          ...own,
          lake: { raw: raw[own.epoch] ?? [], readings: readings[own.epoch] ?? [] },
        }));
        told = { ...each, epochs };
      }
    } catch (error) {
      if (!isRetryable(error)) throw error;
      lake = undefined;
    }
    yield told;
  }
}

/** With the counts and digests that the last audit saw of each stage, and what differed then. */
function withAudit(site: CollectorSite, { gateway, epochs }: Told): object {
  const last = site.find(auditPart)?.audit.last;
  if (last === undefined) return { gateway, epochs };
  return {
    gateway,
    epochs: epochs.map((each) => {
      const own = ({ gateway: of, epoch }: { gateway: string; epoch: string }): boolean =>
        of === gateway && epoch === each.epoch;
      const seen = last.epochs.find(own);
      const differing = last.findings.filter(own);
      const { lake, store } = { ...seen };
      return { ...each, audited: { atMs: last.endedMs, lake, store, differing } };
    }),
  };
}

async function* accounts(
  site: CollectorSite,
  gateways: readonly Gateway[],
): AsyncGenerator<object> {
  for await (const each of withLake(site.find(lakePart), gateways)) yield withAudit(site, each);
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
      isCostly: true,
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
      handle: (site, { query, identity }) => {
        const ledger = site.get(ledgerPart);
        const only = query.get('gateway') ?? undefined;
        const isAsked = (gateway: string): boolean =>
          (only === undefined || only === gateway) && maySee(identity, gateway);
        const known = ledger.answer(only).gateways;
        const gateways = known.filter(({ gateway }) => isAsked(gateway));
        const { missing, lake } = ledger.judge(gateways, isAsked);
        const incomplete = incompleteness(site.find(storeStagePart));
        const waiting =
          identity.gateways === undefined ? site.find(stagesPart)?.waiting() : undefined;
        const { doubt } = site.get(diskPart).newFolder;
        const before = {
          ...{ missing, lake },
          ...(doubt === undefined ? {} : { doubt }),
          ...(incomplete.length === 0 ? {} : { incomplete }),
          ...(waiting === undefined ? {} : { waiting }),
        };
        return listReply({ before, name: 'gateways', items: accounts(site, gateways) });
      },
    },
  ],
};

/** What an operator wants to know first, in one answer: the page asks for it every few seconds. */
import { maySee } from '../../shared/access/may.ts';
import { READ_EACH, json } from '../../shared/http/route.ts';
import {
  BOOLEAN,
  INTEGER,
  TEXT,
  TEXTS,
  listOf,
  maybe,
  object,
  orNull,
} from '../../shared/http/schema.ts';
import type { Identity } from '../../shared/access/tokens.ts';
import { freeBytes } from '../../shared/telemetry/process.ts';
import { ledgerPart } from '../ledger/part.ts';
import type { CollectorPart, CollectorSite } from '../part.ts';
import { quarantinePart } from './quarantine.ts';
import { seriesPart } from './series.ts';
import { gatewaysOf } from './status.ts';

/** Gateways that are named; of more, how many there are is said by the counts. */
const NAMED_MAX = 20;

function overviewOf(site: CollectorSite, identity: Identity): object {
  const gateways = gatewaysOf(site, identity).map(
    (each) => each as typeof each & { connected: boolean; lastSeenMs: number | null },
  );
  const away = gateways.filter(({ connected }) => !connected);
  const ledger = site.get(ledgerPart);
  const may = (gateway: string): boolean => maySee(identity, gateway);
  const own = ledger.isRead ? ledger.answer().gateways.filter(({ gateway }) => may(gateway)) : [];
  const view = site.hasRole('query') ? site.find(quarantinePart)?.view : undefined;
  const free = freeBytes(site.context.config.data);
  return {
    gateways: gateways.length,
    connected: gateways.length - away.length,
    unconnected: away
      .slice(0, NAMED_MAX)
      .map(({ gateway, lastSeenMs }) => ({ gateway, lastSeenMs })),
    missing: ledger.isRead ? ledger.judge(own, may).missing : null,
    quarantined: view?.isRead === true ? view.list(0, {}, may).count : null,
    // Of the whole collector, for those who may see the whole.
    ...(identity.gateways === undefined
      ? {
          waiting: site
            .health()
            .flatMap(({ name, why }) => (why === undefined ? [] : [{ name, why }])),
          results: site.find(seriesPart)?.meta.made.list() ?? [],
          ...(Number.isFinite(free) ? { freeBytes: free } : {}),
        }
      : {}),
  };
}

export const overviewPart: CollectorPart<CollectorSite> = {
  name: 'overview',
  open: (site) => site,
  routes: [
    {
      method: 'GET',
      path: '/api/v1/overview',
      about:
        'Gateways, whether anything is missing, quarantine, what waits and why, the disk, and which measurements are results: the top line of the page.',
      right: READ_EACH,
      replies: {
        200: {
          about:
            '`waiting`, `results` and `freeBytes` are left out for a token that does not read all gateways; `missing` is null until the ledger has been read after a start, and gateways are those that are connected here.',
          schema: object({
            gateways: INTEGER,
            connected: INTEGER,
            unconnected: listOf({ gateway: TEXT, lastSeenMs: orNull(INTEGER) }),
            missing: orNull(BOOLEAN),
            quarantined: orNull(INTEGER),
            waiting: maybe(listOf({ name: TEXT, why: TEXT })),
            results: maybe(TEXTS),
            freeBytes: maybe(INTEGER),
          }),
        },
      },
      handle: (site, { identity }) => json(overviewOf(site, identity)),
    },
  ],
};

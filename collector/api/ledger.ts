/** The account of the ledger, with what the store's answers lack. */
import { maySee } from '../../shared/access/may.ts';
import { READ_EACH, json } from '../../shared/http/route.ts';
import { BOOLEAN, INTEGER, object, orNull } from '../../shared/http/schema.ts';
import { DAMAGES } from '../lake/schema.ts';
import { ledgerPart } from '../ledger/part.ts';
import type { CollectorPart, CollectorSite } from '../part.ts';
import { storeStagePart } from '../store/part.ts';
import { stagesPart } from './stages.ts';
import { INCOMPLETE, incompleteness } from './incomplete.ts';

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
            gateways: { type: 'array', items: { type: 'object' } },
            lake: DAMAGES,
            incomplete: INCOMPLETE,
            waiting: object({ notDecoded: orNull(INTEGER), notStored: orNull(INTEGER) }),
          }),
        },
      },
      handle: (site, { query, identity }) => {
        const ledger = site.get(ledgerPart);
        const answer = ledger.answer(query.get('gateway') ?? undefined);
        const gateways = answer.gateways.filter(({ gateway }) => maySee(identity, gateway));
        const judged = gateways.length === answer.gateways.length ? answer : ledger.judge(gateways);
        const incomplete = incompleteness(site.find(storeStagePart));
        const waiting =
          identity.gateways === undefined ? site.find(stagesPart)?.waiting() : undefined;
        return json({
          ...judged,
          ...(incomplete.length === 0 ? {} : { incomplete }),
          ...(waiting === undefined ? {} : { waiting }),
        });
      },
    },
  ],
};

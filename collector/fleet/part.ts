/** What is said of gateways and fields, as a part of a collector. */
import { monotonicMs } from '../../shared/env/env.ts';
import { ledgerPart } from '../ledger/part.ts';
import { logPart } from '../log/part.ts';
import type { CollectorPart } from '../part.ts';
import { remotePart } from '../remote/part.ts';
import { Fields } from './fields.ts';
import { Teller } from './teller.ts';

interface Fleet {
  fields: Fields;
  teller: Teller;
}

export const fleetPart: CollectorPart<Fleet> = {
  name: 'fleet',
  roles: ['decode'],
  open: async (site) => {
    const { env, notify, nowMs } = site.context;
    const log = site.get(logPart);
    const monotonic = (): number => monotonicMs(env);
    const fields = new Fields(log, monotonic);
    await fields.start();
    const { declarations } = site.get(remotePart);
    const teller = new Teller({
      ...{ log, fields, nowMs, notify, monotonicMs: monotonic },
      ledger: site.get(ledgerPart),
      locationOf: (gateway) => declarations.toldBy(gateway)?.about?.location,
    });
    return { fields, teller };
  },
  start: ({ teller }) => {
    teller.start();
    return Promise.resolve();
  },
  close: async ({ fields, teller }) => {
    await teller.close();
    await fields.close();
  },
};

/** The ledger as a part of a collector. */
import { gauge } from '../../shared/telemetry/metrics.ts';
import { logPart } from '../log/part.ts';
import { diskPart } from '../ops/parts.ts';
import type { CollectorPart } from '../part.ts';
import { LedgerView } from './view.ts';

export const ledgerPart: CollectorPart<LedgerView> = {
  name: 'ledger',
  open: async (site) => {
    const ledger = new LedgerView(site.get(logPart));
    await ledger.start();
    const { length } = ledger.answer().gateways;
    if (length > 0)
      site
        .get(diskPart)
        .newFolder.remember('log', `the log has messages of ${length} gateways already`);
    return ledger;
  },
  metrics: {
    headwater_ledger_lost_messages: gauge('Messages reported lost, by cause.', (ledger) =>
      [...ledger.totals().lost].map(([cause, value]) => ({ labels: { cause }, value })),
    ),
    headwater_ledger_missing_messages: gauge(
      'Messages that neither arrived nor are held by their gateway nor were reported lost.',
      (ledger) => ledger.totals().missing,
    ),
    headwater_ledger_pending_messages: gauge(
      'Messages that gateways hold and that have not arrived.',
      (ledger) => ledger.totals().pending,
    ),
  },
  close: (ledger) => ledger.close(),
};

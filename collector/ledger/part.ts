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
    const { newFolder } = site.get(diskPart);
    void ledger.whenRead.then(() => {
      const { length } = ledger.answer().gateways;
      if (length > 0)
        newFolder.remember('log', `the log has messages of ${length} gateways already`);
    });
    return ledger;
  },
  metrics: {
    headwater_ledger_lost_messages: gauge('Messages reported lost, by cause.', (ledger) =>
      ledger.isRead
        ? [...ledger.totals().lost].map(([cause, value]) => ({ labels: { cause }, value }))
        : [],
    ),
    headwater_ledger_missing_messages: gauge(
      'Messages that neither arrived nor are held by their gateway nor were reported lost; NaN until the ledger has been read.',
      (ledger) => (ledger.isRead ? ledger.totals().missing : Number.NaN),
    ),
    headwater_ledger_pending_messages: gauge(
      'Messages that gateways hold and that have not arrived; NaN until the ledger has been read.',
      (ledger) => (ledger.isRead ? ledger.totals().pending : Number.NaN),
    ),
  },
  close: (ledger) => ledger.close(),
};

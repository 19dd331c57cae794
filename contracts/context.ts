/** What every adapter is given when it is made. */
import type { Notify } from './notice.ts';
import type { OptionsOf, OptionsSpec } from './options.ts';

export interface AdapterContext<O extends OptionsSpec = OptionsSpec> {
  /** What stands behind `NAME://`, without a query; '' for none. */
  address: string;
  options: OptionsOf<O>;
  /** For what it keeps on a local disk; it may not be there yet. */
  folder: string;
  notify: Notify;
  nowMs: () => number;
}

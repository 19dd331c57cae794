/**
 * Frames that were on their way when a connection ended: a collector may have them, though nobody heard so. Until they have been
 * sent again nothing is thinned or dropped of them, else what is there would be said a second time, in a summary. A process before
 * this one may have sent others.
 */
import { Remembered } from '../../shared/model/remembered.ts';

/** More than a window has. */
const SENT_MAX = 20_000;

export class Perhaps {
  private readonly positions = new Remembered<true>(SENT_MAX);

  add(positions: readonly Buffer[]): void {
    for (const position of positions) {
      const name = position.toString('latin1');
      if (this.positions.get(name) !== true) this.positions.set(name, true);
    }
  }

  has(position: Buffer): boolean {
    return this.positions.get(position.toString('latin1')) === true;
  }
}

/** Parts of `headwater prove` where the whole command would take long: `prove-parts.ts early|fsync FOLDER` prints JSON. */
import { join } from 'node:path';
import { fsyncFigures } from '../../cli/prove/disk.ts';
import { kills } from '../../cli/prove/trials.ts';
import type { Launch } from '../../cli/prove/child.ts';

/** A single kill may fall between two groups, when nothing that was acknowledged too early is on its way. */
const TRIES = 8;
const EARLY: Launch = [process.execPath, '--import', 'tsx', 'test/support/ack-early-command.ts'];

const [which = '', base = ''] = process.argv.slice(2);
const rest = { launch: EARLY, kills: 1, perSecond: 1, seconds: 1, enduranceBytes: undefined };

async function early(): Promise<unknown> {
  for (let seed = 1; ; seed++) {
    const verdict = await kills({ ...rest, folder: join(base, String(seed)), seed });
    if (verdict.lost > 0 || seed === TRIES) return verdict;
  }
}

const result = which === 'early' ? await early() : await fsyncFigures(base);
process.stdout.write(`${JSON.stringify(result)}\n`);
process.exit(0);

/** What a log has lost stands beside it until all have made up for it, each when it likes. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Losses } from '../../collector/log/embedded-losses.ts';
import { temporaryFolder } from '../support/process.ts';

it('those who make up for it in the same moment take turns, and the last of them removes the note', async () => {
  const path = join(temporaryFolder(), 'log.lost');
  const losses = new Losses(() => undefined, path);
  for (let round = 0; round < 20; round++) {
    await losses.begin();
    await Promise.all([losses.madeUp('ledger'), losses.madeUp('settings')]);
    expect(readFileSync(path, 'utf8')).toBe('lake\n');
    const again = new Losses(() => undefined, path);
    await again.load();
    expect([again.has('lake'), again.has('ledger')]).toEqual([true, false]);
    await losses.madeUp('lake');
    expect(existsSync(path)).toBe(false);
  }
});

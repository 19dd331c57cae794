/** A question as of a moment is answered as the store answered it then, whatever has come, moved and gone since. */
import { readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  AsOfSite,
  anchor,
  differing,
  messages,
  recordedSite,
  type Recorded,
} from '../support/as-of.ts';
import { temporaryFolder } from '../support/process.ts';

const DAY = Date.UTC(2026, 4, 1, 12);

/** Lives through all that changes an answer; what the store said on the way. */
async function lived(site: AsOfSite, withLake: boolean): Promise<Recorded[]> {
  const recorded: Recorded[] = [];
  const next = async (): Promise<void> => {
    await site.settled(withLake);
    recorded.push(...(await site.record([{}])));
  };
  await site.append([messages(1, 5, { wallMs: DAY })]);
  await next();
  // Late: of before what is there.
  await site.append([messages(6, 5, { wallMs: DAY - 3_600_000 })]);
  await next();
  // A clock that nobody knows: held.
  const lost = { gateway: 'old', wallMs: 1000, monotonicUs: 2e9, isKnown: false };
  await site.append([messages(1, 4, lost)]);
  await next();
  // Roughly known, then well: its readings appear, and move.
  await site.append([anchor(5, { gateway: 'old', trueMs: DAY + 50_000, errorMs: 60_000 })]);
  await next();
  await site.append([anchor(6, { gateway: 'old', trueMs: DAY + 80_000, errorMs: 10 })]);
  await next();
  // In quarantine, until a mapping can read it.
  await site.append([messages(11, 1, { wallMs: DAY, topic: 'odd/1', payload: () => '{"v":17;' })]);
  await next();
  await site.map(
    `mappings:
  - topic: hall/+/n
    measurement: hall
    tags: {room: "{2}"}
    fields: {n: n}
  - topic: odd/+
    measurement: odd
    codec: text
    field: said
`,
    'b',
  );
  await site.replay();
  await next();
  return recorded;
}

async function check(site: AsOfSite, recorded: readonly Recorded[]): Promise<void> {
  for (const { atMs, query, answer } of recorded)
    expect(await site.asOf(query, atMs), JSON.stringify(query)).toEqual({ answer, doubts: [] });
}

describe('as of', () => {
  it('late, held, moved, replayed: what is in the lake', async () => {
    const site = new AsOfSite(temporaryFolder());
    await site.open();
    const recorded = await lived(site, true);
    // Each step changed what is answered: else nothing would be tried here.
    const all = recorded.map(({ answer }) => answer.join());
    expect(new Set(all).size).toBe(5);
    await check(site, recorded);
    await site.close();
  });

  it('the same of what only the log has yet', async () => {
    const site = new AsOfSite(temporaryFolder(), { flushMs: 3_600_000 });
    await site.open();
    const recorded = await lived(site, false);
    await check(site, recorded);
    await site.close();
    // All of it in one step of the lake, which never had anything of what was replaced in it.
    const again = new AsOfSite(site.folder);
    await again.open();
    await again.settled(true);
    await check(again, recorded);
    await again.close();
  });

  it('aggregates, ranges and series, as panels ask for them', async () => {
    const { site, recorded } = await recordedSite(temporaryFolder(), 18, 3);
    const { differ, doubts, changed } = await differing(site, recorded);
    expect({ differ, doubts }).toEqual({ differ: 0, doubts: 0 });
    // Else nothing would have been tried.
    expect(changed).toBeGreaterThan(5);
    await site.close();
  });

  it('a lake that was there before says what it does not know; a damaged file of the past is named', async () => {
    const site = new AsOfSite(temporaryFolder());
    await site.open();
    await site.append([messages(1, 3, { wallMs: DAY })]);
    await site.settled(true);
    const [before] = await site.record([{}]);
    await site.map('mappings:\n  - topic: hall/+/n\n    measurement: hall\n', 'b');
    await site.replay();
    await site.settled(true);
    await site.close();
    const past = join(site.lakeFolder, '_past');
    const [name = ''] = readdirSync(join(past, 'readings'));
    const file = join(past, 'readings', name);
    const bytes = readFileSync(file);
    bytes[20] = (bytes[20] ?? 0) ^ 1;
    writeFileSync(file, bytes);
    renameSync(join(past, 'since', '0'), join(past, 'since', String(Date.now())));
    await site.open();
    const { doubts } = await site.asOf({}, before?.atMs ?? 0);
    expect(doubts).toEqual([
      expect.stringMatching(/keeps what was replaced since 20/),
      expect.stringContaining(`_past/readings/${name} is damaged`),
    ]);
    // Also where nobody asks, once.
    await site.scrub.pass();
    await site.scrub.pass();
    expect(
      site.said.filter((text) => text.includes(`_past/readings/${name} is damaged`)),
    ).toHaveLength(1);
    await site.close();
  });
});

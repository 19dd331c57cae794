/**
 * `npm run audit:try -- --trials N [--seed S] [--live SECONDS]`: edits, removals and doublings in log, lake
 * and store, 1,500 of 6,000 readings at a time, each behind every checksum's back; an audit has to name each one and nothing else, and what
 * it put right has to be as it was. `--live`: readings come in all the while and nothing is done to them; nothing may be named.
 */
import { AuditSite } from '../support/audit-site.ts';
import { trial } from '../support/audit-trial.ts';
import { allRows, fill } from '../support/lake-damage.ts';
import { frameOf } from '../support/lake-site.ts';
import { temporaryFolder } from '../support/process.ts';
import { seeded } from '../support/seed.ts';
import { flagsOf } from '../../scripts/flags.mjs';

/** A pass takes its time for waiting, hardly for how much there is. */
const AT_ONCE = 1500;
const MESSAGES = 250;
/** Rounds on one site: its log grows with all that is said again. */
const ROUNDS = 10;

const { values } = flagsOf(import.meta.url, {
  options: {
    trials: { type: 'integer', default: 400 },
    seed: { type: 'integer' },
    live: { type: 'number', default: 0, about: 'seconds' },
  },
});
if (values.seed !== undefined) process.env['HEADWATER_SEED'] = String(values.seed);
const { seed, next } = seeded();
const sum = { damages: 0, missed: 0, wrongly: 0, unmended: 0, sitesChanged: 0, livePasses: 0 };
const say = (text: string): void => void process.stdout.write(`${text}\n`);

async function opened(): Promise<AuditSite> {
  const site = new AuditSite(temporaryFolder());
  await site.open();
  await fill(site, MESSAGES);
  return site;
}

const stateOf = async (site: AuditSite): Promise<string> =>
  JSON.stringify([await allRows(site), await site.stored()]);

while (sum.damages < values.trials) {
  const site = await opened();
  const before = await stateOf(site);
  for (let round = 0; round < ROUNDS && sum.damages < values.trials; round++) {
    const { damages, missed, wrongly, unmended } = await trial(
      site,
      Math.min(AT_ONCE, values.trials - sum.damages),
      next,
    );
    sum.damages += damages;
    sum.missed += missed.length;
    sum.wrongly += wrongly.length;
    sum.unmended += unmended.length;
    for (const each of [...missed, ...wrongly, ...unmended]) say(`seed ${seed}: ${each}`);
  }
  if ((await stateOf(site)) !== before) sum.sitesChanged++;
  await site.close();
  say(JSON.stringify(sum));
}

const liveMs = values.live * 1000;
if (liveMs > 0) {
  const site = await opened();
  const end = performance.now() + liveMs;
  let first = 10_000;
  const feeding = (async () => {
    for (; performance.now() < end; first += 50) {
      await site.append([frameOf(first, 50, { dayMs: Date.UTC(2026, 4, 5) })]);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  })();
  for (; performance.now() < end; sum.livePasses++) {
    const { findings } = await site.audit.pass(sum.livePasses % 2 === 0);
    sum.wrongly += findings.length;
    for (const finding of findings) say(JSON.stringify(finding));
  }
  await feeding;
  await site.close();
}
const percent = ((100 * (sum.damages - sum.missed)) / Math.max(1, sum.damages)).toFixed(2);
say(`seed ${seed}: ${percent} % of ${sum.damages} found; ${JSON.stringify(sum)}`);
if (sum.missed + sum.wrongly + sum.unmended + sum.sitesChanged > 0) process.exitCode = 1;

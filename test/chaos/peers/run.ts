/** `npm run chaos -- --peer NAME`: rows of the loss table for one system, or for `all`. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../../support/process.ts';
import { surroundings, whyNot } from '../needs.ts';
import type { Chance } from '../site.ts';
import { STRIKES, type Outcome } from './faults.ts';
import { lossPage, type LossFile, type LossRow } from './page.ts';
import { SYSTEMS, type System } from './systems.ts';

const BIOME = join(ROOT, 'node_modules/@biomejs/biome/bin/biome');
const LOSS_JSON = join(ROOT, 'docs/bench/loss.json');

export interface PeerOptions {
  peer: string;
  /** Part of a strike's name. */
  fault: string | undefined;
  seed: number;
  rounds: number;
  save: boolean;
}

function summary(peer: string, strike: string, seed: number, outcomes: Outcome[]): LossRow {
  const sum = (of: (outcome: Outcome) => number): number =>
    outcomes.reduce((total, outcome) => total + of(outcome), 0);
  return {
    peer,
    strike,
    seed,
    trials: outcomes.length,
    acknowledged: sum(({ acknowledged }) => acknowledged),
    lost: sum(({ lost }) => lost),
    lostEach: outcomes.map(({ lost }) => lost),
    doubled: sum(({ doubled }) => doubled),
    delayS: Math.max(...outcomes.map(({ delayS }) => delayS)),
    didNotStart: outcomes.filter(({ note }) => note !== undefined).length,
  };
}

const text = (row: LossRow): string =>
  `${row.peer}, ${row.strike}: ${row.trials} trials, acknowledged ${row.acknowledged}, lost ${row.lost} (${row.lostEach.join(', ')}), doubled ${row.doubled}, last arrival after ${row.delayS} s${row.didNotStart > 0 ? `, did not start again ${row.didNotStart} times` : ''}`;

/** Rows of other systems and strikes stay as they are. */
function save(rows: LossRow[]): void {
  const file = JSON.parse(readFileSync(LOSS_JSON, 'utf8')) as LossFile;
  const isNew = (each: LossRow): boolean =>
    rows.some(({ peer, strike }) => peer === each.peer && strike === each.strike);
  file.machine = `${cpus().length} cores of ${cpus()[0]?.model.trim() ?? 'an unknown processor'}, Node ${process.versions.node}`;
  file.date = new Date().toISOString().slice(0, 10);
  file.rows = [...file.rows.filter((row) => !isNew(row)), ...rows];
  writeFileSync(LOSS_JSON, `${JSON.stringify(file, undefined, 2)}\n`);
  execFileSync(process.execPath, [BIOME, 'format', '--write', LOSS_JSON], { stdio: 'ignore' });
  writeFileSync(join(ROOT, 'docs/loss-table.md'), lossPage(ROOT));
}

function showConfiguration(name: string, system: System): void {
  const { files, processes } = system.layout({ folder: 'FOLDER', port: 1883, centre: 8086 });
  process.stdout.write(`\n# ${name}: ${system.title}, ${system.version}\n`);
  for (const [file, lines] of Object.entries(files)) process.stdout.write(`## ${file}\n${lines}`);
  for (const words of processes) process.stdout.write(`$ ${words.join(' ')}\n`);
}

/** Exit code: 2 when nothing could be tried, 1 when Headwater lost or doubled something, else 0. Rejects for a name that is none. */
export async function runPeers(
  { peer, fault, seed, rounds, save: isSaved }: PeerOptions,
  generator: (seed: number) => Chance,
): Promise<number> {
  const names = peer === 'all' ? Object.keys(SYSTEMS) : [peer];
  if (names.some((name) => !Object.hasOwn(SYSTEMS, name)))
    throw new Error(`--peer is one of ${Object.keys(SYSTEMS).join(', ')}, all`);
  const strikes = Object.entries(STRIKES).filter(([name]) => fault === undefined || name === fault);
  if (strikes.length === 0)
    throw new Error(`--fault with --peer is one of ${Object.keys(STRIKES).join(', ')}`);
  const here = surroundings();
  let tried = 0;
  let broken = 0;
  for (const name of names) {
    const system = SYSTEMS[name] as System; // It was asked for by its own key.
    showConfiguration(name, system);
    for (const [strike, { needs, run }] of strikes) {
      const why = whyNot([...system.needs, ...needs], here);
      if (why !== undefined) {
        process.stdout.write(`not tried: ${name}, ${strike}: ${why}\n`);
        continue;
      }
      const outcomes: Outcome[] = [];
      for (let round = 0; round < rounds; round++) {
        const outcome = await run(system, generator((seed + round * 7919) % 2 ** 32));
        if (outcome.note !== undefined) process.stdout.write(`  ${outcome.note}\n`);
        outcomes.push(outcome);
      }
      const row = summary(name, strike, seed, outcomes);
      process.stdout.write(`${text(row)}\n`);
      if (isSaved) save([row]);
      tried++;
      if (name === 'headwater' && row.lost + row.doubled + row.didNotStart > 0) broken++;
    }
  }
  return tried === 0 ? 2 : broken > 0 ? 1 : 0;
}

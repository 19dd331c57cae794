/**
 * `npm run enroll:try [-- --gateways N]`: so many gateways enrol at one collector, each with a token, a key and a folder of
 * its own, by the code that a gateway runs; then all of them renew at once, and the fleet view has to know each.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { enroll, renew } from '../../gateway/uplink/enroll.ts';
import { standingOf } from '../../gateway/standing.ts';
import { run, startCollector, temporaryFolder } from '../support/process.ts';
import { flagsOf } from '../../scripts/flags.mjs';
import { costOf } from './measure.ts';

const { values } = flagsOf(import.meta.url, {
  options: { gateways: { type: 'integer', min: 1, default: 1000 } },
});
const COUNT = values.gateways;
const AT_ONCE = 100;
const say = (text: string): void => void process.stdout.write(`${text}\n`);

/** A few at a time, as a fleet that is switched on one after the other. */
async function all(work: readonly (() => Promise<void>)[]): Promise<void> {
  const left = [...work];
  const one = async (): Promise<void> => {
    for (let next = left.pop(); next !== undefined; next = left.pop()) await next();
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
}

/** Says how long it took, and what it cost each side: on a machine that does other things as well only the latter says anything. */
async function timed<T>(what: string, work: () => Promise<T>): Promise<T> {
  const beginMs = performance.now();
  const [central, edge] = [collector.pid, process.pid].map((pid) => ({
    pid,
    before: costOf(pid).cpuSeconds,
  }));
  const made = await work();
  const tookS = ((performance.now() - beginMs) / 1000).toFixed(1);
  const [ofCentral, ofEdge] = [central, edge].map(
    (side) => side && (costOf(side.pid).cpuSeconds - side.before).toFixed(1),
  );
  say(`${what} in ${tookS} s; CPU: collector ${ofCentral} s, gateways ${ofEdge} s`);
  return made;
}

const folder = temporaryFolder();
const collector = await startCollector([
  '--data',
  join(folder, 'collector'),
  '--lake',
  'none',
  '--uplinks',
  '127.0.0.1:0',
  '--enroll',
  '127.0.0.1:0',
]);
try {
  const http = collector.address['http'] ?? '';
  const tokens = join(folder, 'tokens');
  const flags = ['--count', String(COUNT), '--prefix', 'g-', '--http', http, '--out', tokens];
  await timed(`${COUNT} tokens made`, () => run(['enroll', ...flags]));
  const width = String(COUNT).length;
  const names = Array.from(
    { length: COUNT },
    (_, at) => `g-${String(at + 1).padStart(width, '0')}`,
  );
  const standing = (name: string) =>
    standingOf(join(folder, name), join(tokens, `${name}.token`), '');
  const unknown = (): undefined => undefined;
  await timed(`${COUNT} gateways enrolled`, () =>
    all(
      names.map((name) => async () => {
        const of = standing(name);
        if (of === undefined) throw new Error(`${name} has no token`);
        await enroll(of, unknown);
      }),
    ),
  );
  await timed(`${COUNT} certificates renewed`, () =>
    all(
      names.map((name) => async () => {
        const of = standing(name);
        if (of?.token !== undefined) throw new Error(`${name} is not enrolled`);
        if (of !== undefined) await renew(of, [], unknown);
      }),
    ),
  );
  const answer = await (await fetch(`http://${http}/api/v1/gateways`)).json();
  const { gateways } = answer as { gateways: { enrolled?: { certificate?: object } }[] };
  const known = gateways.filter(({ enrolled }) => enrolled?.certificate !== undefined).length;
  const serials = new Set(gateways.map(({ enrolled }) => JSON.stringify(enrolled?.certificate)));
  say(`${known} are in the fleet view, with ${serials.size} certificates`);
  const metrics = await (await fetch(`http://${http}/metrics`)).text();
  say(/^headwater_process_resident_memory_bytes .*$/m.exec(metrics)?.[0] ?? 'memory not known');
  const registry = readFileSync(join(folder, 'collector', 'enroll', 'registry.jsonl')).length;
  say(`registry: ${registry} bytes`);
  process.exitCode = known === COUNT && serials.size === COUNT ? 0 : 1;
} finally {
  await collector.kill();
}

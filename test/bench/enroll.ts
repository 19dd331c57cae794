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

const { values } = flagsOf(import.meta.url, {
  options: { gateways: { type: 'integer', min: 1, default: 1000 } },
});
const COUNT = values.gateways;
const AT_ONCE = 100;
const say = (text: string): void => void process.stdout.write(`${text}\n`);
const seconds = (sinceMs: number): string => ((performance.now() - sinceMs) / 1000).toFixed(1);

/** A few at a time, as a fleet that is switched on one after the other. */
async function all(work: readonly (() => Promise<void>)[]): Promise<void> {
  const left = [...work];
  const one = async (): Promise<void> => {
    for (let next = left.pop(); next !== undefined; next = left.pop()) await next();
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
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
  let beginMs = performance.now();
  const flags = ['--count', String(COUNT), '--prefix', 'g-', '--http', http, '--out', tokens];
  await run(['enroll', ...flags]);
  say(`${COUNT} tokens made in ${seconds(beginMs)} s`);
  const width = String(COUNT).length;
  const names = Array.from(
    { length: COUNT },
    (_, at) => `g-${String(at + 1).padStart(width, '0')}`,
  );
  const standing = (name: string) =>
    standingOf(join(folder, name), join(tokens, `${name}.token`), '');
  const unknown = (): undefined => undefined;
  beginMs = performance.now();
  await all(
    names.map((name) => async () => {
      const of = standing(name);
      if (of === undefined) throw new Error(`${name} has no token`);
      await enroll(of, unknown);
    }),
  );
  say(`${COUNT} gateways enrolled in ${seconds(beginMs)} s`);
  beginMs = performance.now();
  await all(
    names.map((name) => async () => {
      const of = standing(name);
      if (of?.token !== undefined) throw new Error(`${name} is not enrolled`);
      if (of !== undefined) await renew(of, [], unknown);
    }),
  );
  say(`${COUNT} certificates renewed in ${seconds(beginMs)} s`);
  const answer = await (await fetch(`http://${http}/api/v1/gateways`)).json();
  const { gateways } = answer as { gateways: { enrolled?: { certificate?: object } }[] };
  const known = gateways.filter(({ enrolled }) => enrolled?.certificate !== undefined).length;
  const serials = new Set(gateways.map(({ enrolled }) => JSON.stringify(enrolled?.certificate)));
  say(`${known} are in the fleet view, with ${serials.size} certificates`);
  const metrics = await (await fetch(`http://${http}/metrics`)).text();
  say(/^process_resident_memory_bytes .*$/m.exec(metrics)?.[0] ?? 'memory not known');
  const registry = readFileSync(join(folder, 'collector', 'enroll', 'registry.jsonl')).length;
  say(`registry: ${registry} bytes`);
  process.exitCode = known === COUNT && serials.size === COUNT ? 0 : 1;
} finally {
  await collector.kill();
}

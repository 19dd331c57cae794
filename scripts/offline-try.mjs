/**
 * `npm run offline:try [-- --days N] [--before COMMIT] [--readings N]`: a gateway that was enrolled, took readings that nobody
 * fetched, and comes back so many days later (400): the clocks of all that runs are that far ahead (libfaketime), its certificate
 * is over, its buffer full of history, and the collector was upgraded meanwhile, from a version that is built from git. It has to
 * come back by itself, with everything that it had acknowledged, once; then the gateway is upgraded as well.
 */
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './here.mjs';
import { arrived, builtFrom, builtHere, endAll, publish, start, until } from './trial.mjs';
import { flagsOf } from './flags.mjs';

/** The last version before settings from afar. */
const BEFORE = '8a3e7a3';
const { values } = flagsOf(import.meta.url, {
  options: {
    days: { type: 'integer', default: 400 },
    before: { type: 'string', default: BEFORE },
    readings: { type: 'integer', default: 5000, min: 1 },
  },
});
const work = mkdtempSync(join(tmpdir(), 'headwater-offline-'));
const say = (text) => process.stderr.write(`offline: ${text}\n`);

/** The clock of a process, moved; what measures durations is left alone. */
function later(days) {
  const library = readdirSync('/usr/lib')
    .map((name) => join('/usr/lib', name, 'faketime/libfaketimeMT.so.1'))
    .find((path) => existsSync(path));
  if (library === undefined)
    throw new Error('libfaketime is not installed: apt-get install faketime');
  return {
    LD_PRELOAD: library,
    FAKETIME: `+${days}d`,
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
  };
}

async function main() {
  const now = builtHere();
  const before = builtFrom(values.before, work);
  const ports = { http: await freePort(), uplinks: await freePort(), enroll: await freePort() };
  const at = (name) => `127.0.0.1:${ports[name]}`;
  const collector = (version, environment) =>
    start(
      version,
      [
        ...[
          'collector',
          '--data',
          join(work, 'collector'),
          '--lake',
          'none',
          '--uplink',
          '127.0.0.1:0',
        ],
        ...['--http', at('http'), '--uplinks', at('uplinks'), '--enroll', at('enroll')],
      ],
      environment,
    );
  const data = join(work, 'gateway');
  const gateway = (version, environment) =>
    start(
      version,
      [
        ...['gateway', '--data', data, '--mqtt', '127.0.0.1:0', '--http', '127.0.0.1:0'],
        ...['--join', join(work, 'tokens', 'roof-1.token')],
      ],
      environment,
    );
  let central = await collector(before);
  const enroll = [
    'cli/bin.mjs',
    'enroll',
    'roof-1',
    '--http',
    at('http'),
    '--out',
    join(work, 'tokens'),
  ];
  execFileSync(process.execPath, enroll, { cwd: before, stdio: 'ignore' });
  let edge = await gateway(before);
  const own = join(data, 'identity', 'own.pem');
  await until(
    () => 'the gateway is enrolled',
    () => existsSync(own),
  );
  const sent = await publish(edge.mqtt, 1000);
  await arrived(at('http'), sent, 'history: before', say);
  await central.end();
  sent.push(...(await publish(edge.mqtt, values.readings)));
  await edge.end('SIGKILL');
  const { validTo, serialNumber } = new X509Certificate(readFileSync(own));
  say(
    `${values.readings} readings acknowledged and not sent, the plug pulled; the certificate is good until ${validTo}`,
  );

  const clock = later(values.days);
  const beginMs = performance.now();
  central = await collector(now, clock);
  edge = await gateway(before, clock);
  await until(
    () => `the certificate is renewed: ${edge.text().slice(-400)}`,
    () => new X509Certificate(readFileSync(own)).serialNumber !== serialNumber,
  );
  sent.push(...(await publish(edge.mqtt, 10)));
  await arrived(at('http'), sent, `${values.days} days later, the collector upgraded`, say);
  say(
    `back ${((performance.now() - beginMs) / 1000).toFixed(1)} s after both were started, by itself`,
  );
  await edge.end();
  edge = await gateway(now, clock);
  sent.push(...(await publish(edge.mqtt, 10)));
  await arrived(at('http'), sent, 'the gateway upgraded as well', say);
  const ledger = await (await fetch(`http://${at('http')}/api/v1/ledger`)).json();
  if (ledger.missing) throw new Error(`the ledger misses something: ${JSON.stringify(ledger)}`);
  say('the ledger misses nothing');
  await edge.end();
  await central.end();
}

let failed = false;
try {
  await main();
} catch (error) {
  failed = true;
  say(`FAILED: ${error.message}`);
} finally {
  endAll();
  rmSync(work, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);

/**
 * `npm run compat:try [-- --before COMMIT]`: this version beside an earlier one, which is taken from git and built: each one's
 * gateway with the other's collector; folders that the earlier one has filled, upgraded; folders of this one, given back to the
 * earlier one; and a folder of a later layout, which is refused in one sentence and left as it is. Every message that was
 * acknowledged has to be there once.
 */
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { arrived, builtFrom, builtHere, endAll, publish, start } from './trial.mjs';
import { flagsOf } from './flags.mjs';

/** What was before enrolment and settings from afar; the tag of the release before, once there is one. */
const BEFORE = '4c1078c';
const { values } = flagsOf(import.meta.url, {
  options: { before: { type: 'string', default: BEFORE } },
});
const work = mkdtempSync(join(tmpdir(), 'headwater-compat-'));
const say = (text) => process.stderr.write(`compat: ${text}\n`);
const LISTEN = ['--http', '127.0.0.1:0'];
let count = 0;
const collector = (version, data) =>
  start(version, [
    ...['collector', '--data', data, '--lake', 'none', '--uplink', '127.0.0.1:0'],
    ...LISTEN,
  ]);
const gateway = (version, data, uplink) =>
  start(version, [
    ...['gateway', '--data', data, '--id', 'compat', '--mqtt', '127.0.0.1:0', ...LISTEN],
    ...(uplink === undefined ? [] : ['--collector', `mqtt://${uplink}`]),
  ]);
const folder = (name) => join(work, `${name}-${count++}`);

/** The gateway of one version and the collector of the other, while both run. */
async function beside(near, far, what) {
  const central = await collector(far, folder('collector'));
  const edge = await gateway(near, folder('gateway'), central.uplink);
  await arrived(central.http, await publish(edge.mqtt, 200), what, say);
  await edge.end();
  await central.end();
}

/** Filled by one version and killed, then opened by the other, with its own collector. */
async function handedOn(from, to, what) {
  const [near, far] = [folder('gateway'), folder('collector')];
  const first = await collector(from, far);
  let edge = await gateway(from, near, first.uplink);
  const sent = await publish(edge.mqtt, 200);
  await arrived(first.http, sent, `${what}: before`, say);
  await first.end('SIGKILL');
  sent.push(...(await publish(edge.mqtt, 500)));
  await edge.end('SIGKILL');
  const central = await collector(to, far);
  edge = await gateway(to, near, central.uplink);
  sent.push(...(await publish(edge.mqtt, 100)));
  await arrived(central.http, sent, `${what}: after`, say);
  await edge.end();
  await central.end();
}

/** What a later version will have written. */
async function refused(root) {
  for (const [name, open] of [
    ['gateway', gateway],
    ['collector', collector],
  ]) {
    const data = join(work, `later-${name}`);
    await (await open(root, data)).end();
    const note = join(data, 'headwater.json');
    const later = JSON.stringify({
      ...JSON.parse(readFileSync(note, 'utf8')),
      layout: 2,
      crc: undefined,
    });
    for (const file of ['headwater.json', 'headwater.json.copy'])
      writeFileSync(join(data, file), later);
    const copy = join(work, `copy-${name}`);
    cpSync(data, copy, { recursive: true });
    const said = await open(root, data).then(
      () => 'it started',
      (error) => `${error.code}: ${error.message.trim()}`,
    );
    if (
      !/^1: headwater: .*has layout 2, this version knows 1: use the version that wrote it/.test(
        said,
      )
    )
      throw new Error(`a ${name}'s folder of a later layout: ${said}`);
    const list = (path) => readdirSync(path, { recursive: true }).sort().join('\n');
    if (readFileSync(note, 'utf8') !== later || list(data) !== list(copy))
      throw new Error(`a refused folder of a ${name} was touched`);
    say(`a ${name}'s folder of a later layout is refused in one sentence, and not touched`);
  }
}

async function main() {
  const root = builtHere();
  const before = builtFrom(values.before, work);
  say(`${values.before} is built`);
  await beside(before, root, 'gateway of before, collector of now');
  await beside(root, before, 'gateway of now, collector of before');
  await handedOn(before, root, 'upgraded');
  await handedOn(root, before, 'given back');
  await refused(root);
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

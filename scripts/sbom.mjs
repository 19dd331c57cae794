/**
 * `npm run sbom [-- [--production] [FILE]]`: every package of the lock files (the workspace's and the Kafka client's), as one CycloneDX document on
 * standard output or in FILE. `--production` leaves out what only development needs: not what is bundled into the page, which an
 * installation has without its package. Made by `npm sbom`, of the lock files alone, and esbuild's account of the page; what would differ from run to run (serial number, time) is taken out, so that two documents can be compared.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packagesOfPage } from './page.mjs';
import { flagsOf } from './flags.mjs';

const root = join(import.meta.dirname, '..');
const { values, words } = flagsOf(import.meta.url, {
  options: { production: { type: 'boolean' } },
  words: { max: 1 },
});
const isProduction = values.production;
const [file] = words;

function sbomOf(folder) {
  const flags = ['--package-lock-only', '--sbom-format=cyclonedx', '--sbom-type=application'];
  const text = execFileSync('npm', ['sbom', ...flags], {
    cwd: join(root, folder),
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  return JSON.parse(text);
}

const DEVELOPMENT = 'cdx:npm:package:development';
/** Everything is asked for and then chosen from: npm's own `--omit=dev` would leave out what the page is made of. */
function choose(document, shipped) {
  for (const component of document.components) {
    if (!shipped.has(component.name)) continue;
    component.scope = 'required';
    component.properties = component.properties.filter(({ name }) => name !== DEVELOPMENT);
  }
  if (!isProduction) return document;
  document.components = document.components.filter(
    ({ properties }) => !properties.some(({ name }) => name === DEVELOPMENT),
  );
  const kept = new Set(document.components.map((component) => component['bom-ref']));
  kept.add(document.metadata.component['bom-ref']);
  document.dependencies = document.dependencies
    .filter(({ ref }) => kept.has(ref))
    .map(({ ref, dependsOn }) => ({ ref, dependsOn: dependsOn.filter((each) => kept.has(each)) }));
  return document;
}

const document = choose(sbomOf('.'), await packagesOfPage());
const kafka = choose(sbomOf('collector/kafka-client'), new Set());
const known = new Set(document.components.map((component) => component['bom-ref']));
document.components.push(...kafka.components.filter((each) => !known.has(each['bom-ref'])));
const related = new Set(document.dependencies.map(({ ref }) => ref));
document.dependencies.push(...kafka.dependencies.filter(({ ref }) => !related.has(ref)));
delete document.serialNumber;
delete document.metadata.timestamp;
const byRef = (a, b) => (a['bom-ref'] < b['bom-ref'] ? -1 : 1);
document.components.sort(byRef);

const text = `${JSON.stringify(document, null, 2)}\n`;
if (file === undefined) process.stdout.write(text);
else writeFileSync(file, text);

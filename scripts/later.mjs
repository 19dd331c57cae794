// Later versions of a package, for trials of upgrades.
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';

const stdio = ['ignore', 'pipe', 'pipe'];

/** The same package under a later version, in `work`; `spoil` changes its files first. */
export function later(deb, version, work, spoil = () => undefined) {
  const stage = join(work, `stage-${version}`);
  execFileSync('dpkg-deb', ['-R', deb, stage], { stdio });
  const control = join(stage, 'DEBIAN/control');
  writeFileSync(
    control,
    readFileSync(control, 'utf8').replace(/^Version: .*$/m, `Version: ${version}`),
  );
  spoil(stage);
  const [name, , architecture] = basename(deb).split('_');
  const file = join(work, `${name}_${version}_${architecture}`);
  execFileSync('dpkg-deb', ['--root-owner-group', '-Znone', '-b', stage, file], { stdio });
  rmSync(stage, { recursive: true });
  return file;
}

const APP = 'usr/lib/headwater-gateway';
const PROGRAM = `${APP}/dist/gateway.js`;
const before = (stage, text) =>
  writeFileSync(join(stage, PROGRAM), `${text}\n${readFileSync(join(stage, PROGRAM), 'utf8')}`);

/** The folder that the version of before has filled is none that it knows. */
function forget(stage) {
  const dist = join(stage, APP, 'dist');
  for (const name of readdirSync(dist)) {
    const program = readFileSync(join(dist, name), 'utf8');
    const layout = /this version knows \$\{(\w+)\}/.exec(program)?.[1];
    const changed = program.replace(new RegExp(`\\b${layout} ?= ?1;`), `${layout}=0;`);
    if (layout === undefined || changed === program) continue;
    writeFileSync(join(dist, name), changed);
    return;
  }
  throw new Error('the program does not say any more which layout of the folder it knows');
}

/**
 * What a version does that is not to stay: ends at once, never gets ready, ends after it was ready for a while, hangs when it has
 * been ready for a while, or cannot read what is in the folder.
 */
export const SPOILT = {
  ends: (stage) => writeFileSync(join(stage, PROGRAM), 'throw new Error("spoilt");\n'),
  hangs: (stage) => writeFileSync(join(stage, PROGRAM), 'setInterval(() => undefined, 1000);\n'),
  dies: (stage) => before(stage, 'setTimeout(() => process.exit(1), 10_000);'),
  stalls: (stage) => before(stage, 'setTimeout(() => { for (;;); }, 15_000);'),
  forgets: forget,
};

/** Says at its start, and by `trial.mjs` whenever it is asked, of which version its files are: of one, whatever was cut. */
export const marked = (version) => (stage) => {
  const at = (name) => join(stage, APP, name);
  mkdirSync(at('trial'));
  const names = Array.from({ length: 100 }, (_, number) => `trial/${number}.mjs`);
  const files = ['bin/node', 'dist/gateway.js', ...names];
  for (const name of files) appendFileSync(at(name), `\n//trial ${version}\n`);
  writeFileSync(
    at('trial.mjs'),
    `import { readFileSync } from 'node:fs';
const of = (name) => { try { return readFileSync(new URL(name, import.meta.url)).subarray(-24).toString().split('//trial ')[1]?.trim(); } catch {} };
console.error('trial: the program is ' + [...new Set([${JSON.stringify(version)}, ...${JSON.stringify(files)}.map(of)])].join(' and '));
`,
  );
  const main = at('gateway/bin.mjs');
  writeFileSync(
    main,
    readFileSync(main, 'utf8').replace(/^(#!.*\n)?/, "$1import '../trial.mjs';\n"),
  );
};

// Later versions of a package, for trials of upgrades.
import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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

/** What a version does that is not to stay: ends at once, never gets ready, or ends after it was ready for a while. */
const APP = 'usr/lib/headwater-gateway';
const PROGRAM = `${APP}/dist/gateway.js`;
export const SPOILT = {
  ends: (stage) => writeFileSync(join(stage, PROGRAM), 'throw new Error("spoilt");\n'),
  hangs: (stage) => writeFileSync(join(stage, PROGRAM), 'setInterval(() => undefined, 1000);\n'),
  dies: (stage) =>
    writeFileSync(
      join(stage, PROGRAM),
      `setTimeout(() => process.exit(1), 10_000);\n${readFileSync(join(stage, PROGRAM), 'utf8')}`,
    ),
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

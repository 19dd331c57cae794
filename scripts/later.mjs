// Later versions of a package, for trials of upgrades.
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
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
const PROGRAM = 'usr/lib/headwater-gateway/dist/gateway.js';
export const SPOILT = {
  ends: (stage) => writeFileSync(join(stage, PROGRAM), 'throw new Error("spoilt");\n'),
  hangs: (stage) => writeFileSync(join(stage, PROGRAM), 'setInterval(() => undefined, 1000);\n'),
  dies: (stage) =>
    writeFileSync(
      join(stage, PROGRAM),
      `setTimeout(() => process.exit(1), 10_000);\n${readFileSync(join(stage, PROGRAM), 'utf8')}`,
    ),
};

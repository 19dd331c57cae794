/**
 * `npm run release [-- --out DIR] [--only npm,deb,oci,sbom]`: everything that a release consists of, and nothing of it is
 * published: npm packages (the command, the gateway alone, the contracts), Debian packages, OCI images of those (a folder in the
 * OCI layout, a tar file each), the list of what is in them (SBOM), and SHA256SUMS. The same commit gives the same bytes, for the
 * images as long as Debian's packages are the same. `--twice` makes it again elsewhere and compares; `--debs DIR` makes images of
 * packages that are there.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { root } from './here.mjs';
import { flagsOf } from './flags.mjs';

const KINDS = ['npm', 'deb', 'oci', 'sbom'];
const say = (text) => process.stderr.write(`release: ${text}\n`);
const read = (path) => JSON.parse(readFileSync(join(root, path), 'utf8'));
const run = (command, args, options = {}) =>
  execFileSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    ...options,
  });

const { values } = flagsOf(import.meta.url, {
  options: {
    out: { type: 'string', default: join(root, 'release') },
    only: { type: 'string', list: true, choices: KINDS, default: KINDS },
    debs: { type: 'string' },
    twice: { type: 'boolean' },
  },
});
const kinds = values.only;
const { version } = read('package.json');
const time = Number(
  process.env.SOURCE_DATE_EPOCH ?? run('git', ['log', '-1', '--format=%ct']).trim(),
);
const environment = { ...process.env, SOURCE_DATE_EPOCH: String(time) };

/** What these folders of the workspace depend on, without each other. */
function dependenciesOf(...parts) {
  const all = parts.flatMap((part) =>
    Object.entries(read(`${part}/package.json`).dependencies ?? {}),
  );
  return Object.fromEntries(all.filter(([name]) => !name.startsWith('@headwater/')).sort());
}

/** The packages as npm has them: the bundle, what it reads, and exact dependencies. */
const NPM = {
  headwater: {
    description: read('package.json').description,
    bin: { headwater: 'cli/bin.mjs' },
    dependencies: dependenciesOf('shared', 'gateway', 'collector', 'dashboards'),
    files: [
      'cli/bin.mjs',
      'dist',
      'collector/mappings',
      'collector/batch/jobs',
      'collector/batch/spark_job.py',
      'collector/kafka-client/package.json',
      'collector/kafka-client/package-lock.json',
      'dashboards/page',
      'data/aberdeen-fleet-2019-03-10_16.csv.gz',
      'data/README.md',
    ],
  },
  '@headwater/gateway': {
    description: read('gateway/package.json').description,
    bin: { 'headwater-gateway': 'gateway/bin.mjs' },
    dependencies: dependenciesOf('shared', 'gateway'),
    files: ['gateway/bin.mjs', 'dist'],
    entry: 'gateway/main.ts',
  },
  '@headwater/contracts': {
    description: read('contracts/package.json').description,
    exports: read('contracts/package.json').exports,
    files: ['contracts/dist'],
    from: 'contracts',
  },
};

/** The gateway's bundle alone: what the command has beside it is not for a board. */
async function bundleOf(entry, folder) {
  const { build } = await import('esbuild');
  await build({
    absWorkingDir: root,
    entryPoints: { gateway: entry },
    outdir: folder,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    packages: 'external',
    logLevel: 'warning',
  });
}

async function packNpm(out) {
  run(process.execPath, ['scripts/build.mjs']);
  for (const [
    name,
    { description, bin, dependencies, exports, files, entry, from = '' },
  ] of Object.entries(NPM)) {
    const stage = mkdtempSync(join(tmpdir(), 'headwater-npm-'));
    try {
      const within = (file) => (from === '' ? file : file.slice(from.length + 1));
      for (const file of files) {
        if (file === 'dist' && entry !== undefined) await bundleOf(entry, join(stage, 'dist'));
        else
          cpSync(join(root, file), join(stage, within(file)), {
            recursive: true,
            filter: (path) => !path.endsWith('.map'),
          });
      }
      for (const file of ['LICENSE', 'README.md', 'CHANGELOG.md'])
        cpSync(join(root, file), join(stage, file));
      const about = { name, version, description, license: 'Apache-2.0', type: 'module' };
      const { engines } = read('package.json');
      const own = { ...about, bin, exports, engines, files: files.map(within), dependencies };
      writeFileSync(join(stage, 'package.json'), `${JSON.stringify(own, null, 2)}\n`);
      run('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', out], {
        cwd: stage,
      });
    } finally {
      rmSync(stage, { recursive: true, force: true });
    }
  }
}

const packDebs = (out) => {
  for (const name of ['gateway', 'collector'])
    run(process.execPath, ['scripts/deb.mjs', '--package', name, '--out', out], {
      env: environment,
    });
};

const hashOf = (data) => createHash('sha256').update(data).digest('hex');

/** An image of two layers: a Debian with what its package needs, and the package's files. */
function packImage(name, debs, out) {
  const stage = mkdtempSync(join(tmpdir(), 'headwater-oci-'));
  try {
    const full = `headwater-${name}`;
    const layout = join(stage, 'layout');
    const blobs = join(layout, 'blobs/sha256');
    mkdirSync(blobs, { recursive: true });
    const blob = (data, mediaType) => {
      const hash = hashOf(data);
      writeFileSync(join(blobs, hash), data);
      return { mediaType, digest: `sha256:${hash}`, size: data.length };
    };
    const base = join(stage, 'base.tar');
    // mmdebstrap makes the same archive of the same packages and the same time.
    run(
      'mmdebstrap',
      [
        '--mode=root',
        '--variant=minbase',
        '--include=libstdc++6,ca-certificates',
        'bookworm',
        base,
        'http://deb.debian.org/debian',
      ],
      {
        env: environment,
        stdio: ['ignore', 'ignore', 'pipe'],
      },
    );
    const tree = join(stage, 'tree');
    run('dpkg-deb', ['-x', join(debs, `${full}_${version}_amd64.deb`), tree]);
    mkdirSync(join(tree, 'data'));
    const app = join(stage, 'app.tar');
    const flags = [
      '--sort=name',
      `--mtime=@${time}`,
      '--numeric-owner',
      '--format=pax',
      '--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime',
    ];
    // The data folder is the user's; everything else is root's.
    run('tar', [
      ...flags,
      '--owner=0',
      '--group=0',
      '--exclude=./data',
      '-C',
      tree,
      '-cf',
      app,
      '.',
    ]);
    run('tar', [...flags, '--owner=1000', '--group=1000', '-C', tree, '-rf', app, './data']);
    const layers = [base, app].map((path) => {
      const plain = readFileSync(path);
      const { digest, ...rest } = blob(
        gzipSync(plain, { level: 6 }),
        'application/vnd.oci.image.layer.v1.tar+gzip',
      );
      return { descriptor: { ...rest, digest }, diff: `sha256:${hashOf(plain)}` };
    });
    const at = `/usr/lib/${full}`;
    const start = name === 'gateway' ? [`${at}/gateway/bin.mjs`] : [`${at}/cli/bin.mjs`];
    const flagsOfNode =
      name === 'gateway' ? ['--max-semi-space-size=2', '--max-old-space-size=512'] : [];
    const config = {
      created: new Date(time * 1000).toISOString(),
      architecture: 'amd64',
      os: 'linux',
      config: {
        User: '1000:1000',
        Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
        Entrypoint: [`${at}/bin/node`, ...flagsOfNode, ...start],
        Volumes: { '/data': {} },
        WorkingDir: '/data',
        Labels: {
          'org.opencontainers.image.version': version,
          'org.opencontainers.image.licenses': 'Apache-2.0',
        },
      },
      rootfs: { type: 'layers', diff_ids: layers.map(({ diff }) => diff) },
      history: [{ created_by: 'mmdebstrap bookworm' }, { created_by: `${full} ${version}` }],
    };
    const manifest = {
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: blob(Buffer.from(JSON.stringify(config)), 'application/vnd.oci.image.config.v1+json'),
      layers: layers.map(({ descriptor }) => descriptor),
    };
    const { digest, mediaType, size } = blob(
      Buffer.from(JSON.stringify(manifest)),
      manifest.mediaType,
    );
    const platform = { architecture: 'amd64', os: 'linux' };
    const annotations = { 'org.opencontainers.image.ref.name': version };
    const index = {
      schemaVersion: 2,
      manifests: [{ mediaType, digest, size, platform, annotations }],
    };
    writeFileSync(join(layout, 'index.json'), JSON.stringify(index));
    writeFileSync(join(layout, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
    run('tar', [
      ...flags,
      '--owner=0',
      '--group=0',
      '-C',
      layout,
      '-cf',
      join(out, `${full}_${version}_amd64.oci.tar`),
      '.',
    ]);
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

async function make(out) {
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  if (kinds.includes('npm')) await packNpm(out);
  const given = kinds.includes('deb') ? out : values.debs;
  const debs = given ?? mkdtempSync(join(tmpdir(), 'headwater-debs-'));
  try {
    if (kinds.includes('deb') || (kinds.includes('oci') && given === undefined)) packDebs(debs);
    if (kinds.includes('oci'))
      for (const name of ['gateway', 'collector']) packImage(name, debs, out);
  } finally {
    if (given === undefined) rmSync(debs, { recursive: true, force: true });
  }
  if (kinds.includes('sbom'))
    run(process.execPath, [
      'scripts/sbom.mjs',
      '--production',
      join(out, `headwater-${version}.sbom.json`),
    ]);
  const sums = readdirSync(out)
    .sort()
    .map((name) => `${hashOf(readFileSync(join(out, name)))}  ${name}\n`);
  writeFileSync(join(out, 'SHA256SUMS.new'), sums.join(''));
  renameSync(join(out, 'SHA256SUMS.new'), join(out, 'SHA256SUMS'));
  return sums.join('');
}

const sums = await make(values.out);
process.stdout.write(sums);
if (values.twice) {
  const again = mkdtempSync(join(tmpdir(), 'headwater-release-'));
  try {
    const other = await make(again);
    if (other !== sums) {
      process.stdout.write(other);
      say('the second time is not the same');
      process.exit(1);
    }
    say('the second time is the same');
  } finally {
    rmSync(again, { recursive: true, force: true });
  }
}

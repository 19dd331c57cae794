/**
 * `npm run images:try`: makes the images of the Dockerfile without a container engine and tries them. Each stage is
 * a Debian root of its own (debootstrap, with the Node that the base image has), its instructions run there in turn; then the images' own
 * entry points run in them, as their user: a gateway and a collector, a reading published to the one and asked of the other, and the Kafka
 * client loaded. Needs root, debootstrap and the network of the package registries. What an engine adds (layers, networks, volumes) is not
 * tried: `scripts/compose-try.sh` does that where Docker is.
 */
import { execFileSync, spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, posix } from 'node:path';
import { cache, root } from './here.mjs';
import { flagsOf } from './flags.mjs';

flagsOf(import.meta.url);
const work = mkdtempSync(join(tmpdir(), 'headwater-images-'));
const say = (text) => process.stderr.write(`images: ${text}\n`);
const run = (command, args, options = {}) =>
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'], ...options });

/** What lets package clients work in a root as they do here. */
const HOST_FILES = [
  '/etc/resolv.conf',
  '/etc/hosts',
  '/etc/apt/apt.conf.d',
  '/etc/ssl/certs',
  '/usr/local/share/ca-certificates',
  '/usr/share/ca-certificates',
  '/etc/npmrc',
  `${process.env.HOME}/.npmrc`,
];

/** A Debian as `node:VERSION-SUITE-slim` is: minimal, Node and npm in /usr/local, the user node. Made once a machine. */
function baseOf(image) {
  const match = /^node:(\d+\.\d+)-(\w+)-slim$/.exec(image);
  if (match === null) throw new Error(`a base image that this script does not know: ${image}`);
  const [, version, suite] = match;
  const folder = join(cache, `base-${suite}-node${version}`);
  if (existsSync(join(folder, '.made'))) return folder;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(dirname(folder), { recursive: true });
  say(`making a Debian ${suite} with Node ${version} (about a minute, once a machine)`);
  const mirror = /^(?:deb |URIs: )(?:\[[^\]]*\] )?(\S+)/m.exec(
    execFileSync(
      'bash',
      ['-c', 'cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true'],
      { encoding: 'utf8' },
    ),
  )?.[1];
  run('debootstrap', [
    '--variant=minbase',
    '--include=ca-certificates',
    suite,
    folder,
    ...(mirror === undefined ? [] : [mirror]),
  ]);
  for (const file of HOST_FILES)
    if (existsSync(file)) {
      mkdirSync(dirname(join(folder, file)), { recursive: true });
      // Links stay links; a folder's content goes into the one that is there.
      run('cp', ['-a', '-T', file, join(folder, file)]);
    }
  const npm = mkdtempSync(join(tmpdir(), 'headwater-node-'));
  run('npm', ['install', '--prefix', npm, `node@~${version}.0`, '--no-audit', '--no-fund']);
  cpSync(realpathSync(join(npm, 'node_modules/node/bin/node')), join(folder, 'usr/local/bin/node'));
  rmSync(npm, { recursive: true, force: true });
  const global = execFileSync('npm', ['root', '-g'], { encoding: 'utf8' }).trim();
  cpSync(join(global, 'npm'), join(folder, 'usr/local/lib/node_modules/npm'), { recursive: true });
  symlinkSync('../lib/node_modules/npm/bin/npm-cli.js', join(folder, 'usr/local/bin/npm'));
  // The official image has the headers too; here they are this machine's, of the same major version.
  const headers = join(dirname(process.execPath), '../include/node');
  if (existsSync(headers))
    cpSync(headers, join(folder, 'usr/local/include/node'), { recursive: true });
  run('chroot', [folder, 'useradd', '--create-home', '--uid', '1000', 'node']);
  run('touch', [join(folder, '.made')]);
  return folder;
}

const ignored = readFileSync(join(root, '.dockerignore'), 'utf8')
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#'));

/** The build context as .dockerignore leaves it: the last pattern that fits decides. */
function context() {
  const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
    cwd: root,
    encoding: 'utf8',
  }).split('\n');
  const fits = (pattern, file) => {
    const parts = pattern
      .split('/')
      .map((part) =>
        part === '**' ? '(?:.*/)?' : `${part.replaceAll('.', '\\.').replaceAll('*', '[^/]*')}/`,
      );
    return new RegExp(`^${parts.join('').replace(/\/$/, '')}(?:/|$)`).test(file);
  };
  const isKept = (file) => {
    let kept = true;
    for (const line of ignored) {
      const isException = line.startsWith('!');
      if (fits(isException ? line.slice(1) : line, file)) kept = isException;
    }
    return kept;
  };
  const folder = join(work, 'context');
  for (const file of files.filter(
    (each) => each !== '' && existsSync(join(root, each)) && isKept(each),
  ))
    cpSync(join(root, file), join(folder, file), { recursive: true });
  return folder;
}

/** Instructions of the Dockerfile by stage; a continued line is one. */
function stagesOf(text) {
  const stages = [];
  for (const line of text.replaceAll('\\\n', ' ').split('\n')) {
    const [, word, rest] = /^(\w+)\s+(.*)$/.exec(line) ?? [];
    if (word === undefined || line.startsWith('#')) continue;
    const from = /^(\S+) AS (\S+)$/.exec(rest);
    if (word === 'FROM') stages.push({ base: from[1], name: from[2], steps: [] });
    else stages.at(-1).steps.push({ word, rest });
  }
  return stages;
}

/** Some programs find themselves by /proc, as they do in a container. */
function withProc(folder, work) {
  run('mount', ['-t', 'proc', 'proc', join(folder, 'proc')]);
  try {
    work();
  } finally {
    run('umount', [join(folder, 'proc')]);
  }
}

function build(stage, made, from) {
  const folder = join(work, stage.name);
  run('cp', ['-a', baseOf(stage.base), folder]);
  const image = { folder, workdir: '/', env: {}, user: '0:0', entrypoint: [] };
  for (const { word, rest } of stage.steps) {
    say(`${stage.name}: ${word} ${rest.slice(0, 100)}`);
    if (word === 'WORKDIR') {
      image.workdir = rest;
      mkdirSync(join(folder, rest), { recursive: true });
    } else if (word === 'ARG') {
      const [name, value] = rest.split('=');
      image.env[name] = process.env[name] ?? value;
    } else if (word === 'COPY') {
      const words = rest.split(/\s+/);
      const source = words[0].startsWith('--from=')
        ? made.get(words.shift().slice(7)).folder
        : from;
      const target = words.pop();
      for (const each of words) {
        const path = join(source, each);
        const to = posix.resolve(image.workdir, target);
        const isFolder = execFileSync('stat', ['-c', '%F', path], { encoding: 'utf8' }).startsWith(
          'directory',
        );
        // A folder's content is copied, a file into a folder or to a name.
        mkdirSync(join(folder, isFolder || target.endsWith('/') ? to : dirname(to)), {
          recursive: true,
        });
        run('cp', ['-a', isFolder ? `${path}/.` : path, join(folder, to)]);
      }
    } else if (word === 'RUN') {
      const environment = {
        PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        HOME: '/root',
        DEBIAN_FRONTEND: 'noninteractive',
        ...image.env,
      };
      for (const [name, value] of Object.entries(process.env))
        if (/^(npm_config_|https?_proxy$|no_proxy$|NODE_EXTRA_CA_CERTS$|SSL_CERT)/i.test(name))
          environment[name] = value;
      withProc(folder, () =>
        run('chroot', [folder, '/bin/sh', '-c', `cd ${image.workdir} && ${rest}`], {
          env: environment,
        }),
      );
    } else if (word === 'USER') image.user = rest;
    else if (word === 'ENTRYPOINT') image.entrypoint = JSON.parse(rest);
    else if (word !== 'VOLUME')
      throw new Error(`an instruction that this script does not know: ${word}`);
  }
  return image;
}

const children = [];
/** Starts an image's entry point in its root as its user; resolves with the addresses of its ready line. */
function start(image, args) {
  const script = `cd ${image.workdir} && exec ${image.entrypoint.join(' ')} ${args.join(' ')}`;
  const child = spawn(
    'chroot',
    [`--userspec=${image.user}`, image.folder, '/bin/sh', '-c', script],
    {
      env: { PATH: '/usr/local/bin:/usr/sbin:/usr/bin:/bin', HOME: '/tmp' },
    },
  );
  children.push(child);
  let text = '';
  return new Promise((resolve, reject) => {
    const look = (chunk) => {
      text += chunk;
      const line = /^ready (.*)$/m.exec(text)?.[1];
      if (line !== undefined)
        resolve(Object.fromEntries(line.split(' ').map((each) => each.split('='))));
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
    child.on('exit', (code) => reject(new Error(`${args[0]} ended with ${code}: ${text}`)));
    setTimeout(() => reject(new Error(`not ready within 60 s: ${text}`)), 60_000).unref();
  });
}
const inside = (image, command) =>
  execFileSync(
    'chroot',
    [
      `--userspec=${image.user}`,
      image.folder,
      '/bin/sh',
      '-c',
      `cd ${image.workdir} && ${command}`,
    ],
    {
      env: { PATH: '/usr/local/bin:/usr/sbin:/usr/bin:/bin', HOME: '/tmp' },
      encoding: 'utf8',
    },
  );

try {
  const made = new Map();
  const from = context();
  say(
    `the build context has ${execFileSync('du', ['-sh', from], { encoding: 'utf8' }).split('\t')[0]}`,
  );
  for (const stage of stagesOf(readFileSync(join(root, 'Dockerfile'), 'utf8')))
    made.set(stage.name, build(stage, made, from));
  const [gateway, collector] = [made.get('gateway'), made.get('collector')];
  for (const [name, image] of [
    ['gateway', gateway],
    ['collector', collector],
  ])
    say(
      `${name}: ${execFileSync('du', ['-sh', join(image.folder, 'app')], { encoding: 'utf8' }).split('\t')[0]} in /app`,
    );
  run('chroot', [
    gateway.folder,
    '/bin/sh',
    '-c',
    '! find /app/node_modules -path "*duckdb*" -o -path "*rdkafka*" -o -path "*aws-sdk*" | grep .',
  ]);
  // /proc is there in a container; Node reads its memory from it.
  for (const { folder } of [gateway, collector])
    run('mount', ['-t', 'proc', 'proc', join(folder, 'proc')]);
  if (process.env.KAFKA !== '0')
    inside(collector, `node -e "require('/app/collector/kafka-client/node_modules/node-rdkafka')"`);
  const { uplink, http } = await start(collector, [
    'collector',
    '--data',
    '/data',
    '--uplink',
    '127.0.0.1:0',
    '--http',
    '127.0.0.1:0',
  ]);
  const { mqtt } = await start(gateway, [
    '--data',
    '/data',
    '--id',
    'image',
    '--mqtt',
    '127.0.0.1:0',
    '--gateway-http',
    '127.0.0.1:0',
    '--collector',
    `mqtt://${uplink}`,
  ]);
  inside(
    collector,
    `cli/bin.mjs publish home/kitchen/climate '{"temperature":21.5}' --mqtt ${mqtt}`,
  );
  let answer = '';
  for (let i = 0; i < 100 && !answer.includes('21.5'); i++) {
    answer = inside(collector, `cli/bin.mjs query --measurement climate --http ${http}`);
    if (!answer.includes('21.5')) await new Promise((resolve) => setTimeout(resolve, 200));
  }
  if (!answer.includes('21.5')) throw new Error(`the reading did not arrive: ${answer}`);
  process.stdout.write(
    'images: both are complete; a reading went from the one through the other\n',
  );
} finally {
  for (const child of children) child.kill('SIGTERM');
  await Promise.all(
    children.map(
      (child) => child.exitCode ?? new Promise((resolve) => child.once('exit', resolve)),
    ),
  );
  for (const name of ['gateway', 'collector']) {
    try {
      execFileSync('umount', [join(work, name, 'proc')], { stdio: 'ignore' });
    } catch {
      // Was not mounted.
    }
  }
  rmSync(work, { recursive: true, force: true });
}

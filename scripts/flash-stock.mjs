// The stock image of `npm run flash:try`: a Debian made of packages, as Debian's own cloud images are, once a machine.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cache } from './here.mjs';

const PATH = `${process.env.PATH}:/usr/sbin:/sbin`;
const run = (command, args, options = {}) =>
  execFileSync(command, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PATH },
    ...options,
  });
export const ROOT_AT = 1024 * 1024;
const PACKAGES =
  'systemd-sysv,udev,dbus,iproute2,linux-image-cloud-amd64,cloud-init,cloud-guest-utils,fdisk,e2fsprogs,netplan.io,ca-certificates,passwd,login,procps,openssh-server,sudo';

/** Image, kernel and initramfs: QEMU starts the kernel itself, since its firmware takes minutes without KVM. */
export function stock(work, say) {
  const made = {
    image: join(cache, 'flash-stock-3.img'),
    kernel: join(cache, 'flash-stock-3.vmlinuz'),
    initrd: join(cache, 'flash-stock-3.initrd'),
  };
  if (existsSync(made.image)) return made;
  say('making a Debian image of packages (about two minutes, once a machine)');
  mkdirSync(cache, { recursive: true });
  const tree = join(work, 'tree');
  const leaveOut = ['doc', 'man', 'locale'].map(
    (name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`,
  );
  const hooks = [
    'rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*',
    'echo "datasource_list: [ NoCloud, None ]" > "$1"/etc/cloud/cloud.cfg.d/90-datasources.cfg',
  ].map((hook) => `--customize-hook=${hook}`);
  run('mmdebstrap', [
    '--mode=root',
    '--variant=minbase',
    `--include=${PACKAGES}`,
    '--aptopt=APT::Install-Recommends "false"',
    ...leaveOut,
    ...hooks,
    'bookworm',
    tree,
    'http://deb.debian.org/debian',
  ]);
  const boot = readdirSync(join(tree, 'boot'));
  const [kernel, initrd] = ['vmlinuz-', 'initrd.img-'].map((begin) =>
    join(
      tree,
      'boot',
      boot.find((name) => name.startsWith(begin)),
    ),
  );
  run('cp', [kernel, made.kernel]);
  run('cp', [initrd, made.initrd]);
  const image = `${made.image}.new`;
  rmSync(image, { force: true });
  run('truncate', ['-s', '1100M', image]);
  run('sfdisk', ['-q', image], {
    input: 'label: gpt\nstart=2048, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n',
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  run('mke2fs', [
    '-q',
    '-t',
    'ext4',
    '-L',
    'root',
    '-d',
    tree,
    '-E',
    `offset=${ROOT_AT}`,
    image,
    '1072000k',
  ]);
  run('mv', [image, made.image]);
  rmSync(tree, { recursive: true });
  return made;
}

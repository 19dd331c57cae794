/**
 * What makes a stock image a gateway: the package, the join token and the first boot, put into its root file system, and a
 * seed for cloud-init where the image has that (it brings name and network up). The first boot needs no network; it runs
 * until it has come to its end, through power cuts too, then it takes itself away, and the token's room is overwritten.
 */
import { pbkdf2Sync, randomBytes } from 'node:crypto';
import { stringify } from 'yaml';
import { HeadwaterError } from '../../shared/errors.ts';
import { partitionsOf } from './image.ts';
import { isWifiKey } from './table.ts';
import { Ext, Fat, type ImageFile } from './tools.ts';

export interface Card {
  name: string;
  /** As `headwater enroll` prints it. */
  token: string;
  wifi: { ssid: string; password: string; country: string } | undefined;
  sshKeys: readonly string[];
}

export interface Payload {
  /** The .deb, and the architecture that it is for. */
  deb: Buffer;
  architecture: string;
  /** '' for what the package brings. */
  gatewayYaml: string;
  passwords: string;
}

export interface Stock {
  name: string;
  architecture: string;
  root: Ext;
  /** Where cloud-init looks for its seed. */
  seed: 'boot' | 'root' | 'none';
  boot: Fat | undefined;
}

/** ELF e_machine. */
const MACHINES: Record<number, string> = { 62: 'amd64', 183: 'arm64', 40: 'armhf' };
const FOLDER = '/var/lib/headwater-flash';
const SEED = '/var/lib/cloud/seed/nocloud';

/** What kind of image it is. Throws CONFIG_INVALID for one that this cannot be done with. */
export async function stockOf(image: string, called = image): Promise<Stock> {
  const partitions = await partitionsOf(image, { called });
  for (const { offset } of partitions) {
    const root = new Ext(image, offset);
    const release = (await root.read('/usr/lib/os-release'))?.toString('utf8');
    const elf = release === undefined ? undefined : await root.read('/usr/bin/dpkg');
    if (release === undefined || elf === undefined || elf.length < 20) continue;
    const name = /^PRETTY_NAME="?([^"\n]+)/m.exec(release)?.[1] ?? 'Debian';
    const architecture = MACHINES[elf.readUInt16LE(18)] ?? 'an unknown machine';
    const boots = await Promise.all(
      partitions.map(async ({ offset: at }) => {
        const fat = new Fat(image, at);
        return (await fat.read('/user-data')) === undefined ? undefined : fat;
      }),
    );
    const boot = boots.find((each) => each !== undefined);
    const hasCloudInit = (await root.read('/etc/cloud/cloud.cfg')) !== undefined;
    const seed = boot !== undefined ? 'boot' : hasCloudInit ? 'root' : 'none';
    return { name, architecture, root, seed, boot };
  }
  throw new HeadwaterError(
    'CONFIG_INVALID',
    `${called} has no Debian on an ext4 partition: Raspberry Pi OS and Debian's generic images are known`,
  );
}

const BEGIN_PATH = '/etc/systemd/system/headwater-first-begin.service';
const BEGIN_WANTED = '/etc/systemd/system/sysinit.target.wants/headwater-first-begin.service';

/** Overwritten where it lies: a file that is only deleted can be read from the card for long. */
const FIRST_BOOT = `#!/bin/sh
# Made by headwater flash. Runs at every boot until it has come to its end.
set -eu
cd ${FOLDER}
wipe() {
  if [ -e "$1" ]; then
    size=$(wc -c < "$1")
    [ "$size" -eq 0 ] || dd if=/dev/zero of="$1" bs="$size" count=1 conv=notrunc,fsync 2>/dev/null
    rm -f "$1"
  fi
}
export DEBIAN_FRONTEND=noninteractive
install -d -m 0755 /etc/headwater
if [ -s gateway.yaml ]; then install -m 0644 gateway.yaml /etc/headwater/gateway.yaml; fi
dpkg --force-confold --configure -a || true
if ! dpkg-query -W -f '\${Status}' headwater-gateway 2>/dev/null | grep -q ' installed$'; then
  dpkg --force-confold --install gateway.deb
fi
if [ -s passwords ]; then
  install -m 0600 -o headwater-gateway -g headwater-gateway passwords /etc/headwater/passwords
fi
if [ -s join.token ]; then
  install -m 0600 -o headwater-gateway -g headwater-gateway join.token /var/lib/headwater-gateway/join.token
fi
if [ -s wifi.nmconnection ] && [ -d /etc/NetworkManager/system-connections ]; then
  install -m 0600 wifi.nmconnection /etc/NetworkManager/system-connections/headwater.nmconnection
  nmcli connection reload || true
fi
hostname=$(cat hostname)
echo "$hostname" > /etc/hostname
hostname "$hostname" || true
sync
systemctl restart headwater-gateway.service
for file in join.token wifi.nmconnection passwords /boot/firmware/network-config ${SEED}/network-config; do wipe "$file"; done
systemctl disable headwater-first-boot.service
rm -rf ${FOLDER} /etc/systemd/system/headwater-first-boot.service ${BEGIN_PATH} ${BEGIN_WANTED}
sync
`;

/**
 * cloud-init writes its files without waiting for the disk. After a power cut it finds them empty, ends over the first one at every
 * boot, and the board has no network for good: what a first boot that was cut has left of it is taken away, and it begins anew.
 */
const BEGIN = `#!/bin/sh
# Made by headwater flash. Runs before cloud-init, until the first boot has come to its end.
cd ${FOLDER} || exit 0
if [ -e begun ]; then
  for each in /var/lib/cloud/*; do
    [ "$each" = /var/lib/cloud/seed ] || rm -rf "$each"
  done
  for each in /etc/netplan/50-cloud-init.yaml /etc/ssh/ssh_host_*; do
    [ -s "$each" ] || rm -f "$each"
  done
fi
: >begun
sync
`;

const BEGIN_UNIT = `[Unit]
Description=First boot of a Headwater gateway, begun anew where it was cut
ConditionPathExists=${FOLDER}/begin.sh
DefaultDependencies=no
RequiresMountsFor=/var/lib/cloud
After=systemd-remount-fs.service
Before=cloud-init-main.service cloud-init-local.service

[Service]
Type=oneshot
ExecStart=/bin/sh ${FOLDER}/begin.sh

[Install]
WantedBy=sysinit.target
`;

const UNIT = `[Unit]
Description=First boot of a Headwater gateway
ConditionPathExists=${FOLDER}/first-boot.sh
After=local-fs.target cloud-config.service

[Service]
Type=oneshot
ExecStart=/bin/sh ${FOLDER}/first-boot.sh
Restart=on-failure
RestartSec=20

[Install]
WantedBy=multi-user.target
`;

/** The board's own watchdog, where it has one: a kernel that hangs is started again by nobody else. */
const WATCHDOG = '[Manager]\nRuntimeWatchdogSec=60\n';
const WATCHDOG_PATH = '/etc/systemd/system.conf.d/50-headwater-watchdog.conf';

const UNIT_PATH = '/etc/systemd/system/headwater-first-boot.service';

/** The key that the password makes for this network: a card does not hold the password itself. */
const pskOf = ({ ssid, password }: NonNullable<Card['wifi']>): string =>
  isWifiKey(password) ? password : pbkdf2Sync(password, ssid, 4096, 32, 'sha1').toString('hex');

/** What every Linux takes as its name: letters, digits and dashes (RFC 1123, 2.1), where a gateway's may have more. */
export const hostnameOf = (gateway: string): string =>
  gateway
    .replaceAll(/[^A-Za-z0-9]+/g, '-')
    .slice(0, 63)
    .replace(/-$/, '');

/** cloud-init reads YAML 1.1, where `on`, `12_3` and `2026-11-27` are no texts. */
const yaml = (value: unknown): string => stringify(value, { version: '1.1' });

function seedFiles({ name, wifi, sshKeys }: Card): Record<string, string> {
  const hostname = hostnameOf(name);
  const users =
    sshKeys.length === 0
      ? []
      : [
          {
            name: 'headwater',
            sudo: 'ALL=(ALL) NOPASSWD:ALL',
            shell: '/bin/bash',
            lock_passwd: true,
            ssh_authorized_keys: sshKeys,
          },
        ];
  const user = { hostname, manage_etc_hosts: true, ssh_pwauth: false, users };
  const network = {
    version: 2,
    // Where there is nothing else a boot may wait for the cable: what is optional alone is waited for in vain.
    ethernets: {
      all: {
        match: { name: 'e*' },
        dhcp4: true,
        ...(wifi === undefined ? {} : { optional: true }),
      },
    },
    ...(wifi === undefined
      ? {}
      : {
          wifis: {
            wlan0: {
              dhcp4: true,
              optional: true,
              'regulatory-domain': wifi.country,
              'access-points': {
                [wifi.ssid]: wifi.password === '' ? {} : { password: pskOf(wifi) },
              },
            },
          },
        }),
  };
  // A fresh one for each card: else cloud-init takes a card for one that it has seen to.
  const meta = {
    'instance-id': `headwater-${name}-${randomBytes(4).toString('hex')}`,
    'local-hostname': hostname,
  };
  return {
    'user-data': `#cloud-config\n${yaml(user)}`,
    'meta-data': yaml(meta),
    'network-config': yaml(network),
  };
}

/** A keyfile of NetworkManager: the name as its bytes, in which nothing has another meaning. */
function nmConnection(wifi: NonNullable<Card['wifi']>): string {
  const ssid = [...Buffer.from(wifi.ssid)].map((byte) => `${byte};`).join('');
  const key =
    wifi.password === '' ? '' : `[wifi-security]\nkey-mgmt=wpa-psk\npsk=${pskOf(wifi)}\n\n`;
  return `[connection]\nid=headwater\ntype=wifi\n\n[wifi]\nssid=${ssid}\n\n${key}[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n`;
}

/** What is written where: for the dry run, and then for the image. */
export function filesFor(
  { seed }: Stock,
  payload: Payload,
  card: Card,
): { root: ImageFile[]; boot: Record<string, string> } {
  const file = (name: string, content: string | Buffer): ImageFile => ({
    path: `${FOLDER}/${name}`,
    content: Buffer.from(content),
    mode: 0o600,
  });
  const seeds = seedFiles(card);
  const root = [
    file('first-boot.sh', FIRST_BOOT),
    file('begin.sh', BEGIN),
    file('gateway.deb', payload.deb),
    file('name', `${card.name}\n`),
    file('hostname', `${hostnameOf(card.name)}\n`),
    file('join.token', `${card.token.trim()}\n`),
    ...(payload.gatewayYaml === '' ? [] : [file('gateway.yaml', payload.gatewayYaml)]),
    ...(payload.passwords === '' ? [] : [file('passwords', payload.passwords)]),
    ...(card.wifi === undefined ? [] : [file('wifi.nmconnection', nmConnection(card.wifi))]),
    { path: UNIT_PATH, content: Buffer.from(UNIT), mode: 0o644 },
    { path: BEGIN_PATH, content: Buffer.from(BEGIN_UNIT), mode: 0o644 },
    { path: WATCHDOG_PATH, content: Buffer.from(WATCHDOG), mode: 0o644 },
    ...(seed === 'root'
      ? Object.entries(seeds).map(([name, text]) => ({
          path: `${SEED}/${name}`,
          content: Buffer.from(text),
          mode: 0o600,
        }))
      : []),
  ];
  return { root, boot: seed === 'boot' ? seeds : {} };
}

/** The gateway for which a card was written that has not been booted since; undefined: it is none. */
export async function waitsForBoot(card: string, cardBytes: number): Promise<string | undefined> {
  const partitions = await partitionsOf(card, { cardBytes }).catch((): [] => []);
  for (const { offset } of partitions) {
    const name = await new Ext(card, offset).read(`${FOLDER}/name`);
    if (name !== undefined && name.length > 0) return name.toString('utf8').trim();
  }
  return undefined;
}

/** Throws CONFIG_INVALID. */
export function checkFit(stock: Stock, payload: Payload): void {
  if (stock.architecture !== payload.architecture)
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `the image (${stock.name}) is for ${stock.architecture}, the package for ${payload.architecture}: give the package of that architecture`,
    );
}

export async function provision(stock: Stock, payload: Payload, card: Card): Promise<void> {
  const free = await stock.root.freeBytes();
  if (free < payload.deb.length + 4 * 1024 * 1024)
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `the image's root file system has ${Math.round(free / 1e6)} MB left, and the package needs ${Math.round(payload.deb.length / 1e6)}`,
    );
  const { root, boot } = filesFor(stock, payload, card);
  const wanted = '/etc/systemd/system/multi-user.target.wants/headwater-first-boot.service';
  await stock.root.write(root, [
    { path: wanted, to: UNIT_PATH },
    { path: BEGIN_WANTED, to: BEGIN_PATH },
  ]);
  await stock.root.check();
  for (const [name, text] of Object.entries(boot)) await stock.boot?.write(name, Buffer.from(text));
}

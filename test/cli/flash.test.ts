/** Cards from stock images: made-up images and disks, the real tools, and media that fail in every way. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { open, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { flash } from '../../cli/flash.ts';
import { Report } from '../../cli/flash/batch.ts';
import { cardAt, checkSame, disksOf, readDisks, type Block } from '../../cli/flash/cards.ts';
import { noRoom, partitionsOf } from '../../cli/flash/image.ts';
import { filesFor, hostnameOf, waitsForBoot, type Card } from '../../cli/flash/provision.ts';
import { Ext, Fat } from '../../cli/flash/tools.ts';
import { readTable, wifiProblem } from '../../cli/flash/table.ts';
import { writeCard, type Medium } from '../../cli/flash/write.ts';
import { parse } from 'yaml';
import { joinTokenText } from '../../shared/access/join-token.ts';
import { ROOT, start, temporaryFolder, until } from '../support/process.ts';
import { PATH, ROOT_AT, stockImage } from '../support/stock-image.ts';

const MIB = 1024 * 1024;
const has = (command: string): boolean => spawnSync(command, ['--version']).error === undefined;

const token = (gateway: string): string =>
  joinTokenText({
    gateway,
    urls: ['https://collector.example:8886'],
    collectors: ['mqtts://collector.example:8885'],
    fingerprint: Array.from({ length: 32 }, () => 'AB').join(':'),
    secret: 'a-secret-of-some-length',
  });

describe.skipIf(!has('mke2fs') && !existsSync('/usr/sbin/mke2fs'))(
  'flash (needs e2fsprogs)',
  () => {
    let folder: string;
    let image: string;
    let deb: string;
    let said: string[];
    beforeAll(() => {
      folder = temporaryFolder();
      image = stockImage(folder, 183, { 'etc/cloud/cloud.cfg': 'users: []\n' });
      deb = join(folder, 'headwater-gateway_0.1.0_arm64.deb');
      writeFileSync(deb, Buffer.alloc(300_000, 'deb'));
      writeFileSync(join(folder, 'roof-1.token'), token('roof-1'), { mode: 0o600 });
    });
    afterEach(() => {
      vi.restoreAllMocks();
      process.exitCode = undefined;
    });

    const run = async (...args: string[]): Promise<string> => {
      said = [];
      const take = (part: unknown): boolean => {
        said.push(String(part));
        return true;
      };
      vi.spyOn(process.stdout, 'write').mockImplementation(take);
      vi.spyOn(process.stderr, 'write').mockImplementation(take);
      await flash(args);
      return said.join('');
    };
    const one = (to: string): string[] => [
      image,
      ...['--package', deb, '--token', join(folder, 'roof-1.token'), '--to', to],
    ];

    it('a stock image becomes the card of one gateway: package, token, first boot, name and network; the image itself stays as it was', async () => {
      const before = readFileSync(image);
      const to = join(folder, 'out', 'roof-1.img');
      const password = join(folder, 'wifi');
      writeFileSync(password, 'correct horse\n');
      const wifi = [
        '--wifi-ssid',
        'Barn',
        '--wifi-password-file',
        password,
        '--wifi-country',
        'DE',
      ];
      expect(await run(...one(to), ...wifi)).toMatch(
        /roof-1: written to .*roof-1\.img and read back/,
      );
      const root = new Ext(to, ROOT_AT);
      const text = async (path: string): Promise<string> =>
        (await root.read(path))?.toString() ?? '';
      expect(await text('/var/lib/headwater-flash/join.token')).toBe(`${token('roof-1')}\n`);
      expect(
        (await root.read('/var/lib/headwater-flash/gateway.deb'))?.equals(readFileSync(deb)),
      ).toBe(true);
      expect(await text('/var/lib/cloud/seed/nocloud/meta-data')).toMatch(
        /instance-id: headwater-roof-1-[0-9a-f]{8}\nlocal-hostname: roof-1/,
      );
      expect(await text('/var/lib/cloud/seed/nocloud/user-data')).toMatch(
        /^#cloud-config\nhostname: roof-1/,
      );
      // The key that wpa_passphrase makes of the two; the password is nowhere.
      const network = await text('/var/lib/cloud/seed/nocloud/network-config');
      expect(network).toMatch(/regulatory-domain: DE/);
      expect(network).toMatch(/password: [0-9a-f]{64}/);
      expect(readFileSync(to).includes('correct horse')).toBe(false);
      expect(await text('/etc/systemd/system/headwater-first-boot.service')).toMatch(
        /ConditionPathExists/,
      );
      expect(await text('/etc/systemd/system.conf.d/50-headwater-watchdog.conf')).toMatch(
        /^\[Manager\]\nRuntimeWatchdogSec=/,
      );
      const stat = execFileSync(
        'debugfs',
        [
          '-R',
          'stat /etc/systemd/system/multi-user.target.wants/headwater-first-boot.service',
          `${to}?offset=${ROOT_AT}`,
        ],
        { env: { ...process.env, PATH }, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
      );
      expect(stat).toMatch(
        /Type: symlink[\s\S]*Fast link dest: "\/etc\/systemd\/system\/headwater-first-boot.service"/,
      );
      const secret = execFileSync(
        'debugfs',
        ['-R', 'stat /var/lib/headwater-flash/join.token', `${to}?offset=${ROOT_AT}`],
        { env: { ...process.env, PATH }, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
      );
      expect(secret).toMatch(/Mode: {2}0600[\s\S]*User: {5}0/);
      expect(statSync(to).mode & 0o777).toBe(0o600);
      // Who says the same again without taking the card out is told so.
      expect(await waitsForBoot(to, statSync(to).size)).toBe('roof-1');
      expect(await waitsForBoot(image, statSync(image).size)).toBeUndefined();
      expect(readFileSync(image).equals(before)).toBe(true);
    });

    it('a dry run says everything and writes nothing', async () => {
      const to = join(folder, 'dry.img');
      const text = await run(...one(to), '--dry-run');
      expect(text).toMatch(/Debian GNU\/Linux 13 \(trixie\), arm64; cloud-init seed in the root/);
      expect(text).toMatch(/join\.token \(\d+ bytes\)[\s\S]*Nothing was written/);
      expect(existsSync(to)).toBe(false);
    });

    it('an xz image is unpacked; one that was cut is refused, and nothing is left behind', async () => {
      execFileSync('xz', ['-0', '--keep', '--force', image]);
      const packed = `${image}.xz`;
      const to = join(folder, 'xz.img');
      const args = one(to).slice(1);
      await run(packed, ...args);
      expect(statSync(to).size).toBe(32 * MIB);
      await truncate(packed, statSync(packed).size - 100);
      const second = join(folder, 'cut.img');
      await expect(run(packed, ...args.slice(0, -1), second)).rejects.toThrow(
        /cannot be unpacked \(a download that was cut\?\)/,
      );
      expect(existsSync(second)).toBe(false);
    });

    it('another architecture, a full image, no Debian, no partitions: one sentence, and no file', async () => {
      const to = join(folder, 'no.img');
      const args = one(to).slice(1);
      const other = stockImage(temporaryFolder(), 62, {});
      await expect(run(other, ...args)).rejects.toThrow(/is for amd64, the package for arm64/);
      const plain = join(folder, 'plain.img');
      writeFileSync(plain, Buffer.alloc(MIB));
      await expect(run(plain, ...args)).rejects.toThrow(/no partition table/);
      const disk = Buffer.alloc(20 * MIB);
      readFileSync(image).copy(disk, 0, 0, 512);
      writeFileSync(plain, disk);
      await expect(run(plain, ...args)).rejects.toThrow(
        `${plain} is not whole: partition 2 ends behind its end`,
      );
      writeFileSync(plain, Buffer.concat([disk, Buffer.alloc(20 * MIB)]));
      await expect(run(plain, ...args)).rejects.toThrow(/has no Debian on an ext4 partition/);
      const large = join(folder, 'x', 'headwater-gateway_0.1.0_arm64.deb');
      mkdirSync(join(large, '..'));
      writeFileSync(large, Buffer.alloc(40 * MIB));
      expect(await run(image, '--package', large, ...args.slice(2))).toMatch(
        /has \d+ MB left, and the package needs 42/,
      );
      expect(process.exitCode).toBe(1);
      expect(existsSync(to)).toBe(false);
    });

    it('interrupted while a token lies in a file of this machine, nothing of it stays there', async () => {
      const room = join(temporaryFolder(), 'a room'); // debugfs reads names from a script.
      mkdirSync(room);
      const program = `import { flash } from '${ROOT}/cli/flash.ts'; await flash(process.argv.slice(1));`;
      const options = ['--import', 'tsx', '--input-type=module', '--eval', program, '--'];
      const files = (): string[] =>
        readdirSync(room, { recursive: true, encoding: 'utf8' }).filter((name) =>
          name.includes('/'),
        );
      for (const to of [join(room, 'whole.img'), join(room, 'cut.img')]) {
        const child = start(process.execPath, [...options, ...one(to)], { TMPDIR: room });
        const isCut = to.endsWith('cut.img');
        // Those that go into the image; the image itself comes before.
        if (isCut)
          await until('its files', () => files().some((name) => name.endsWith('/4')), 30_000, 1);
        expect(await (isCut ? child.kill('SIGINT') : child.exited)).toBe(isCut ? 130 : 0);
        // tsx keeps what it has compiled there.
        const left = readdirSync(room).filter((name) => !/^whole\.img$|^tsx-/.test(name));
        expect(left).toEqual([]);
      }
    });

    it('a place that is a folder where a file is meant, or a file where a folder is, is refused before anything is made', async () => {
      await expect(run(...one(folder))).rejects.toThrow(/is a folder: name a file in it/);
      const table = join(folder, 'one.csv');
      writeFileSync(table, 'name\nroof-1\n');
      const args = ['--package', deb, '--table', table, '--tokens', folder, '--to', deb];
      await expect(run(image, ...args)).rejects.toThrow(
        /is a file: the cards of a table need a folder/,
      );
    });

    it('a table makes a card a row, each with its own token; one that fails stops no other, and a second run makes only what is missing', async () => {
      const table = join(folder, 'cards.csv');
      writeFileSync(
        table,
        'name,wifi_ssid,wifi_password,wifi_country\nb-1,"Barn, east",pass phrase,DE\nb-2,,,\n',
      );
      const tokens = join(folder, 'tokens');
      mkdirSync(tokens);
      writeFileSync(join(tokens, 'b-1.token'), token('b-1'));
      const args = [
        image,
        '--package',
        deb,
        '--table',
        table,
        '--tokens',
        tokens,
        '--to',
        join(folder, 'batch'),
      ];
      await expect(run(...args)).rejects.toThrow(/the token of 'b-2'/);
      writeFileSync(join(tokens, 'b-2.token'), token('b-1'));
      await expect(run(...args)).rejects.toThrow(/is the token of 'b-1', not of 'b-2'/);
      writeFileSync(join(tokens, 'b-2.token'), token('b-2'));
      mkdirSync(join(folder, 'batch', 'b-1.img'), { recursive: true }); // Stands in its way.
      expect(await run(...args)).toMatch(/b-1: [\s\S]*b-2: written/);
      expect(process.exitCode).toBe(1);
      execFileSync('rm', ['-r', join(folder, 'batch', 'b-1.img')]);
      expect(await run(...args)).toMatch(
        /1 were written before \(cards-report\.csv\), 1 are left[\s\S]*b-1: written/,
      );
      const second = new Ext(join(folder, 'batch', 'b-2.img'), ROOT_AT);
      expect((await second.read('/var/lib/headwater-flash/hostname'))?.toString()).toBe('b-2\n');
    });

    it('a table that cannot be right is refused with the line', () => {
      const table = join(folder, 'bad.csv');
      for (const [text, why] of [
        ['name,colour\n', /line 1: 'colour' is none of/],
        ['name\na b\n', /line 2: 'a b' cannot be a gateway's name/],
        ['name\na\n\na\n', /line 4: 'a' stands in line 2 already/],
        ['name,wifi_ssid,wifi_password,wifi_country\na,x,,de\n', /line 2: the country of a Wi-Fi/],
        ['name,wifi_ssid\na\n', /line 2: it has 1 fields/],
        ['name;wifi_ssid\na;b;c\n', /line 2: it has 3 fields/],
        ['name,wifi_ssid\na,"b\n', /line \d: .*[Qq]uot/],
        ['', /line 1: there is no column 'name'/],
      ] as const) {
        writeFileSync(table, text);
        expect(() => readTable(table), text).toThrow(why);
      }
    });

    it.skipIf(!has('mcopy'))(
      'an image whose boot partition has a seed of cloud-init gets it there (needs mtools)',
      async () => {
        const own = temporaryFolder();
        const pi = stockImage(own, 183, { 'etc/cloud/cloud.cfg': 'x\n' });
        const at = `${pi}@@${MIB}`;
        execFileSync('mformat', ['-i', at, '-T', String((4 * MIB) / 512), '::']);
        const seed = join(own, 'user-data');
        writeFileSync(seed, '#cloud-config\n');
        execFileSync('mcopy', ['-i', at, seed, '::/user-data']);
        const to = join(own, 'card.img');
        await run(pi, ...one(to).slice(1));
        const boot = new Fat(to, MIB);
        expect((await boot.read('/meta-data'))?.toString()).toMatch(
          /instance-id: headwater-roof-1-/,
        );
        expect((await boot.read('/user-data'))?.toString()).toMatch(/hostname: roof-1/);
      },
    );

    it('a card has to be named twice, and partitions are found in a GPT as well', async () => {
      await expect(run(...one('/dev/sdz'))).rejects.toThrow(
        /everything on \/dev\/sdz will be gone: say --confirm/,
      );
      await expect(run(...one('/dev/sdz'), '--confirm', '/dev/sdz')).rejects.toThrow(
        /no disk of this machine|cannot be listed/,
      );
      const disk = Buffer.alloc(64 * 512);
      disk[450] = 0xee;
      disk.writeUInt16LE(0xaa55, 510);
      disk.write('EFI PART', 512, 'latin1');
      disk.writeBigUInt64LE(2n, 512 + 72);
      disk.writeUInt32LE(4, 512 + 80);
      disk.writeUInt32LE(128, 512 + 84);
      disk.fill(1, 1024 + 128, 1024 + 144);
      disk.writeBigUInt64LE(34n, 1024 + 128 + 32);
      disk.writeBigUInt64LE(63n, 1024 + 128 + 40);
      const path = join(folder, 'gpt.img');
      writeFileSync(path, disk);
      expect(await partitionsOf(path)).toEqual([{ number: 2, offset: 34 * 512, length: 30 * 512 }]);
      // Sizes that no table has: it read terabytes, or never came to an end.
      for (const size of [0, 1, 47, 2 ** 32 - 1]) {
        disk.writeUInt32LE(size, 512 + 84);
        writeFileSync(path, disk);
        await expect(partitionsOf(path)).rejects.toThrow(/is not whole: it has no partitions/);
      }
    });
  },
);

describe('what a first boot reads', () => {
  const given = (card: Partial<Card>) => {
    const whole = { name: 'g', token: 't', wifi: undefined, sshKeys: [], ...card };
    const payload = { deb: Buffer.alloc(1), architecture: 'arm64', gatewayYaml: '', passwords: '' };
    const stock = { seed: 'boot' } as unknown as Parameters<typeof filesFor>[0];
    const { root, boot } = filesFor(stock, payload, whole);
    // As cloud-init reads it.
    const read = (name: string): unknown => parse(boot[name] ?? '', { version: '1.1' });
    const keyfile = root.find(({ path }) => path.endsWith('wifi.nmconnection'));
    return { read, keyfile: keyfile?.content.toString() ?? '' };
  };

  it.each([
    'on',
    'No',
    '12:30',
    '2026-11-27',
    '0x1F',
    '1_000',
    '1;2;3;',
    ' blanks ',
    '#1 {x}: "y"',
    "O'Neill\\",
    '- a',
    '~',
    'Café 🏠',
    '[wifi]',
    'a=b',
  ])('a Wi-Fi %j keeps its name in cloud-init and in NetworkManager', (ssid) => {
    const { read, keyfile } = given({ wifi: { ssid, password: 'pass "#$\\word', country: 'NO' } });
    const { wifis } = read('network-config') as {
      wifis: { wlan0: { 'access-points': Record<string, { password: string }> } };
    };
    const { wlan0 } = wifis;
    expect(Object.keys(wlan0['access-points'])).toEqual([ssid]);
    expect(wlan0).toMatchObject({ 'regulatory-domain': 'NO' });
    expect(wlan0['access-points'][ssid]?.password).toMatch(/^[0-9a-f]{64}$/);
    const bytes = (/^ssid=(.*)$/m.exec(keyfile)?.[1] ?? '').split(';').slice(0, -1).map(Number);
    expect(Buffer.from(bytes).toString()).toBe(ssid);
  });

  it('a first boot that was cut begins anew: nothing that cloud-init has left half written stays, and its seed does', () => {
    const stock = { seed: 'root' } as Parameters<typeof filesFor>[0];
    const payload = { deb: Buffer.alloc(0), architecture: 'arm64', gatewayYaml: '', passwords: '' };
    const { root } = filesFor(stock, payload, {
      name: 'roof-1',
      token: 't',
      wifi: undefined,
      sshKeys: [],
    });
    const of = (name: string): string =>
      root.find(({ path }) => path.endsWith(name))?.content.toString() ?? '';
    const there = temporaryFolder();
    const has = (path: string): boolean => existsSync(join(there, path));
    const put = (path: string, text: string): void => {
      mkdirSync(join(there, path, '..'), { recursive: true });
      writeFileSync(join(there, path), text);
    };
    const script = of('/begin.sh').replaceAll(/(?<=[ ])\/(?=var|etc)/g, `${there}/`);
    put('var/lib/headwater-flash/begin.sh', script);
    put('var/lib/cloud/seed/nocloud/user-data', '#cloud-config');
    const boot = (): unknown =>
      execFileSync('sh', [join(there, 'var/lib/headwater-flash/begin.sh')], { stdio: 'pipe' });
    boot();
    // What a power cut has left of a boot.
    put('var/lib/cloud/data/set-hostname', '');
    put('etc/netplan/50-cloud-init.yaml', '');
    put('etc/ssh/ssh_host_rsa_key', '');
    put('etc/ssh/ssh_host_ed25519_key', 'whole');
    boot();
    expect(has('var/lib/cloud/data')).toBe(false);
    expect(has('etc/netplan/50-cloud-init.yaml')).toBe(false);
    expect(has('etc/ssh/ssh_host_rsa_key')).toBe(false);
    expect(has('etc/ssh/ssh_host_ed25519_key')).toBe(true);
    expect(has('var/lib/cloud/seed/nocloud/user-data')).toBe(true);
    expect(of('headwater-first-begin.service')).toMatch(/^Before=.*cloud-init-local.service$/m);
    // It is gone with the first boot: a later one begins nothing anew.
    expect(of('/first-boot.sh')).toMatch(/rm -rf .*sysinit.target.wants\/headwater-first-begin/);
  });

  it('a full disk of this machine is one sentence that names the place, and TMPDIR where that is it', () => {
    const full = Object.assign(new Error('ENOSPC: no space left on device, copyfile'), {
      code: 'ENOSPC',
    });
    expect(noRoom(full, 'the unpacked x.img.xz', join(tmpdir(), 'a/base.img'))?.message).toBe(
      `there is no room for the unpacked x.img.xz in ${tmpdir()}: set TMPDIR to another folder`,
    );
    expect(noRoom(full, "the image of 'roof-1'", '/cards/roof-1.img')?.message).toBe(
      "there is no room for the image of 'roof-1' in /cards",
    );
    expect(noRoom(new Error('another'), 'x', '/y')).toBeUndefined();
  });

  it('a key that is made already stays, and a network without a password is open', () => {
    const key = 'A1'.repeat(32);
    const wifi = { ssid: 'Barn', password: key, country: 'DE' };
    expect(given({ wifi }).keyfile).toContain(`psk=${key}\n`);
    const open = given({ wifi: { ...wifi, password: '' } });
    expect(open.keyfile).not.toContain('wifi-security');
    expect(open.read('network-config')).toMatchObject({
      wifis: { wlan0: { 'access-points': { Barn: {} } } },
    });
  });

  it('a machine has a name that Linux takes, whatever the gateway is called, and every key of a file', () => {
    for (const [gateway, name] of [
      ['no', 'no'],
      ['2026-11-27', '2026-11-27'],
      ['meter_7.north', 'meter-7-north'],
      [`${'a'.repeat(62)}-x`, 'a'.repeat(62)],
      ['a_', 'a'],
    ] as const) {
      expect(hostnameOf(gateway)).toBe(name);
      const { read } = given({ name: gateway, sshKeys: ['ssh-ed25519 A a', 'ssh-rsa B b'] });
      expect(read('meta-data')).toMatchObject({ 'local-hostname': name });
      expect(read('user-data')).toMatchObject({
        hostname: name,
        users: [{ ssh_authorized_keys: ['ssh-ed25519 A a', 'ssh-rsa B b'] }],
      });
    }
  });

  it('a Wi-Fi that no board could join is refused', () => {
    const right = { ssid: 'Barn', password: 'correct horse', country: 'DE' };
    for (const fine of [right, { ...right, password: '' }, { ...right, ssid: 'ä'.repeat(16) }])
      expect(wifiProblem(fine)).toBeUndefined();
    for (const [change, why] of [
      [{ ssid: 'ä'.repeat(17) }, /has 34 bytes/],
      [{ ssid: '' }, /without its name/],
      [{ ssid: 'Caf\ufffd' }, /UTF-8 is wanted/],
      [{ ssid: 'a\nb' }, /UTF-8 is wanted/],
      [{ password: 'x\ty1234567' }, /UTF-8 is wanted/],
      [{ password: '1234567' }, /has 7 bytes: WPA wants 8 to 63/],
      [{ password: 'x'.repeat(64) }, /has 64 bytes/],
      [{ country: 'de' }, /two capital letters/],
      [{ country: '' }, /two capital letters/],
    ] as const)
      expect(wifiProblem({ ...right, ...change })).toMatch(why);
  });
});

describe('cards', () => {
  const stick: Block = {
    name: 'sdb',
    size: 32e9,
    rm: true,
    type: 'disk',
    tran: 'usb',
    model: 'Reader',
    serial: 'X1',
  };
  it.each([
    [
      'the disk that this machine runs from',
      {
        name: 'sda',
        tran: 'usb',
        children: [{ name: 'sda2', size: 1, type: 'part', mountpoints: [null, '/'] }],
      },
      /this machine runs from it \(\/\)/,
    ],
    ['swap on it', { children: [{ name: 'sdb1', size: 1, mountpoint: '[SWAP]' }] }, /runs from it/],
    [
      'a mounted one',
      { children: [{ name: 'sdb1', size: 1, mountpoint: '/media/me/SD' }] },
      /mounted at \/media\/me\/SD: unmount it first/,
    ],
    [
      'a mount on the disk itself, of an old lsblk',
      { rm: '1', size: '32000000000', mountpoint: '/mnt' },
      /mounted at \/mnt/,
    ],
    ['an inner disk', { tran: 'nvme', name: 'nvme1n1' }, /no card and no USB disk \(nvme\)/],
    ['one of an array', { children: [{ name: 'md0', size: 1, type: 'raid1' }] }, /array/],
    ['a volume group', { fstype: 'LVM2_member' }, /volume group/],
    [
      'an encrypted one that is open',
      { children: [{ name: 'x', size: 1, type: 'crypt' }] },
      /encrypted/,
    ],
    [
      'a locked one',
      { children: [{ name: 'sdb1', size: 1, type: 'part', fstype: 'crypto_LUKS' }] },
      /encrypted disk \(sdb1: crypto_LUKS\); .*: wipefs --all \/dev\/sdb1 \/dev\/sdb$/,
    ],
    ['a locked one of Windows', { fstype: 'BitLocker' }, /\(sdb: BitLocker\)/],
    ['one of a mirror that is not running', { fstype: 'linux_raid_member' }, /array/],
    ['one of a fake RAID', { fstype: 'isw_raid_member' }, /array/],
    [
      'one of ZFS',
      { children: [{ name: 'sdb1', size: 1, type: 'part', fstype: 'zfs_member' }] },
      /array/,
    ],
    [
      'one that something unheard of lies on',
      { children: [{ name: 'x', size: 1, type: 'linear' }] },
      /in use \(x\)/,
    ],
    ['the boot part of a chip', { name: 'mmcblk0boot0', tran: null }, /a part of a chip/],
    ['a chip that is soldered in', { name: 'mmcblk0', tran: null, kind: 'MMC' }, /soldered in/],
    ['a partition', { type: 'part' }, /no disk/],
    ['a write-protected one', { ro: '1' }, /write-protected/],
    ['an empty reader', { size: 0 }, /no card in the reader/],
    ['one of 12 TB', { size: 12e12 }, /larger than any card/],
    [
      'an encrypted root on a stick, with volumes in it',
      {
        children: [
          {
            name: 'sdb3',
            size: 1,
            type: 'part',
            fstype: 'crypto_LUKS',
            children: [
              {
                name: 'luks-x',
                size: 1,
                type: 'crypt',
                fstype: 'LVM2_member',
                children: [{ name: 'vg-root', size: 1, type: 'lvm', mountpoints: ['/'] }],
              },
            ],
          },
        ],
      },
      /this machine runs from it \(\/\)/,
    ],
    [
      'the root of an array of NVMe',
      {
        name: 'nvme0n1',
        tran: 'nvme',
        children: [
          {
            name: 'nvme0n1p2',
            size: 1,
            type: 'part',
            fstype: 'linux_raid_member',
            children: [{ name: 'md127', size: 1, type: 'raid1', mountpoints: ['/home'] }],
          },
        ],
      },
      /runs from it \(\/home\)/,
    ],
    [
      'the card that a board runs from',
      {
        name: 'mmcblk0',
        tran: null,
        kind: 'SD',
        children: [
          { name: 'mmcblk0p1', size: 1, type: 'part', mountpoints: ['/boot/firmware'] },
          { name: 'mmcblk0p2', size: 1, type: 'part', mountpoints: ['/'] },
        ],
      },
      /runs from it/,
    ],
    ['memory as swap', { name: 'zram0', tran: null, mountpoints: ['[SWAP]'] }, /runs from it/],
    ['a disk of a virtual machine', { name: 'vda', tran: 'virtio' }, /no card .* \(virtio\)/],
    ['a disk over the network', { name: 'nbd0', tran: null }, /no transport is known/],
    ['a disk over iSCSI', { tran: 'iscsi' }, /no card .* \(iscsi\)/],
    ['a file as a disk', { name: 'loop0', type: 'loop', tran: null }, /no disk of this machine/],
    ['a DVD', { name: 'sr0', type: 'rom', tran: 'usb' }, /no disk of this machine/],
    ['a path of several', { children: [{ name: 'mpatha', size: 1, type: 'mpath' }] }, /in use/],
    ['a disk whose size is not known', { size: null }, /no card in the reader/],
    ['one that is too small', { size: 1e9 }, /too small: 1000 MB, and the image needs 2000/],
  ] as const)('%s is refused', (_name, change, why) => {
    const block = { ...stick, ...change } as Block;
    expect(() => cardAt(disksOf([block]), `/dev/${block.name}`, 2e9)).toThrow(why);
  });

  it('a card in a USB reader, or in a reader that says that nothing is removable, is one', () => {
    expect(cardAt(disksOf([stick]), '/dev/sdb', 2e9).refused).toBeUndefined();
    const inner: Block = {
      name: 'mmcblk0',
      size: '32000000000',
      rm: '0',
      hotplug: '0',
      type: 'disk',
    };
    expect(cardAt(disksOf([inner]), '/dev/mmcblk0', 2e9).label).toBe('no model');
    expect(() => cardAt(disksOf([stick]), '/dev/sdb1', 1)).toThrow(/a partition is none/);
  });
});

it('another card in the same slot is not written: it has another number, or another size, or is gone', () => {
  const slot = (change: object): Block => ({
    ...{ name: 'sdb', size: 32e9, type: 'disk', tran: 'usb', model: 'Reader', sequence: '7' },
    ...change,
  });
  const before = cardAt(disksOf([slot({})]), '/dev/sdb', 1);
  checkSame(disksOf([slot({})]), before);
  for (const change of [{ sequence: '8' }, { size: 64e9 }, { serial: 'other' }])
    expect(() => checkSame(disksOf([slot(change)]), before)).toThrow(
      /\/dev\/sdb is not the card any more .* there is Reader.* now/,
    );
  expect(() => checkSame([], before)).toThrow(/it is gone, .* say the same again/);
});

it('where there is no lsblk, what brings it is said, or how a card is written without Linux', async () => {
  vi.stubEnv('PATH', temporaryFolder());
  try {
    await expect(readDisks('linux')).rejects.toThrow(/comes with the package util-linux$/);
    await expect(readDisks('darwin')).rejects.toThrow(/on Linux alone: make a file with --to/);
  } finally {
    vi.unstubAllEnvs();
  }
});

it('what a batch has noted is believed only where the line is whole; what cannot be noted is not begun', () => {
  const folder = temporaryFolder();
  const table = join(folder, 'cards.csv');
  const line = (name: string): string => `${name},/dev/sdb,2026-11-27T10:00:00.000Z,written`;
  // The disk was full while b was noted, and c came right behind it.
  writeFileSync(
    join(folder, 'cards-report.csv'),
    `${line('a')}\nb,/dev/sd${line('c')}\nd,/dev/sdb,2026-11-27T10:00:00.000Z,failed\ne,/dev/s`,
  );
  const report = new Report(table, false);
  expect([...report.written()]).toEqual(['a']);
  report.note({ name: 'f', place: 'a,b', make: () => Promise.resolve('') }, 'written');
  expect([...report.written()]).toEqual(['a', 'f']);
  expect(() => new Report(join(folder, 'none', 'cards.csv'), false)).toThrow(
    /cannot be noted, so nothing is: /,
  );
});

describe('writing', () => {
  const SIZE = 9 * MIB + 1234;
  let image: string;
  beforeAll(() => {
    image = join(temporaryFolder(), 'image');
    const data = Buffer.alloc(SIZE);
    for (let at = 0; at < SIZE; at += 4)
      data.writeUInt32LE((at * 2654435761) >>> 0, Math.min(at, SIZE - 4));
    writeFileSync(image, data);
  });

  /** A card of so many bytes in memory, with what is wrong with it. */
  function medium(
    real: number,
    wrong: {
      at?: (offset: number) => number;
      fails?: (offset: number) => Error | undefined;
      flips?: number;
    } = {},
  ) {
    const cells = Buffer.alloc(real);
    const place = wrong.at ?? ((offset: number) => offset);
    const card = {
      write: (from: Buffer, at: number, length: number, offset: number) => {
        const error = wrong.fails?.(offset);
        if (error !== undefined) return Promise.reject(error);
        from.copy(cells, place(offset), at, at + length);
        return Promise.resolve({
          bytesWritten: Math.max(0, Math.min(length, real - place(offset))),
          buffer: from,
        });
      },
      read: (to: Buffer, at: number, length: number, offset: number) => {
        const bytesRead = cells.copy(to, at, place(offset), place(offset) + length);
        if (wrong.flips !== undefined && offset <= wrong.flips && wrong.flips < offset + length)
          to[at + wrong.flips - offset] = 1;
        return Promise.resolve({ bytesRead, buffer: to });
      },
      sync: () => Promise.resolve(),
      close: () => Promise.resolve(),
    };
    return { cells, open: () => Promise.resolve(card as unknown as Medium) };
  }
  const write = (
    cardBytes: number,
    open?: () => Promise<Medium>,
    card = '/dev/made-up',
    check?: () => Promise<void>,
  ) =>
    writeCard({
      ...(check === undefined ? {} : { check }),
      image,
      card,
      isDevice: open !== undefined,
      cardBytes,
      progress: () => undefined,
      ...(open === undefined ? {} : { open }),
    });
  const isBlank = (cells: Buffer): boolean => cells.subarray(0, 512).every((byte) => byte === 0);

  it('what was written is the image, to the last byte, in a real file', async () => {
    const card = join(temporaryFolder(), 'card');
    await (await open(card, 'w')).close();
    await truncate(card, 16 * MIB);
    await write(16 * MIB, undefined, card);
    expect(readFileSync(card).subarray(0, SIZE).equals(readFileSync(image))).toBe(true);
  });

  it.each([
    ['ends early', () => medium(6 * MIB), /could not be written|does not hold/],
    [
      'is pulled out in the middle',
      () =>
        medium(16 * MIB, {
          fails: (offset) => (offset >= 8 * MIB ? new Error('EIO: i/o error, write') : undefined),
        }),
      /pulled out, or worn\?\): EIO/,
    ],
    [
      'forgets a bit',
      () => medium(16 * MIB, { flips: 5 * MIB + 7 }),
      /other bytes come back than were written, at 4194304/,
    ],
    [
      'wraps around: it claims 16 MB and has 12',
      () => medium(12 * MIB, { at: (offset) => offset % (12 * MIB) }),
      /claim more room than it has/,
    ],
    [
      'throws away what is beyond its end',
      () => medium(16 * MIB, { at: (offset) => (offset >= 12 * MIB ? 11 * MIB : offset) }),
      /claim more room than it has/,
    ],
  ] as const)('a card that %s is reported, and does not boot', async (_name, make, why) => {
    const { cells, open: opened } = make();
    await expect(write(16 * MIB, opened)).rejects.toThrow(why);
    expect(isBlank(cells)).toBe(true);
  });

  it('cut off at any write, in the middle of it or before it, a card does not boot; whole it does', async () => {
    const whole = Buffer.concat([readFileSync(image), Buffer.alloc(4096 - (SIZE % 4096))]);
    let writes = Number.POSITIVE_INFINITY;
    for (let cut = 0; cut <= writes; cut++) {
      const cells = Buffer.alloc(10 * MIB);
      let count = 0;
      const { open: inner } = medium(0);
      const card = (await inner()) as unknown as Record<string, unknown>;
      card['write'] = (from: Buffer, at: number, length: number, offset: number) => {
        const isCut = count++ >= cut;
        // Sectors of 512 bytes are written whole or not at all.
        const done = isCut ? (count - 1 === cut ? Math.floor(length / 1024) * 512 : 0) : length;
        from.copy(cells, offset, at, at + done);
        if (isCut) return Promise.reject(new Error('ENODEV: no such device'));
        return Promise.resolve({ bytesWritten: length, buffer: from });
      };
      card['read'] = (to: Buffer, at: number, length: number, offset: number) =>
        Promise.resolve({ bytesRead: cells.copy(to, at, offset, offset + length), buffer: to });
      const end = await write(10 * MIB, () => Promise.resolve(card as unknown as Medium)).then(
        () => 'whole',
        (error: unknown) => String(error),
      );
      if (end === 'whole') writes = count;
      const isWhole = cells.subarray(4096, whole.length).equals(whole.subarray(4096));
      expect(isBlank(cells) || isWhole, `cut at write ${cut}: ${end}`).toBe(true);
      if (end === 'whole') expect(cells.subarray(0, whole.length).equals(whole)).toBe(true);
      else expect(end).toMatch(/ENODEV/);
      if (end === 'whole') break;
    }
    expect(writes).toBeGreaterThan(5);
  });

  it.each([
    4, 8,
  ])('a card that begins again after %i MB is found out where there is no room for marks, and does not boot', async (real) => {
    const { cells, open: opened } = medium(real * MIB, { at: (offset) => offset % (real * MIB) });
    const claimed = SIZE + 4096 - (SIZE % 4096);
    await expect(write(claimed, opened)).rejects.toThrow(/does not hold what was written|claim/);
    expect(isBlank(cells)).toBe(true);
  });

  it('a card that is changed while it is written gets no beginning; one that was changed before gets nothing', async () => {
    for (const at of [1, 2]) {
      const { cells, open: opened } = medium(16 * MIB);
      cells.fill(7);
      let asked = 0;
      const check = (): Promise<void> =>
        ++asked === at ? Promise.reject(new Error('it is another card')) : Promise.resolve();
      await expect(write(16 * MIB, opened, undefined, check)).rejects.toThrow(/another card/);
      expect(cells.every((byte) => byte === 7)).toBe(at === 1);
      expect(isBlank(cells)).toBe(at === 2);
    }
  });

  it.each([
    ['EACCES', /needs root \(sudo headwater flash …\)/],
    ['EBUSY', /it is in use \(mounted\?\)/],
    ['ENOMEDIUM', /cannot be opened \(pulled out\?\)/],
  ])('a card that cannot be opened (%s) is as it was, and that is said', async (code, why) => {
    const refuse = () => Promise.reject(Object.assign(new Error(code), { code }));
    const end = await write(16 * MIB, refuse).catch((error: unknown) => String(error));
    expect(end).toMatch(why);
    expect(end).toMatch(/; nothing was written to it$/);
  });
});

/**
 * `headwater flash IMAGE`: a stock image becomes the cards of gateways that enrol themselves. Each card is made as a file
 * first, which is checked, and then written; a batch is a table with a row each, and goes on where it ended.
 */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parseJoinToken } from '../shared/access/join-token.ts';
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { HeadwaterError, messageOf } from '../shared/errors.ts';
import { Report, inParts, jobsOf, type Work } from './flash/batch.ts';
import { makeFile } from './flash/card-file.ts';
import { cardAt, checkSame, readDisks, type Disk } from './flash/cards.ts';
import { unpack } from './flash/image.ts';
import { writeLabels } from './flash/labels.ts';
import {
  checkFit,
  filesFor,
  stockOf,
  waitsForBoot,
  type Card,
  type Payload,
  type Stock,
} from './flash/provision.ts';
import { checkWays, placesOf } from './flash/places.ts';
import { overSsh } from './flash/remote.ts';
import { endsClean, inScratch } from './flash/scratch.ts';
import { readTable, wifiProblem, type Row } from './flash/table.ts';
import { writeCard } from './flash/write.ts';
import { Progress } from './progress.ts';

const FLAGS: Flags = {
  package: { value: 'FILE', about: "The gateway's .deb for the board (npm run deb makes it)." },
  token: { value: 'FILE', about: 'A join token, for one card.' },
  table: {
    value: 'FILE',
    about: 'CSV with a card each row: name, wifi_ssid, wifi_password, wifi_country.',
  },
  tokens: {
    value: 'DIR',
    about: 'Where their join tokens are, NAME.token each (headwater enroll --out).',
  },
  to: {
    value: 'PLACE',
    about: 'A card (/dev/sdb), again for several; a file; or with --table a folder, NAME.img each.',
    multiple: true,
  },
  confirm: {
    value: 'DEVICE',
    about: 'The same card once more: nothing is written to one that is not named twice.',
    multiple: true,
  },
  'wifi-ssid': { value: 'NAME', about: 'Wi-Fi of a single card.' },
  'wifi-password-file': {
    value: 'FILE',
    about: 'Its password. The card gets the key that is made of it.',
  },
  'wifi-country': { value: 'XX', about: 'Where that is; without it some boards keep Wi-Fi off.' },
  'ssh-key': {
    value: 'FILE',
    about: 'Public key of the user headwater; without it nobody can log in.',
  },
  ssh: {
    value: 'HOST',
    about: 'Instead of a card: a machine that runs Debian or Raspberry Pi OS, again for several.',
    multiple: true,
  },
  jobs: {
    value: 'N',
    about: 'So many at once; when left out all cards or machines that are named, and one file.',
  },
  labels: { value: 'FILE', about: 'A sheet (HTML) with a label for each card: name and QR code.' },
  settings: { value: 'FILE', about: "gateway.yaml of the cards; without it the package's own." },
  passwords: {
    value: 'FILE',
    about: 'Password file for their devices, as /etc/headwater/passwords.',
  },
  size: {
    value: 'MB',
    about: 'A file is made so large: an image boots with no more room than it has.',
  },
  'dry-run': { about: 'Say what would be done; nothing is written.' },
  list: { about: 'Show the disks of this machine, and why each is or is not a card.' },
};

export const FLASH_HELP = helpText(
  'flash [IMAGE] --package FILE (--token FILE | --table FILE --tokens DIR) (--to PLACE | --ssh HOST)',
  'Puts the gateway, its join token and network into a stock image (Raspberry Pi OS, Debian; .img, .xz, .zst) and writes it to cards or files; or installs it on a machine that runs. Docs: flash.md.',
  FLAGS,
  `What was written stands in flash-report.csv beside the table; a card that stands there is not made again.

Example: headwater flash raspios.img.xz --package headwater-gateway_arm64.deb --token barn-1.token --to barn-1.img`,
);

type Values = Record<string, string | boolean | undefined>;
const text = (values: Values, name: string): string | undefined =>
  typeof values[name] === 'string' ? values[name] : undefined;

/** Throws CONFIG_INVALID. */
function readGiven(path: string | undefined, what: string): string {
  try {
    return path === undefined ? '' : readFileSync(path, 'utf8');
  } catch (error) {
    throw new HeadwaterError('CONFIG_INVALID', `${what}: ${messageOf(error)}`, { cause: error });
  }
}

function payloadOf(values: Values): Payload {
  const path = text(values, 'package') ?? '';
  const architecture = /_(amd64|arm64|armhf)\.deb$/.exec(path)?.[1];
  if (architecture === undefined || !existsSync(path))
    throw new HeadwaterError(
      'USAGE',
      `--package names no package: a file headwater-gateway_VERSION_ARCHITECTURE.deb (npm run deb makes them)`,
    );
  return {
    deb: readFileSync(path),
    architecture,
    gatewayYaml: readGiven(text(values, 'settings'), '--settings'),
    passwords: readGiven(text(values, 'passwords'), '--passwords'),
  };
}

function cardOf(
  token: string,
  where: string,
  row: Omit<Row, 'name'>,
  sshKeys: readonly string[],
  name?: string,
): Card {
  const { gateway } = parseJoinToken(token, where);
  if (name !== undefined && name !== gateway)
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `${where} is the token of '${gateway}', not of '${name}'`,
    );
  const { ssid, password, country } = row;
  return {
    name: gateway,
    token,
    wifi: ssid === '' ? undefined : { ssid, password, country },
    sshKeys,
  };
}

/** Every card of the table or of the flags, with its token. Throws USAGE and CONFIG_INVALID before anything is written. */
function cardsOf(values: Values): Card[] {
  const sshKeys = readGiven(text(values, 'ssh-key'), '--ssh-key')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  if (!sshKeys.every((line) => /^(?:ssh-|ecdsa-|sk-)\S+ \S+/.test(line)))
    throw new HeadwaterError('CONFIG_INVALID', '--ssh-key is no public key of OpenSSH');
  const [table, tokens, token] = [
    text(values, 'table'),
    text(values, 'tokens'),
    text(values, 'token'),
  ];
  if (table !== undefined) {
    if (tokens === undefined) throw new HeadwaterError('USAGE', '--table needs --tokens DIR');
    return readTable(table).map((row) => {
      const path = join(tokens, `${row.name}.token`);
      return cardOf(readGiven(path, `the token of '${row.name}'`), path, row, sshKeys, row.name);
    });
  }
  if (token === undefined)
    throw new HeadwaterError('USAGE', 'give --token FILE, or --table FILE and --tokens DIR');
  const wifi = {
    ssid: text(values, 'wifi-ssid') ?? '',
    // Blanks belong to it; the end of the line does not.
    password: readGiven(text(values, 'wifi-password-file'), '--wifi-password-file').replace(
      /\r?\n$/,
      '',
    ),
    country: text(values, 'wifi-country') ?? '',
  };
  const problem = wifiProblem(wifi);
  if (problem !== undefined) throw new HeadwaterError('CONFIG_INVALID', `--wifi-…: ${problem}`);
  return [cardOf(readGiven(token, '--token'), token, wifi, sshKeys)];
}

const writtenTo = (place: string): string => `written to ${place} and read back`;

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function list(disks: readonly Disk[]): void {
  if (disks.length === 0) say('This machine has no disks that lsblk shows.');
  for (const { path, sizeBytes, label, refused } of disks)
    say(
      `${path}  ${(sizeBytes / 1e9).toFixed(1)} GB  ${label}  ${refused === undefined ? 'a card' : `not written: ${refused}`}`,
    );
}

interface Job {
  base: string;
  folder: string;
  payload: Payload;
  sizeBytes: number;
  report: Report;
  /** Takes how far a card is, in bytes of writing and reading back. */
  progress: (card: string, bytes: number) => void;
}

/** Throws CONFIG_INVALID where the card of before was not taken out. */
async function checkNext(report: Report, { path, sizeBytes }: Disk): Promise<void> {
  const name = await waitsForBoot(path, sizeBytes);
  if (name === undefined || !report.written().has(name)) return;
  throw new HeadwaterError(
    'CONFIG_INVALID',
    `${path} has the card of '${name}' in it, which was written before and has not been booted: put the next one in, or take its line out of ${report.name} to write over it`,
  );
}

async function toDevice(job: Job, card: Card, disk: Disk): Promise<void> {
  const image = join(job.folder, `${card.name}.img`);
  await makeFile(job.base, image, job.payload, card, 0);
  const { size } = await stat(image);
  try {
    // Making the file takes its time, in which a card may be mounted, or be taken out and another put in.
    cardAt(await readDisks(), disk.path, size);
    await checkNext(job.report, disk);
    await writeCard({
      image,
      card: disk.path,
      isDevice: true,
      cardBytes: disk.sizeBytes,
      check: async () => checkSame(await readDisks(), disk),
      progress: (phase, done) => job.progress(card.name, phase === 'write' ? done : size + done),
    });
  } finally {
    await rm(image, { force: true });
  }
}

function dryRun(
  stock: Stock,
  payload: Payload,
  cards: readonly Card[],
  places: readonly string[],
): void {
  const seeds = {
    boot: 'on the boot partition',
    root: 'in the root file system',
    none: 'none: the image has no cloud-init',
  };
  say(`${stock.name}, ${stock.architecture}; cloud-init seed ${seeds[stock.seed]}`);
  for (const [index, card] of cards.entries()) {
    say(
      `${card.name} → ${places[index] ?? 'no place yet'}${card.wifi === undefined ? '' : `, Wi-Fi '${card.wifi.ssid}'`}`,
    );
    const { root, boot } = filesFor(stock, payload, card);
    for (const { path, content } of root) say(`  ${path} (${content.length} bytes)`);
    for (const [name, content] of Object.entries(boot))
      say(`  boot:/${name} (${content.length} bytes)`);
  }
  say('Nothing was written.');
}

/** All cards as one: what has been written and read back of all of them. */
function barOf(cards: readonly Card[], places: readonly string[], imageBytes: number) {
  const devices = places.filter((place) => place.startsWith('/dev/')).length;
  const label = devices === 1 ? `${cards[0]?.name} → ${places[0]}` : `${devices} cards`;
  const bar = new Progress(label, devices * 2 * imageBytes, 'bytes');
  const done = new Map<string, number>();
  return {
    devices,
    show: (card: string, bytes: number): void => {
      done.set(card, bytes);
      bar.show([...done.values()].reduce((sum, each) => sum + each, 0));
    },
    end: (): void => {
      if (done.size > 0) bar.end();
    },
  };
}

export async function flash(args: string[]): Promise<void> {
  const { values, lists, positionals, help } = parseFlags('flash', args, FLAGS, 1);
  if (help) {
    process.stdout.write(FLASH_HELP);
    return;
  }
  if (values['list'] === true) return list(await readDisks());
  const [image] = positionals;
  const hosts = lists['ssh'] ?? [];
  checkWays(image, hosts, lists['to'] ?? [], values);
  const jobs = jobsOf(text(values, 'jobs'));
  const payload = payloadOf(values);
  const table = text(values, 'table');
  const isDry = values['dry-run'] === true;
  const report = new Report(table, isDry);
  const done = report.written();
  const isUpgrade = hosts.length > 0 && table === undefined && values['token'] === undefined;
  const all = isUpgrade ? [] : cardsOf(values);
  const cards = all.filter(({ name }) => !done.has(name));
  if (done.size > 0)
    say(`${done.size} were written before (${report.name}), ${cards.length} are left`);
  const labels = text(values, 'labels');
  if (labels !== undefined) {
    writeLabels(
      labels,
      all.map(({ name, wifi }) => ({ name, network: wifi?.ssid ?? '' })),
    );
    say(`labels of ${all.length} cards: ${labels}`);
  }
  if (image === undefined)
    return await overSsh(
      { hosts, cards: isUpgrade ? undefined : cards, payload, isDry },
      jobs,
      report,
    );
  const places = placesOf(cards, lists['to'] ?? [], lists['confirm'] ?? [], table !== undefined);
  const sizeBytes = sizeOf(text(values, 'size'));
  const stop = endsClean(
    'a card that was being written does not boot, and the same call goes on with it',
  );
  const made = inScratch(async (folder) => {
    const base = join(folder, 'base.img');
    await unpack(image, base);
    const stock = await stockOf(base, image);
    checkFit(stock, payload);
    const { size } = await stat(base);
    // All of them are judged before the first is written.
    const disks = await judged(places, size);
    if (isDry) return dryRun(stock, payload, cards, places);
    const bar = barOf(cards, places, size);
    const job: Job = { base, folder, payload, sizeBytes, report, progress: bar.show };
    const work = workOf(job, cards, places, disks);
    // Files are made by one disk, cards are written by as many readers.
    const atOnce = jobs ?? (bar.devices || 1);
    const failed = await inParts(work, atOnce, report).finally(bar.end);
    const left = cards.length - places.length;
    if (left > 0) say(`${left} cards are left: put the next ones in and say the same again`);
    if (failed > 0) process.exitCode = 1;
  });
  await made.finally(stop);
}

/** Megabytes of a file. Throws USAGE. */
function sizeOf(given: string | undefined): number {
  const size = Number(given ?? 0);
  if (given !== undefined && !(Number.isFinite(size) && size > 0))
    throw new HeadwaterError('USAGE', `--size ${given} is no number of megabytes`);
  return size * 1e6;
}

/** The cards among these places. Throws NOT_FOUND, CONFIG_INVALID. */
async function judged(places: readonly string[], size: number): Promise<ReadonlyMap<string, Disk>> {
  const devices = places.filter((place) => place.startsWith('/dev/'));
  const disks = devices.length === 0 ? [] : await readDisks();
  return new Map(devices.map((device) => [device, cardAt(disks, device, size)]));
}

function workOf(
  job: Job,
  cards: readonly Card[],
  places: readonly string[],
  disks: ReadonlyMap<string, Disk>,
): Work[] {
  return places.flatMap((place, index) => {
    const card = cards[index];
    if (card === undefined) return [];
    const disk = disks.get(place);
    if (disk === undefined) mkdirSync(join(place, '..'), { recursive: true });
    const make = async (): Promise<string> => {
      if (disk === undefined) await makeFile(job.base, place, job.payload, card, job.sizeBytes);
      else await toDevice(job, card, disk);
      return writtenTo(place);
    };
    return [{ name: card.name, place, make }];
  });
}

/**
 * `headwater prove`: tries what Headwater promises on this machine and its disk, with a gateway of its own in a folder of its own.
 * A running gateway and its data are not touched.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join, resolve, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { HeadwaterError, codeOf, messageOf } from '../shared/errors.ts';
import type { Launch } from './prove/child.ts';
import { after, cut } from './prove/cut.ts';
import { fsyncFigures } from './prove/disk.ts';
import { isBroken, proofPage, said, type Proof } from './prove/page.ts';
import { full, kills, wear, type Trials } from './prove/trials.ts';

const FLAGS: Flags = {
  disk: {
    value: 'DIR',
    about: 'Any folder on the disk to try; a folder of its own is made there, and removed.',
    default: './headwater-data',
  },
  kills: { value: 'N', about: 'How often kill -9 strikes, 1 to 1000.', default: '10' },
  'per-second': {
    value: 'N',
    about: 'Messages a second of your devices, 1 to 200: for the years of the card.',
    default: '10',
  },
  seconds: { value: 'N', about: 'How long that is measured, 1 to 3600.', default: '10' },
  tbw: { value: 'GB', about: 'What the card may have written in its life, as its maker says.' },
  seed: { value: 'N', about: 'The same moments again; else another each time.' },
  cut: { about: 'Publish until the power is cut; keep what it prints on another machine.' },
  after: {
    value: 'FILE',
    about: 'After the cut: compare what --cut printed with what the disk has.',
  },
  json: { about: 'The result as JSON.' },
};

export const PROVE_HELP = helpText(
  'prove [flags]',
  'Tries this machine and its disk with a gateway of its own: fsync, kill -9 under load, a full buffer, the wear of the card; with --cut and --after a power cut by hand. Running gateways are not touched, and the disk is not filled (at most 200 MB, half a minute). Ends with 3 when something that was acknowledged was lost or doubled.',
  FLAGS,
  'Example: headwater prove --disk /media/card --kills 20',
);

const EXIT_LOST = 3;

type Values = Record<string, string | boolean | undefined>;

/** Throws USAGE. */
function within(values: Values, name: string, usual: string, min: number, max: number): number {
  const text = String(values[name] ?? usual);
  const value = Number(text);
  if (text.trim() !== '' && Number.isInteger(value) && value >= min && value <= max) return value;
  throw new HeadwaterError(
    'USAGE',
    `--${name} '${text}' is no whole number from ${min} to ${max}: see headwater prove --help`,
  );
}

/** The folder that is named, or the nearest above it that is there: on the same disk, as a rule. Throws INPUT_FILE. */
async function standing(folder: string): Promise<string> {
  for (let at = resolve(folder); ; at = dirname(at)) {
    try {
      if ((await stat(at)).isDirectory()) return at;
      throw new HeadwaterError('INPUT_FILE', `--disk: ${at} is a file: name a folder`);
    } catch (error) {
      if (codeOf(error) !== 'ENOENT' || dirname(at) === at) throw error;
    }
  }
}

/** Made under `disk`, and gone when the process ends, however it does but by SIGKILL. Throws INPUT_FILE. */
function ownFolder(disk: string): string {
  try {
    const folder = mkdtempSync(join(disk, 'headwater-prove-'));
    process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
    return folder;
  } catch (error) {
    const why = `--disk: no folder can be made in ${disk} (${messageOf(error)}): name another`;
    throw new HeadwaterError('INPUT_FILE', why, { cause: error });
  }
}

const progress = (text: string): void => void process.stderr.write(`prove: ${text}\n`);

async function proof(trials: Trials, disk: string): Promise<Proof> {
  progress('fsync');
  const fsync = await fsyncFigures(trials.folder);
  progress(`kill -9, ${trials.kills} times`);
  const killed = await kills(trials);
  progress('a full buffer');
  const filled = await full(trials);
  progress(`what ${trials.perSecond} messages a second write, ${trials.seconds} s`);
  const { seed } = trials;
  return {
    folder: disk,
    seed,
    fsync,
    kills: trials.kills,
    killed,
    full: filled,
    wear: await wear(trials),
  };
}

/** This very command, as it was started. */
const ITSELF: Launch = [
  process.execPath,
  process.argv[1] ?? fileURLToPath(new URL('bin.mjs', import.meta.url)),
];

/** `launch`: another gateway, for tests with one that is broken. */
export async function prove(args: string[], launch: Launch = ITSELF): Promise<void> {
  const { values, help } = parseFlags('prove', args, FLAGS, 0);
  if (help) {
    process.stdout.write(PROVE_HELP);
    return;
  }
  const perSecond = within(values, 'per-second', '10', 1, 200);
  const seconds = within(values, 'seconds', '10', 1, 3600);
  const count = within(values, 'kills', '10', 1, 1000);
  const seed = within(values, 'seed', String(Date.now() % 1_000_000_007), 0, 2 ** 32 - 1);
  const tbw = values['tbw'] === undefined ? undefined : within(values, 'tbw', '', 1, 10 ** 9);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => process.exit(130));
  const disk = await standing(String(values['disk'] ?? './headwater-data'));
  if (values['cut'] === true) return await cut(launch, disk);
  if (typeof values['after'] === 'string') {
    const verdict = await after(launch, disk, values['after']);
    const text =
      values['json'] === true
        ? JSON.stringify({ ...verdict, firstLost: verdict.firstLost ?? null })
        : `After the power cut: ${said(verdict)}${verdict.lost > 0 ? ' This disk does not keep what fsync promised.' : ''}`;
    process.stdout.write(`${text}\n`);
    process.exit(isBroken(verdict) ? EXIT_LOST : 0);
  }
  const folder = ownFolder(disk);
  const enduranceBytes = tbw === undefined ? undefined : tbw * 1e9;
  const trials = { launch, folder, seed, kills: count, perSecond, seconds, enduranceBytes };
  const result = await proof(trials, disk);
  process.stdout.write(
    values['json'] === true ? `${JSON.stringify(result, undefined, 2)}\n` : proofPage(result),
  );
  process.exit(isBroken(result.killed) || isBroken(result.full) ? EXIT_LOST : 0);
}

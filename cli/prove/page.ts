/** The result in plain words, one page. */
import type { FsyncFigures } from './disk.ts';
import type { Verdict } from './held.ts';
import type { FullVerdict, Wear } from './trials.ts';

export interface Proof {
  folder: string;
  seed: number;
  fsync: FsyncFigures;
  kills: number;
  killed: Verdict;
  full: FullVerdict;
  wear: Wear;
}

export const isBroken = ({ lost, doubled }: Verdict): boolean => lost + doubled > 0;

const whole = (value: number): string => Math.round(value).toLocaleString('en-US');
const bytes = (value: number): string =>
  value >= 1e12
    ? `${(value / 1e12).toFixed(1)} TB`
    : value >= 1e9
      ? `${(value / 1e9).toFixed(1)} GB`
      : `${(value / 1e6).toFixed(1)} MB`;

export function said({ acknowledged, lost, doubled, firstLost }: Verdict): string {
  const found =
    lost + doubled === 0
      ? 'all are there, once'
      : `${whole(lost)} LOST${firstLost === undefined ? '' : ` (the first is number ${firstLost})`}, ${whole(doubled)} doubled`;
  return `${whole(acknowledged)} messages acknowledged: ${found}.`;
}

const yearsText = (years: number): string => (years >= 10 ? whole(years) : years.toFixed(1));

function wearText(wear: Wear): string {
  const { processBytesPerDay, deviceBytesPerDay, amplification, yearsLeast, yearsMost } = wear;
  const rate = `At ${wear.messagesPerSecond.toFixed(1)} messages a second (${bytes(wear.payloadBytesPerDay)} a day)`;
  const bears = `${bytes(wear.enduranceBytes)}${wear.isAssumed ? ' (assumed: a hundred times its size; --tbw gives the figure of its maker)' : ' (--tbw)'}`;
  const parts: string[] = [];
  if (processBytesPerDay !== undefined && amplification !== undefined && yearsMost !== undefined)
    parts.push(
      `the gateway writes ${bytes(processBytesPerDay)} a day, ${amplification.toFixed(1)} times the payload: ${yearsText(yearsMost)} years of a card that bears ${bears}. The file system's journal comes on top`,
    );
  if (deviceBytesPerDay !== undefined && yearsLeast !== undefined)
    parts.push(
      `the whole device, with the journal and all that other programs wrote meanwhile, had ${bytes(deviceBytesPerDay)} a day: ${yearsText(yearsLeast)} years`,
    );
  if (parts.length === 0)
    return `${rate}: this system does not tell what is written to the disk, so no years can be said.`;
  return `${rate} ${parts.join('; ')}. Compactions of a full history are in neither.`;
}

export function proofPage(proof: Proof): string {
  const { folder, seed, fsync, kills, killed, full, wear } = proof;
  const rows = [
    [
      'fsync',
      `4 KiB take ${fsync.p50Ms.toFixed(2)} ms (median), ${fsync.p99Ms.toFixed(2)} ms (99 %); ${whole(fsync.perSecond)} a second.`,
    ],
    ...(fsync.doubt === undefined ? [] : [['', `CAUTION: ${fsync.doubt}.`]]),
    ['kill -9', `${kills} times under load. ${said(killed)}`],
    [
      'full',
      `The buffer filled to its limit and killed there; ${full.heldBack ? 'acknowledgements were held back' : 'ACKNOWLEDGEMENTS WERE NOT HELD BACK'}. ${said(full)}`,
    ],
    ['wear', wearText(wear)],
    [
      'power cut',
      'Not tried: only a hand can. headwater prove --cut, pull the plug, headwater prove --after FILE.',
    ],
  ];
  const isLost = isBroken(killed) || isBroken(full);
  const verdict = isLost
    ? 'SOMETHING WAS LOST OR DOUBLED: do not trust this machine as it is, and tell us the seed.'
    : 'Nothing that was acknowledged was lost or doubled.';
  const lines = rows.map(([name = '', text = '']) => `${name.padEnd(9)}  ${text}`);
  return `Tried on ${folder}, seed ${seed}:\n\n${lines.join('\n')}\n\n${verdict}\n`;
}

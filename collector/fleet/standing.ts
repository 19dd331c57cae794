/**
 * How a gateway stands, as points of the store: so that dashboards tell a silent gateway from one that still sends, and a gap
 * in a line from a loss, on every store alike and with a past.
 *
 * Measurement `headwater_gateways`, tag `gateway`: `state_text` (one of STATES), `reason_text`, `since` (epoch milliseconds),
 * messages `waiting`, `missing` and `lost`, frames `held`, `latitude` and `longitude` where it says where it is; and where
 * something has happened `event_text` (one of EVENTS), with `late`, the messages that came late. A state is said once it has
 * held for a while, since a link that comes and goes is no news, and again each hour, so that every range has one.
 *
 * Measurement `headwater_losses`, tags `gateway` and `cause` (of a loss report, or `missing`): `messages`, `from`, `to`,
 * `epoch_text`, `reason_text`, at the time when the collector learned of it.
 */
import { createHash } from 'node:crypto';
import type { FieldValue, Reading } from '../../shared/model/reading.ts';
import type { Standing } from '../ledger/view.ts';

export const GATEWAYS = 'headwater_gateways';
export const LOSSES = 'headwater_losses';
export const STATES = ['fresh', 'silent', 'on the way', 'unsure'] as const;
export type State = (typeof STATES)[number];
/** `backfill`: a backlog is on its way; `complete`: all of it is here. */
export const EVENTS = ['outage', 'back', 'backfill', 'complete', 'clock'] as const;
type Event = (typeof EVENTS)[number];

/** What a gateway sent in this moment before a look is still on its way to the ledger. */
const ARRIVING_MS = 3000;
const TEXT_CHARS_MAX = 300;

const messagesOf = ({ from, to }: { from: number; to: number | null }): number =>
  to === null ? 1 : to - from + 1;
const sum = (all: readonly { from: number; to: number | null }[]): number =>
  all.reduce((count, each) => count + messagesOf(each), 0);
const spanText = (ms: number): string => {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
};

/** Undefined: it cannot be told at this moment, so what was told counts on. */
export function stateOf(
  { link, pending, held, statusMs }: Standing,
  nowMs: number,
): State | undefined {
  if (!link.connected) return 'silent';
  if (pending > 0) return nowMs - statusMs < ARRIVING_MS ? undefined : 'on the way';
  return held > 0 ? 'unsure' : 'fresh';
}

/** What was said of it last. */
export interface Told {
  state: State;
  sinceMs: number;
}

/** What happened between two states. */
export function eventOf(before: State | undefined, state: State): Event | undefined {
  if (state === 'silent') return 'outage';
  if (before === 'silent') return 'back';
  if (state === 'on the way') return 'backfill';
  if (state === 'unsure') return 'clock';
  return before === 'on the way' ? 'complete' : undefined;
}

/** Since when it is so: as the ledger has it, so that each collector of a log says the same. */
export function sinceOf(
  state: State,
  before: State | undefined,
  { link, statusMs }: Standing,
  nowMs: number,
): number {
  const isOfLink = state === 'silent' || before === 'silent' || before === undefined;
  return Math.min(nowMs, isOfLink ? link.at : Math.max(link.at, statusMs));
}

function reasonOf(
  gateway: string,
  state: State,
  { pending, held }: Standing,
  before: Told | undefined,
  now: { sinceMs: number; late: number },
): string {
  if (state === 'silent')
    return `${gateway} is out of reach; what it holds is expected when it is back`;
  if (state === 'unsure')
    return `${held} frames of ${gateway} wait until its clock is known: their readings are in no store yet`;
  const out =
    before?.state === 'silent'
      ? `${gateway} is back after ${spanText(now.sinceMs - before.sinceMs)}`
      : `${gateway} is connected`;
  if (state === 'on the way') return `${out}; ${pending} messages are still on their way`;
  if (before?.state === 'silent')
    return now.late === 0 ? `${out}; it held nothing` : `${out}; ${now.late} messages came late`;
  return before?.state === 'on the way'
    ? `what ${gateway} held is here: ${now.late} messages came late`
    : out;
}

export interface Saying {
  gateway: string;
  state: State;
  before: Told | undefined;
  standing: Standing;
  /** Of the point. */
  timeMs: number;
  sinceMs: number;
  /** Messages that have come late since it was back. */
  late: number;
  location: readonly [latitude: number, longitude: number] | undefined;
  /** Said again: nothing has happened. */
  isAgain: boolean;
}

export function stateReading(saying: Saying): Reading {
  const { gateway, state, before, standing, timeMs, sinceMs, late, location, isAgain } = saying;
  const fields: Record<string, FieldValue> = {
    state_text: state,
    since: sinceMs,
    waiting: standing.pending,
    held: standing.held,
    missing: sum(standing.missing),
    lost: sum(standing.lost),
    reason_text: reasonOf(gateway, state, standing, isAgain ? undefined : before, saying),
  };
  if (location !== undefined) [fields['latitude'], fields['longitude']] = location;
  const event = isAgain ? undefined : eventOf(before?.state, state);
  if (event !== undefined) fields['event_text'] = event;
  if (event === 'back' || event === 'complete') fields['late'] = late;
  return {
    measurement: GATEWAYS,
    tags: { gateway },
    fields,
    sequence: timeMs,
    index: 0,
    timeMs,
    ns: 0,
  };
}

/** A loss, or what is missing and (`messages` 0) has come after all. */
export interface Gone {
  epoch: string;
  from: number;
  to: number | null;
  cause: string;
  reason: string;
  since: number;
}

export const nameOf = ({ epoch, from, cause, since }: Gone): string =>
  `${epoch}/${from}/${cause}/${since}`;

export function goneOf({ lost, missing }: Standing): Gone[] {
  const reason = 'given out by the gateway; it did not arrive, is not held and was not reported';
  return [...lost, ...missing.map((each) => ({ ...each, cause: 'missing', reason }))];
}

/** `isHere`: it has arrived after all. */
export function goneReading(gateway: string, gone: Gone, isHere: boolean): Reading {
  const { epoch, from, to, cause, reason, since } = gone;
  // Several of one moment are several points, the same ones however often they are said.
  const digest = createHash('sha256').update(nameOf(gone)).digest();
  return {
    measurement: LOSSES,
    tags: { gateway, cause },
    fields: {
      messages: isHere ? 0 : messagesOf(gone),
      from,
      to: to ?? from,
      epoch_text: epoch,
      reason_text: (isHere ? 'it has arrived after all' : reason).slice(0, TEXT_CHARS_MAX),
    },
    sequence: Math.round(since),
    index: 1 + (digest.readUInt32LE(0) % 2 ** 30),
    timeMs: Math.round(since),
    ns: digest.readUInt32LE(4) % 1_000_000,
  };
}

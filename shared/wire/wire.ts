/**
 * The uplink between gateway and collector, carried by MQTT 3.1.1 so that any broker can stand in between.
 *
 * `headwater/1/up/{gateway}`, QoS 0, gateway → collector: version (1 byte, 1), lane (1 byte: 0 live, 1 backfill),
 * then one or more whole frames. QoS 0, because the acknowledgement that counts is the one below.
 *
 * `headwater/1/down/{gateway}`, collector → gateway, JSON with `"v":1` and any of
 * - `"acks":[{"epoch","ranges":[[from,to],…]}]`: these sequences (inclusive) are on the log's stable storage. Ranges are
 *   merged over the connection's life, so one acknowledgement also stands for those before it;
 * - `"time":{"echoUs","wallUs"}`: answer to a status frame, with that frame's monotonic clock and the collector's wall
 *   clock, so that the gateway learns the time and half the round trip bounds the error;
 * - `"timeless":true`: instead of it, while the collector doubts its own clock; `"ask":true`: its clock was set, ask again;
 * - `"want":[{"epoch","ranges"}]`: acknowledged before, but not in the log: send them again if they are still there;
 * - `"config":{"gateway","revision","settings","backAfterSeconds"}`: settings that are declared for it (`shared/config/remote.ts`);
 *   what became of them is in its next status. A gateway that does not know the key passes over it;
 * - `"publish":[{"topic","payload"}]` (payload in base64): to be published on the gateway's own broker, for its devices;
 * - `"error":"…"`: why the collector is about to hang up.
 *
 * Lane, lateness and arrival travel beside the frame, never in it (law 10).
 */
import { isRemoteConfig, type RemoteConfig } from '../model/remote.ts';
import { HeadwaterError } from '../errors.ts';
import { splitFrames, type FrameHeader } from '../frame/frame.ts';

export const WIRE_VERSION = 1;
export const LANE_LIVE = 0;
export const LANE_BACKFILL = 1;
export const UP_PREFIX = 'headwater/1/up/';
export const DOWN_PREFIX = 'headwater/1/down/';
/** Largest uplink message a collector takes, bytes. */
export const UP_BYTES_MAX = 5 * 1024 * 1024;

/** What may name a gateway: it becomes part of topics, keys, folders and file names. */
export const GATEWAY_ID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;

export const upTopic = (gateway: string): string => `${UP_PREFIX}${gateway}`;
export const downTopic = (gateway: string): string => `${DOWN_PREFIX}${gateway}`;

export function encodeUp(lane: number, frames: Buffer[]): Buffer {
  return Buffer.concat([Buffer.from([WIRE_VERSION, lane]), ...frames]);
}

/** Frames of an uplink message, each checked. Throws WIRE_INVALID or FRAME_INVALID: then nothing of it is taken. */
export function decodeUp(payload: Buffer): {
  lane: number;
  frames: { header: FrameHeader; frame: Buffer }[];
} {
  const [version, lane] = payload;
  if (version !== WIRE_VERSION || lane === undefined || lane > LANE_BACKFILL) {
    throw new HeadwaterError(
      'WIRE_INVALID',
      `uplink message refused: version ${version}, lane ${lane} are not known`,
    );
  }
  const frames = splitFrames(payload, 2);
  if (frames.length === 0)
    throw new HeadwaterError('WIRE_INVALID', 'uplink message refused: no frame in it');
  return { lane, frames };
}

export interface EpochAck {
  epoch: string;
  /** Inclusive sequence ranges, ascending. */
  ranges: [number, number][];
}

/** The collector's clock, in answer to a status. */
export interface TimeAnswer {
  /** The gateway's monotonic clock when it asked, microseconds. */
  echoUs: number;
  /** The collector's wall clock when it answered, microseconds since 1970 UTC. */
  wallUs: number;
}

/** A message for devices of a gateway. */
export interface DownPublish {
  topic: string;
  /** Base64. */
  payload: string;
}

export interface Down {
  publish: DownPublish[];
  acks: EpochAck[];
  want: EpochAck[];
  time: TimeAnswer | undefined;
  /** The collector's own clock is in doubt: it tells no time. */
  timeless: boolean;
  /** The collector's clock was set: what it said of the time is no more, and a status is asked for. */
  ask: boolean;
  error: string | undefined;
  config: RemoteConfig | undefined;
}

export function encodeDown(message: Partial<Down>): Buffer {
  return Buffer.from(JSON.stringify({ v: WIRE_VERSION, ...message }));
}

/** Throws WIRE_INVALID. */
export function decodeDown(payload: Buffer): Down {
  let value: unknown;
  try {
    value = JSON.parse(payload.toString('utf8'));
  } catch (error) {
    throw new HeadwaterError('WIRE_INVALID', 'acknowledgement from the collector is not JSON', {
      cause: error,
    });
  }
  const { v, acks, want, time, timeless, ask, error, publish, config } = (value ?? {}) as Record<
    string,
    unknown
  >;
  const ackList = acks ?? [];
  const wantList = want ?? [];
  const publishList = publish ?? [];
  if (
    v !== WIRE_VERSION ||
    !isAckList(ackList) ||
    !isAckList(wantList) ||
    !isPublishList(publishList) ||
    !(time === undefined || isTime(time)) ||
    !(config === undefined || isRemoteConfig(config))
  ) {
    throw new HeadwaterError(
      'WIRE_INVALID',
      'acknowledgement from the collector is not of a known form',
    );
  }
  return {
    acks: ackList,
    want: wantList,
    publish: publishList,
    time,
    timeless: timeless === true,
    ask: ask === true,
    error: typeof error === 'string' ? error : undefined,
    config,
  };
}

const isAckList = (value: unknown): value is EpochAck[] =>
  Array.isArray(value) && value.every(isEpochAck);

const isPublishList = (value: unknown): value is DownPublish[] =>
  Array.isArray(value) &&
  value.every((each: Partial<DownPublish> | null) => {
    const { topic, payload } = each ?? {};
    return typeof topic === 'string' && typeof payload === 'string';
  });

function isTime(value: unknown): value is TimeAnswer {
  const { echoUs, wallUs } = (value ?? {}) as Partial<TimeAnswer>;
  return Number.isFinite(echoUs) && Number.isFinite(wallUs);
}

function isEpochAck(value: unknown): value is EpochAck {
  if (typeof value !== 'object' || value === null) return false;
  const { epoch, ranges } = value as { epoch?: unknown; ranges?: unknown };
  return (
    typeof epoch === 'string' &&
    Array.isArray(ranges) &&
    ranges.every(
      (range) => Array.isArray(range) && range.length === 2 && range.every(Number.isSafeInteger),
    )
  );
}

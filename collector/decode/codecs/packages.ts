/**
 * Codecs that someone else wrote, as rows beside our own. What they throw that is no refusal is one all the same: the
 * message goes to quarantine with the codec's name and error, and nothing stops.
 */
import type { Codec, CodecPoint, CodecValue } from '../../../contracts/codec.ts';
import { CODEC_CONTRACT_VERSION } from '../../../contracts/codec.ts';
import type { AnyDefinition, CodecDefinition } from '../../../contracts/define.ts';
import { operatingError } from '../../../contracts/errors.ts';
import {
  DEPTH_MAX,
  Fields,
  POINTS_MAX,
  Undecodable,
  type Decoded,
} from '../../../shared/codecs/codec.ts';
import { Moment, Untold, flatten, type Tree } from '../../../shared/codecs/tree.ts';
import { messageOf } from '../../../shared/errors.ts';
import type { Notify } from '../../../shared/telemetry/log.ts';
import { loadAdapter } from '../../adapters.ts';
import type { CollectorConfig } from '../../config.ts';
import { join } from 'node:path';
import { addCodec, type CodecRow, type Parsed } from './table.ts';

function treeOf(value: CodecValue, depth = 0): Tree {
  if (depth > DEPTH_MAX) throw new Undecodable(`nested more than ${DEPTH_MAX} levels deep`);
  if (typeof value === 'number' || typeof value !== 'object') return value;
  if (value === null || value instanceof Uint8Array) return value;
  if (value instanceof Date) {
    const ms = value.getTime();
    return Number.isFinite(ms)
      ? new Moment({ ms, ns: 0, fine: false })
      : new Untold('a time that is none');
  }
  if (Array.isArray(value)) return value.map((each) => treeOf(each, depth + 1));
  return Object.fromEntries(
    Object.entries(value).map(([key, each]) => [key, treeOf(each, depth + 1)]),
  );
}

function pointOf({ measurement, tags, fields, timeMs }: CodecPoint): Decoded {
  const own = new Fields();
  for (const [name, value] of Object.entries(fields)) flatten(own, name, treeOf(value));
  return {
    ...(measurement === undefined ? {} : { measurement: String(measurement) }),
    ...(tags === undefined
      ? {}
      : {
          tags: Object.fromEntries(Object.entries(tags).map(([key, text]) => [key, String(text)])),
        }),
    fields: own,
    ...(timeMs === undefined || !Number.isFinite(timeMs)
      ? {}
      : { time: { ms: timeMs, ns: 0, fine: false } }),
  };
}

function parsedBy(name: string, codec: Codec, payload: Buffer, receivedMs: number): Parsed {
  try {
    // A copy: what it does to it stays its own affair.
    const gives = codec.parse(new Uint8Array(payload), { receivedMs });
    if ('document' in gives) return { document: treeOf(gives.document) };
    if (gives.points.length > POINTS_MAX)
      throw new Undecodable(`more than ${POINTS_MAX} points in one message`);
    return { points: gives.points.map(pointOf) };
  } catch (error) {
    if (error instanceof Undecodable) throw error;
    const isRefusal = operatingError(error)?.code === 'RECORD_REFUSED';
    const text = messageOf(error);
    throw new Undecodable(isRefusal ? `${name}: ${text}` : `codec '${name}' has failed: ${text}`, {
      cause: error,
    });
  }
}

export function rowOf({ name, about, supports }: CodecDefinition, codec: Codec): CodecRow {
  return {
    name,
    about,
    contentTypes: [],
    gives: supports.gives,
    recognised: '',
    parse: (payload, { receivedMs }) => parsedBy(name, codec, payload, receivedMs),
  };
}

/** Loads what `decode.codecs` names. Throws ADAPTER_MISSING, ADAPTER_CONTRACT, CONFIG_INVALID. */
export async function addPackages(
  config: CollectorConfig,
  notify: Notify,
  nowMs: () => number,
): Promise<void> {
  type Given = CodecDefinition & AnyDefinition;
  for (const value of config['decode.codecs']) {
    const found = await loadAdapter<Given>(
      'codec',
      CODEC_CONTRACT_VERSION,
      value,
      'decode.codecs',
      config,
    );
    const { definition, address, options } = found;
    const folder = join(config.data, `codec-${definition.name}`);
    addCodec(rowOf(definition, definition.create({ address, options, folder, notify, nowMs })));
  }
}

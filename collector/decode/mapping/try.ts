/** What mappings would make of a message, without anything being written: for who writes one. */
import { Undecodable } from '../../../shared/codecs/codec.ts';
import type { Reading } from '../../../shared/model/reading.ts';
import { CodecStates } from '../codec-state.ts';
import type { CodecState } from '../codecs/context.ts';
import { decodeRecord, reasonOf, type DecodedMessage } from '../decoder.ts';
import type { Mappings } from './mappings.ts';

export interface Sample {
  /** Left out: a mapping that is for one gateway alone does not take it. */
  gateway?: string;
  topic: string;
  payload: Buffer;
  receivedMs: number;
}

/** What became of a message. */
export interface Made {
  readings: Pick<Reading, 'measurement' | 'tags' | 'fields' | 'timeMs'>[];
  /** What would go to quarantine or be left out, in sentences. */
  told: string[];
}

/** Protocols that keep state between messages (Sparkplug's aliases) begin without any, unless it is given. */
export function makeOf(
  { gateway = 'gateway', topic, payload, receivedMs }: Sample,
  mappings: Mappings,
  state: CodecState = new CodecStates().of(gateway),
): Made {
  const record = {
    sequence: 1,
    client: 'try',
    topic,
    qos: 1,
    retain: false,
    dup: false,
    receivedUs: receivedMs * 1000,
    properties: undefined,
    payload,
  };
  const context = {
    gateway,
    epoch: '0000000000000000',
    sequence: 1,
    topic,
    receivedMs,
    latestMs: receivedMs,
    state,
    hasAll: () => false,
    ask: () => undefined,
  };
  let decoded: DecodedMessage;
  try {
    decoded = decodeRecord(record, 0, context, mappings);
  } catch (error) {
    if (!(error instanceof Undecodable)) throw error;
    return { readings: [], told: [`quarantine: ${error.message}`] };
  }
  const { readings, problems, omitted, left } = decoded;
  return {
    readings: readings.map(({ measurement, tags, fields, timeMs }) => ({
      measurement,
      tags,
      fields,
      timeMs,
    })),
    told: [
      ...(problems.length === 0 ? [] : [`quarantine, of a part: ${reasonOf(problems)}`]),
      ...(omitted === 0 ? [] : [`${omitted} numbers are none and are left out`]),
      ...(left === undefined
        ? []
        : [`mapping '${left.mapping}' leaves out ${left.paths.join(', ')}`]),
    ],
  };
}

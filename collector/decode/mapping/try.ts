/** What mappings would make of a message, without anything being written: for who writes one. */
import { Undecodable } from '../../../shared/codecs/codec.ts';
import type { Reading } from '../../../shared/model/reading.ts';
import { CodecStates } from '../codec-state.ts';
import { decodeRecord, reasonOf, type DecodedMessage } from '../decoder.ts';
import type { Mappings } from './mappings.ts';

export interface Sample {
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

/** Protocols that keep state between messages (Sparkplug's aliases) begin without any. */
export function makeOf({ topic, payload, receivedMs }: Sample, mappings: Mappings): Made {
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
    gateway: 'gateway',
    epoch: '0000000000000000',
    sequence: 1,
    topic,
    receivedMs,
    latestMs: receivedMs,
    state: new CodecStates().of('gateway'),
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

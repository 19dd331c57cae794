/**
 * Records that are larger than their topic takes (an administrator made it with a smaller max.message.bytes), as ones that
 * are not: the topics' `split`. What cannot be made smaller goes to quarantine by reference, and nothing waits behind it.
 *
 * - readings, results and streams: the same readings in more records. One alone that is too large is named in quarantine by
 *   the identity of its message, which is in `raw`: a replay brings it once the topic takes it.
 * - raw: the same messages, in more frames, and notes in parts. One message alone that is too large is not taken: its
 *   gateway keeps it.
 * - quarantine: its payload is cut, as the reason says.
 * - commands: one that is too large goes to quarantine instead of to the device.
 */
import { HeadwaterError } from '../../shared/errors.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import {
  KIND_RECORDS,
  checkFrame,
  readRecords,
  type FrameHeader,
} from '../../shared/frame/frame.ts';
import {
  decodeQuarantineRecord,
  encodeQuarantined,
  encodeResolved,
  isResolved,
} from '../../shared/model/quarantine-record.ts';
import type { Quarantined, Reading, ReadingBatch } from '../../shared/model/reading.ts';
import { encodeReadings, readingsOf } from '../../shared/model/readings-record.ts';
import type { LogRecord, Produced } from '../../contracts/log.ts';
import { noteInParts } from './fit-notes.ts';

const QUARANTINE = 'quarantine';
/** Of a quarantine record that has to be made smaller, where its payload is not all that is large. */
const REASON_CHARS = 240;
const NAME_CHARS = 120;
const SHOWN_CHARS = 2000;

export const recordBytes = ({ key, value, headers }: LogRecord): number =>
  Buffer.byteLength(key) + value.length + Buffer.byteLength(JSON.stringify(headers));

const tooLarge = (record: Produced, bytesMax: number, why: string): HeadwaterError =>
  new HeadwaterError(
    'LOG_TOO_LARGE',
    `a record of ${recordBytes(record)} bytes is larger than topic ${record.topic} takes (${bytesMax} bytes), and ${why}`,
  );

function quarantined(item: Quarantined): Produced {
  return { topic: QUARANTINE, key: item.gateway, headers: {}, value: encodeQuarantined(item) };
}

// ---- readings ----

/** Places that messages had go before what they have now, as within one record. */
export function splitReadings(record: Produced, bytesMax: number): Produced[] {
  const batch = readingsOf(record.value);
  if (batch === undefined) throw tooLarge(record, bytesMax, 'it is none that could be split');
  const made: Produced[] = [];
  for (const word of ['removed', 'readings'] as const)
    halve(record, bytesMax, batch, word, byIdentity(batch[word] ?? []), made);
  return made;
}

/** Whatever has one identity stays in one record: a store takes what comes later under it for a correction. */
function byIdentity(readings: readonly Reading[]): Reading[][] {
  const found: Reading[][] = [];
  let last: Reading | undefined;
  for (const reading of readings) {
    if (last?.sequence === reading.sequence && last.index === reading.index)
      found.at(-1)?.push(reading);
    else found.push([reading]);
    last = reading;
  }
  return found;
}

function halve(
  record: Produced,
  bytesMax: number,
  batch: ReadingBatch,
  word: 'removed' | 'readings',
  groups: readonly Reading[][],
  made: Produced[],
): void {
  const [first] = groups;
  if (first === undefined) return;
  const value = encodeReadings({ ...batch, readings: [], removed: [], [word]: groups.flat() });
  const part = { ...record, value };
  if (recordBytes(part) <= bytesMax) made.push(part);
  else if (groups.length === 1) made.push(byReference(record, bytesMax, batch, first));
  else {
    const middle = groups.length >> 1;
    halve(record, bytesMax, batch, word, groups.slice(0, middle), made);
    halve(record, bytesMax, batch, word, groups.slice(middle), made);
  }
}

function byReference(
  record: Produced,
  bytesMax: number,
  { gateway, epoch }: ReadingBatch,
  readings: readonly Reading[],
): Produced {
  const [reading] = readings as [Reading]; // A group has one.
  const { tags, sequence, index, timeMs } = reading;
  const text = JSON.stringify(readings);
  return quarantined({
    ...{ gateway, epoch, sequence, index: index + 1 },
    client: tags['client'] ?? tags['device'] ?? '',
    topic: tags['topic'] ?? '',
    reason: `a reading of ${text.length} bytes is larger than Kafka's topic ${record.topic} takes of a record (${bytesMax} bytes): raise its max.message.bytes, then replay this message, which is in the raw log`,
    receivedMs: Math.min(Math.max(timeMs, 0), 253_402_300_799_999),
    payload: Buffer.from(text.slice(0, SHOWN_CHARS)),
  });
}

// ---- raw ----

export function splitFrame(record: Produced, bytesMax: number): Produced[] {
  const header = checkFrame(record.value);
  if (header.kind !== KIND_RECORDS) {
    const parts = noteInParts(record, header, (part) => recordBytes(part) <= bytesMax);
    if (parts !== undefined) return parts;
    throw tooLarge(record, bytesMax, 'this note of a gateway cannot be split');
  }
  if (header.count < 2)
    throw tooLarge(record, bytesMax, 'one message cannot be split: whoever sent it keeps it');
  const middle = header.firstSequence + (header.count >> 1);
  return [
    ...piece(record, header, header.firstSequence, middle),
    ...piece(record, header, middle, header.firstSequence + header.count),
  ].flatMap((part) => (recordBytes(part) <= bytesMax ? [part] : splitFrame(part, bytesMax)));
}

/** Sequences from `from`, before `to`, as a frame of their own: identities, times and what is known of the clock stay. */
function piece(record: Produced, header: FrameHeader, from: number, to: number): Produced[] {
  const builder = new FrameBuilder(record.value.length * 2);
  const messages = new Map(
    readRecords(record.value, header).map((message) => [message.sequence, message]),
  );
  let us = header.wallUs;
  for (let sequence = from; sequence < to; sequence++) {
    const message = messages.get(sequence);
    us = message?.receivedUs ?? us;
    const monotonicUs = header.monotonicUs + us - header.wallUs;
    if (message === undefined) builder.skip(us, monotonicUs);
    else {
      const { properties, ...rest } = message;
      builder.add(properties === undefined ? rest : { ...rest, properties }, us, monotonicUs);
    }
  }
  const identity = {
    gateway: header.gateway,
    epoch: Buffer.from(header.epoch, 'hex'),
    bootId: Buffer.from(header.bootId, 'hex'),
  };
  return [{ ...record, value: builder.finish(identity, from, header.clockQuality, true) }];
}

// ---- quarantine and commands ----

export function splitQuarantined(record: Produced, bytesMax: number): Produced[] {
  const item = decodeQuarantineRecord(record.value);
  if (isResolved(item)) {
    const { resolved } = item;
    const middle = resolved.length >> 1;
    if (middle === 0) throw tooLarge(record, bytesMax, 'it cannot be split');
    return [resolved.slice(0, middle), resolved.slice(middle)]
      .map((part) => ({ ...record, value: encodeResolved({ ...item, resolved: part }) }))
      .flatMap((part) =>
        recordBytes(part) <= bytesMax ? [part] : splitQuarantined(part, bytesMax),
      );
  }
  const { payload } = item;
  const cutTo = (bytes: number, shorter: Partial<Quarantined> = {}): Produced => {
    const { reason } = { ...item, ...shorter };
    const told = `${reason}; the first ${bytes} of its ${payload.length} bytes are kept here`;
    const value = encodeQuarantined({
      ...{ ...item, ...shorter },
      reason: bytes < payload.length ? told : reason,
      payload: payload.subarray(0, bytes),
    });
    return { ...record, value };
  };
  const shorter = {
    reason: item.reason.slice(0, REASON_CHARS),
    topic: item.topic.slice(0, NAME_CHARS),
    client: item.client.slice(0, NAME_CHARS),
  };
  for (const names of [{}, shorter]) {
    const room = bytesMax - recordBytes(cutTo(0, names)) - 16;
    // Base64: four characters of three bytes.
    if (room >= 0) return [cutTo(Math.min(payload.length, Math.floor(room / 4) * 3), names)];
  }
  throw tooLarge(record, bytesMax, 'nothing is left to be cut');
}

export function splitCommand(record: Produced, bytesMax: number): Produced[] {
  return [
    quarantined({
      gateway: record.key,
      ...{ epoch: '', sequence: 0, index: 0, client: '' },
      topic: record.headers['topic'] ?? '',
      reason: `a message for a device is larger than Kafka's topic ${record.topic} takes of a record (${bytesMax} bytes): it was not sent; raise its max.message.bytes`,
      receivedMs: 0,
      payload: record.value,
    }),
  ];
}

/**
 * A record that a stage cannot take, as a quarantine record: with its bytes, up to 256 KiB of them, so that the
 * quarantine record never is what a log refuses. The reason names the place where all of it is.
 */
import { encodeQuarantined } from '../../shared/model/quarantine-record.ts';
import { TOPIC_QUARANTINE, type Produced, type StoredRecord } from '../log/log.ts';

const PAYLOAD_BYTES_MAX = 256 * 1024;
const REASON_CHARS_MAX = 2000;

export function asideRecord(record: StoredRecord, reason: string): Produced {
  const { key, value, headers } = record;
  const isCut = value.length > PAYLOAD_BYTES_MAX;
  const cut = `; the first ${PAYLOAD_BYTES_MAX} of its ${value.length} bytes are kept here`;
  const arrivedMs = Number(headers['arrived'] ?? 0);
  return {
    topic: TOPIC_QUARANTINE,
    key,
    headers: {},
    value: encodeQuarantined({
      gateway: key,
      epoch: '',
      sequence: 0,
      index: 0,
      client: '',
      topic: '',
      reason: `${reason.slice(0, REASON_CHARS_MAX)}${isCut ? cut : ''}`,
      receivedMs: Number.isFinite(arrivedMs) ? arrivedMs : 0,
      payload: isCut ? value.subarray(0, PAYLOAD_BYTES_MAX) : value,
    }),
  };
}

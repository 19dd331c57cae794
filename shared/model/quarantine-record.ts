/**
 * The `quarantine` topic's records, JSON: a message with its payload as it came (base64) and the reason; or that messages
 * of an epoch have been decoded after all (`resolved`: ranges of sequences, inclusive).
 */
import type { Range } from './ranges.ts';
import type { Quarantined } from './reading.ts';

export interface Resolved {
  gateway: string;
  epoch: string;
  resolved: Range[];
}

export function encodeQuarantined({ payload, ...item }: Quarantined): Buffer {
  return Buffer.from(JSON.stringify({ v: 1, ...item, payload: payload.toString('base64') }));
}

export function encodeResolved(resolved: Resolved): Buffer {
  return Buffer.from(JSON.stringify({ v: 1, ...resolved }));
}

export function decodeQuarantined(value: Buffer): Quarantined {
  const { payload, ...item } = JSON.parse(value.toString('utf8')) as Omit<
    Quarantined,
    'payload'
  > & { payload: string };
  return { ...item, payload: Buffer.from(payload, 'base64') };
}

/** Either of the two. */
export function decodeQuarantineRecord(value: Buffer): Quarantined | Resolved {
  const record = JSON.parse(value.toString('utf8')) as Partial<Resolved>;
  if (Array.isArray(record.resolved)) return record as Resolved;
  return decodeQuarantined(value);
}

export const isResolved = (record: Quarantined | Resolved): record is Resolved =>
  'resolved' in record;

/** The `quarantine` topic's record: JSON, with the payload as it came (base64) and the reason. */
import type { Quarantined } from './reading.ts';

export function encodeQuarantined({ payload, ...item }: Quarantined): Buffer {
  return Buffer.from(JSON.stringify({ v: 1, ...item, payload: payload.toString('base64') }));
}

export function decodeQuarantined(value: Buffer): Quarantined {
  const { payload, ...item } = JSON.parse(value.toString('utf8')) as Omit<
    Quarantined,
    'payload'
  > & { payload: string };
  return { ...item, payload: Buffer.from(payload, 'base64') };
}

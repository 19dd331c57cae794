/** What a store will never take, as quarantine records: one for a cause and what it struck of a gateway's epoch. */
import { encodeQuarantined } from '../../shared/model/quarantine-record.ts';
import type { Quarantined, Reading } from '../../shared/model/reading.ts';
import { TOPIC_QUARANTINE, type Produced, type StoredRecord } from '../log/log.ts';
import type { Change, Refused } from './store.ts';

/** Readings shown of those that were refused together. */
const SHOWN = 5;

const produced = (item: Quarantined): Produced => ({
  topic: TOPIC_QUARANTINE,
  key: item.gateway,
  headers: {},
  value: encodeQuarantined(item),
});

export function unreadableRecord({ key, value }: StoredRecord, reason: string): Produced {
  return produced({
    gateway: key,
    epoch: '',
    sequence: 0,
    index: 0,
    client: '',
    topic: '',
    reason,
    receivedMs: 0,
    payload: value,
  });
}

export function refusedRecords(refused: readonly Refused[]): Produced[] {
  return refused.flatMap(({ reason, changes }) => {
    const byEpoch = new Map<string, Change[]>();
    for (const change of changes) {
      const name = `${change.identity.gateway}/${change.identity.epoch}`;
      const list = byEpoch.get(name);
      if (list === undefined) byEpoch.set(name, [change]);
      else list.push(change);
    }
    return [...byEpoch.values()].map((list) => produced(itemOf(reason, list)));
  });
}

function itemOf(reason: string, changes: readonly Change[]): Quarantined {
  const readings = changes.flatMap(({ put }) => put ?? []);
  const [first] = changes as [Change]; // A list is made with one.
  const times = readings.map(({ timeMs }) => timeMs);
  const from = times.reduce((a, b) => Math.min(a, b), times[0] ?? 0);
  const to = times.reduce((a, b) => Math.max(a, b), times[0] ?? 0);
  const about =
    readings.length === 1
      ? readings[0]
      : { readings: readings.length, from, to, first: readings.slice(0, SHOWN) };
  const { tags } = readings[0] ?? ({ tags: {} } as Pick<Reading, 'tags'>);
  return {
    ...first.identity,
    client: tags['client'] ?? tags['device'] ?? '',
    topic: tags['topic'] ?? '',
    reason: readings.length > 1 ? `${reason} (${readings.length} readings)` : reason,
    receivedMs: to,
    payload: Buffer.from(JSON.stringify(about)),
  };
}

/** What records of readings change in a store, in order. */
import type { Reading, ReadingBatch } from '../../shared/model/reading.ts';
import { seriesName, type Change, type Identity } from './store.ts';

const identityOf = (
  { gateway, epoch }: Pick<ReadingBatch, 'gateway' | 'epoch'>,
  { sequence, index }: Reading,
): Identity => ({ gateway, epoch, sequence, index });

/** Removals of a record go before its readings: a message's readings may move among each other's places. */
export function changesOf(batches: readonly ReadingBatch[]): Change[] {
  const changes: Change[] = [];
  for (const batch of batches) {
    for (const reading of batch.removed ?? [])
      changes.push({ identity: identityOf(batch, reading), put: undefined, was: [reading] });
    for (const reading of batch.readings) {
      const change: Change = { identity: identityOf(batch, reading), put: reading };
      if (reading.was !== undefined) change.was = [{ ...reading, ...reading.was }];
      changes.push(change);
    }
  }
  return changes;
}

export const identityName = ({ gateway, epoch, sequence, index }: Identity): string =>
  `${gateway}/${epoch}/${sequence}/${index}`;

/**
 * One change of each identity: the last, which knows of all places before it. Readings come in order of their identity,
 * in which case there is nothing to look for; only out of order is every identity remembered.
 */
export function folded(changes: readonly Change[]): readonly Change[] {
  if (isAscending(changes)) return changes;
  const last = new Map<string, Change>();
  for (const change of changes) {
    const name = identityName(change.identity);
    const before = last.get(name);
    if (before === undefined) {
      last.set(name, change);
      continue;
    }
    // To the end: what is written last counts, as among other identities at one address.
    last.delete(name);
    const was = [...(before.was ?? []), ...(change.was ?? [])];
    if (before.put !== undefined && !isCovered(before.put, change.put)) was.push(before.put);
    last.set(name, { ...change, was });
  }
  return [...last.values()];
}

/** Whether writing one at its address leaves nothing of the other behind. */
function isCovered(old: Reading, now: Reading | undefined): boolean {
  return (
    now !== undefined &&
    old.timeMs === now.timeMs &&
    old.ns === now.ns &&
    (old.tags === now.tags ||
      seriesName({ ...old, field: '' }) === seriesName({ ...now, field: '' })) &&
    old.measurement === now.measurement &&
    Object.keys(old.fields).every((name) => Object.hasOwn(now.fields, name))
  );
}

function isAscending(changes: readonly Change[]): boolean {
  const last = new Map<string, Map<string, Identity>>();
  let gateway = '';
  let epoch = '';
  let before: Identity | undefined;
  for (const { identity } of changes) {
    if (before === undefined || identity.gateway !== gateway || identity.epoch !== epoch) {
      if (before !== undefined) remember(last, before);
      ({ gateway, epoch } = identity);
      before = last.get(gateway)?.get(epoch);
    }
    if (before !== undefined && !follows(identity, before)) return false;
    before = identity;
  }
  return true;
}

const follows = (a: Identity, b: Identity): boolean =>
  a.sequence > b.sequence || (a.sequence === b.sequence && a.index > b.index);

function remember(last: Map<string, Map<string, Identity>>, identity: Identity): void {
  let epochs = last.get(identity.gateway);
  if (epochs === undefined) last.set(identity.gateway, (epochs = new Map()));
  epochs.set(identity.epoch, identity);
}

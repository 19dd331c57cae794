/**
 * Gateways, one row each: what this process has heard of them, what the other collectors of this log say, and what it was
 * told when they were enrolled.
 */
import {
  BOOLEAN,
  INTEGER,
  NUMBER,
  TAGS,
  TEXT,
  listOf,
  maybe,
  object,
  orNull,
} from '../../shared/http/schema.ts';
import type { Member } from '../enroll/registry.ts';
import type { GatewaySeen } from '../ingest/receiver.ts';
import type { Declarations } from '../remote/declarations.ts';

type Said = Pick<Declarations, 'toldBy' | 'names' | 'stateOf'>;

export const FLEET = object({
  gateways: listOf({
    gateway: TEXT,
    connected: BOOLEAN,
    lastSeenMs: orNull(INTEGER),
    frames: { type: 'integer', description: 'Taken by the collector that answers.' },
    messages: { type: 'integer', description: 'Taken by the collector that answers.' },
    doubled: {
      type: 'boolean',
      description: 'Two machines have its identity, or call themselves so.',
    },
    enrolled: maybe({
      ...object({
        site: TEXT,
        labels: TAGS,
        atMs: INTEGER,
        revokedMs: orNull(INTEGER),
        certificate: maybe(object({ serial: TEXT, fromMs: INTEGER, toMs: INTEGER })),
      }),
      description: 'Left out for a gateway that was not enrolled here.',
    }),
    version: maybe({ ...TEXT, description: 'As its last status said; left out by older ones.' }),
    location: maybe({
      ...object({ latitude: NUMBER, longitude: NUMBER }),
      description: 'Degrees, where it says where it is.',
    }),
    config: maybe({
      ...object({
        state: { type: 'string', enum: ['applied', 'waiting', 'trying', 'refused', 'rolled back'] },
        revision: TEXT,
        why: maybe(TEXT),
      }),
      description: 'What became of the settings declared for it; left out where none are.',
    }),
  }),
});

function enrolledOf({ site, labels, enrolledMs, revokedMs, certificates }: Member): object {
  const newest = certificates.at(-1);
  return {
    site,
    labels,
    atMs: enrolledMs,
    revokedMs: revokedMs ?? null,
    ...(newest === undefined
      ? {}
      : { certificate: { serial: newest.serial, fromMs: newest.fromMs, toMs: newest.toMs } }),
  };
}

type Known = Pick<GatewaySeen, 'gateway' | 'connected' | 'lastSeenMs'>;

/** What is connected here is connected, whatever was said of it when it left another collector. */
function merged(seen: GatewaySeen | undefined, known: Known | undefined): object {
  const never = { connected: false, lastSeenMs: null, frames: 0, messages: 0 };
  if (known === undefined) return seen ?? never;
  return {
    ...(seen ?? never),
    connected: seen?.connected === true || known.connected,
    lastSeenMs: Math.max(seen?.lastSeenMs ?? 0, known.lastSeenMs),
  };
}

function saidOf(gateway: string, declarations: Said): object {
  const { about } = declarations.toldBy(gateway) ?? {};
  const [latitude, longitude] = about?.location ?? [];
  const config = declarations.stateOf(gateway);
  return {
    ...(about === undefined ? {} : { version: about.version }),
    ...(latitude === undefined ? {} : { location: { latitude, longitude } }),
    ...(config === undefined ? {} : { config }),
  };
}

/** `known` is what all collectors of this log say; `isDoubled` is what the uplink has noticed; the certificates know of it too. */
export function fleet(
  seen: readonly GatewaySeen[],
  known: readonly Known[],
  members: ReadonlyMap<string, Member>,
  isDoubled: (gateway: string) => boolean,
  declarations: Said,
): ({ gateway: string } & object)[] {
  const byName = new Map(seen.map((each) => [each.gateway, each]));
  const knownByName = new Map(known.map((each) => [each.gateway, each]));
  const all = [byName, knownByName, members].flatMap((each) => [...each.keys()]);
  const names = [...new Set([...all, ...declarations.names()])].sort();
  return names.map((gateway) => {
    const member = members.get(gateway);
    return {
      ...merged(byName.get(gateway), knownByName.get(gateway)),
      gateway,
      doubled: member?.doubled !== undefined || isDoubled(gateway),
      ...(member === undefined ? {} : { enrolled: enrolledOf(member) }),
      ...saidOf(gateway, declarations),
    };
  });
}

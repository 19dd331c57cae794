/**
 * Settings that are declared for gateways, and what of them counts for one. Pure: what is written where is `declarations.ts`.
 *
 * A target is `all`, `site:NAME`, `label:KEY=VALUE` or `gateway:NAME`; the more particular counts, key by key. A change that
 * is staged counts for its first gateways alone, until all of them run with it; for the rest what was declared before counts.
 */
import { createHash } from 'node:crypto';
import {
  BACK_AFTER_SECONDS,
  type RemoteConfig,
  type RemoteValues,
} from '../../shared/model/remote.ts';
import type { Member } from '../enroll/registry.ts';

interface Wish {
  settings: RemoteValues;
  /** Grows with each declaration for the target: the same settings declared again are tried again. */
  generation: number;
}

export interface Declaration {
  target: string;
  next: Wish;
  /** Of a staged change: what counts for those that do not have it yet. */
  before?: Wish;
  /** The first gateways of a staged change; empty: it is for all of the target at once. */
  first: readonly string[];
  released: boolean;
  backAfterSeconds: number;
  /** Epoch milliseconds. */
  atMs: number;
}

type Kind = 'all' | 'site' | 'label' | 'gateway';
const RANK: Record<Kind, number> = { all: 0, site: 1, label: 2, gateway: 3 };
const TARGET =
  /^(?:(all)|(site|gateway):([^\n]{1,128})|(label):([A-Za-z_][\w.-]{0,63}=[^,\n]{0,128}))$/;

/** Undefined for what is no target. */
export function targetOf(text: string): { kind: Kind; of: string } | undefined {
  const match = TARGET.exec(text);
  if (match === null) return undefined;
  const kind = (match[1] ?? match[2] ?? match[4]) as Kind; // As the expression has them.
  return { kind, of: match[3] ?? match[5] ?? '' };
}

/** `member` is what is known of it by enrolment. */
export function isFor(target: string, gateway: string, member: Member | undefined): boolean {
  const { kind, of } = targetOf(target) ?? { kind: 'gateway', of: '' };
  if (kind === 'all') return true;
  if (kind === 'gateway') return of === gateway;
  if (kind === 'site') return member !== undefined && member.site === of;
  const [key = '', ...rest] = of.split('=');
  return (
    member !== undefined &&
    Object.hasOwn(member.labels, key) &&
    member.labels[key] === rest.join('=')
  );
}

const rankOf = (target: string): number => RANK[targetOf(target)?.kind ?? 'all'];

/** What counts for a gateway; undefined: nothing was ever declared for it. */
export function configFor(
  gateway: string,
  member: Member | undefined,
  declarations: Iterable<Declaration>,
): RemoteConfig | undefined {
  const settings: Record<string, RemoteValues[string]> = {};
  const generations: string[] = [];
  let backAfterSeconds = BACK_AFTER_SECONDS.min;
  const own = [...declarations]
    .filter(({ target }) => isFor(target, gateway, member))
    .sort((a, b) => rankOf(a.target) - rankOf(b.target) || (a.target < b.target ? -1 : 1));
  for (const { target, next, before, first, released, backAfterSeconds: seconds } of own) {
    const wish = released || first.includes(gateway) ? next : before;
    if (wish === undefined) continue;
    Object.assign(settings, wish.settings);
    generations.push(`${target} ${wish.generation}`);
    backAfterSeconds = Math.max(backAfterSeconds, seconds);
  }
  if (generations.length === 0) return undefined;
  const text = JSON.stringify([gateway, Object.entries(settings).sort(), generations]);
  const revision = createHash('sha256').update(text).digest('hex').slice(0, 16);
  return { gateway, revision, settings, backAfterSeconds };
}

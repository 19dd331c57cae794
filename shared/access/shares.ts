/**
 * A limit that holds for all, of which nobody can take everything: one principal (the user where one is known, else the
 * address) may have half of what the others leave of it. However many take what they can, the next one still gets
 * something (Choudhury and Hahne 1998, dynamic queue length thresholds, α = 1), and what nobody else wants is not idle.
 * Nothing is ever taken back from those who have it: it comes free when they let go, or when what they left has expired.
 */
import { isIPv6 } from 'node:net';
import type { LimitName } from './limits.ts';

export class Share {
  readonly name: LimitName;
  readonly whole: number;
  used = 0;
  /** Times that somebody got nothing more. */
  refused = 0;
  private readonly held = new Map<string, number>();

  /** `name` is its row among the limits, without which it would be in no page, metric or test. */
  constructor(name: LimitName, whole: number) {
    this.name = name;
    this.whole = whole;
  }

  of(principal: string): number {
    return this.held.get(principal) ?? 0;
  }

  /** What the principal may still get now; less than 0 where others have come since it took. */
  room(principal: string): number {
    const own = this.of(principal);
    const others = this.used - own;
    return Math.min(Math.ceil((this.whole - others) / 2) - own, this.whole - this.used);
  }

  /** False, and counted, when it would be more than the principal's share. */
  take(principal: string, amount = 1): boolean {
    if (amount > this.room(principal)) {
      this.refused++;
      return false;
    }
    this.add(principal, amount);
    return true;
  }

  /** Without a question: what is there already, from before a restart. */
  add(principal: string, amount: number): void {
    this.used += amount;
    this.held.set(principal, this.of(principal) + amount);
  }

  /**
   * So much is used, whoever uses it. Where that is less than what was taken it comes free for everybody in proportion;
   * what nobody is known to have taken counts as everybody else's.
   */
  become(used: number): void {
    let taken = 0;
    for (const amount of this.held.values()) taken += amount;
    this.used = used;
    if (used >= taken) return;
    for (const [principal, amount] of this.held) {
      const left = Math.floor((amount * used) / taken);
      if (left > 0) this.held.set(principal, left);
      else this.held.delete(principal);
    }
  }

  /** Who has taken how much. */
  holders(): [principal: string, amount: number][] {
    return [...this.held];
  }

  give(principal: string, amount = 1): void {
    const left = this.of(principal) - amount;
    this.used -= amount;
    if (left > 0) this.held.set(principal, left);
    else this.held.delete(principal);
  }
}

/**
 * Who an address is, where nothing else is known: an IPv4 address, mapped or not, or the /64 of an IPv6 address, which
 * one household or server has whole.
 */
export function addressGroup(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  const [plain = ''] = address.split('%');
  if (!isIPv6(plain)) return address;
  if (plain.startsWith('::')) return plain;
  const [head = '', tail] = plain.split('::');
  const groups = head.split(':');
  if (tail !== undefined) {
    const rest = tail === '' ? [] : tail.split(':');
    while (groups.length + rest.length < 8) groups.push('0');
    groups.push(...rest);
  }
  return `${groups
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, '').toLowerCase())
    .join(':')}::/64`;
}

/** Whom something is counted against. A name cannot be taken for an address. */
export const principalOf = (user: string | undefined, address: string): string =>
  user === undefined ? `address ${addressGroup(address)}` : `user ${user}`;

/**
 * Which topics anybody on this gateway listens to. Most readings have no local subscriber; asking here first keeps
 * aedes's delivery out of their way.
 */
import { filterMatches } from '../../shared/mqtt/packets.ts';

/** Answers remembered for topics; cleared when a subscription changes. */
const CACHE_MAX = 10_000;

export class Subscriptions {
  private readonly byClient = new Map<string, Set<string>>();
  private readonly cache = new Map<string, boolean>();

  add(clientId: string, filters: Iterable<string>): void {
    let own = this.byClient.get(clientId);
    if (own === undefined) this.byClient.set(clientId, (own = new Set()));
    for (const filter of filters) own.add(filter);
    this.cache.clear();
  }

  remove(clientId: string, filters: Iterable<string>): void {
    const own = this.byClient.get(clientId);
    if (own === undefined) return;
    for (const filter of filters) own.delete(filter);
    if (own.size === 0) this.byClient.delete(clientId);
    this.cache.clear();
  }

  removeClient(clientId: string): void {
    if (this.byClient.delete(clientId)) this.cache.clear();
  }

  wanted(topic: string): boolean {
    if (this.byClient.size === 0) return false;
    const known = this.cache.get(topic);
    if (known !== undefined) return known;
    let wanted = false;
    for (const filters of this.byClient.values()) {
      for (const filter of filters) wanted ||= filterMatches(filter, topic);
      if (wanted) break;
    }
    if (this.cache.size >= CACHE_MAX) this.cache.clear();
    this.cache.set(topic, wanted);
    return wanted;
  }
}

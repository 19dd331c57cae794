/**
 * Which topics anybody on this gateway listens to. Most readings have no local subscriber; asking here first keeps
 * aedes's delivery out of their way. Filters are a trie of their levels, so that however many there are and however
 * they are made of wildcards, a topic looks at each node at most once.
 *
 * Bounded: clients with subscriptions, subscriptions, and levels of the trie. Each is counted for its principal (`Share`); a
 * level that several have is counted for the first of them, and for the next when that one has let go. A subscription is
 * counted for each who has it, since each holds its text, and a shared one under each of its names: a broker keeps them apart.
 */
import type { Share } from '../../shared/access/shares.ts';
import { Remembered } from '../../shared/model/remembered.ts';
import { sharedFilter } from '../mqtt5/topics.ts';

/** Answers remembered for topics; cleared when a subscription changes. */
const CACHE_MAX = 10_000;
/** A filter with more text than this counts as several. */
const TEXT_CHARS = 256;

interface Node {
  /** Filters that end here. */
  count: number;
  /** Most nodes end a filter and have none. */
  children: Map<string, Node> | undefined;
  /** For whom it is counted, and filters of theirs that pass here. */
  owner: string;
  owned: number;
  /** The same of others: most levels have none. */
  others: Map<string, number> | undefined;
}

const freshNode = (owner: string): Node => ({
  count: 0,
  children: undefined,
  owner,
  owned: 0,
  others: undefined,
});

interface Own {
  principal: string;
  /** As the client gave them, `$share/…` included. */
  filters: Set<string>;
  /** As they count. */
  weight: number;
}

/** What limits a trie of filters. */
export interface SubscriptionShares {
  sessions: Share;
  subscriptions: Share;
  subscriptionLevels: Share;
}

const levelsOf = (filter: string): string[] => (sharedFilter(filter) ?? filter).split('/');
const weightOf = (filter: string): number => 1 + Math.floor(filter.length / TEXT_CHARS);

const NONE: ReadonlySet<string> = new Set();

export class Subscriptions {
  private readonly byClient = new Map<string, Own>();
  private readonly root = freshNode('');
  private readonly cache = new Remembered<boolean>(CACHE_MAX);
  private readonly sessions: Share;
  private readonly subscriptions: Share;
  private readonly levels: Share;

  constructor({ sessions, subscriptions, subscriptionLevels }: SubscriptionShares) {
    this.sessions = sessions;
    this.subscriptions = subscriptions;
    this.levels = subscriptionLevels;
  }

  clients(): string[] {
    return [...this.byClient.keys()];
  }

  has(clientId: string): boolean {
    return this.byClient.has(clientId);
  }

  of(clientId: string): ReadonlySet<string> {
    return this.byClient.get(clientId)?.filters ?? NONE;
  }

  /** What the client has, with this one; a single one is never too long. */
  wouldHave(clientId: string, filter: string): number {
    const own = this.byClient.get(clientId);
    if (own === undefined) return 1;
    return own.filters.has(filter) ? 0 : own.weight + weightOf(filter);
  }

  /**
   * False, and nothing is kept, when the principal's share of sessions, subscriptions or levels is reached. `isThere`: it is
   * one of a session of before a restart, which is nobody's to refuse any more.
   */
  add(clientId: string, principal: string, filter: string, isThere = false): boolean {
    let own = this.byClient.get(clientId);
    if (own?.filters.has(filter) === true) return true;
    const levels = levelsOf(filter);
    const weight = weightOf(filter);
    const isNew = own === undefined;
    if (!isThere && !this.hasRoom(own?.principal ?? principal, levels, weight, isNew)) return false;
    if (own === undefined) {
      this.sessions.add(principal, 1);
      this.byClient.set(clientId, (own = { principal, filters: new Set(), weight: 0 }));
    }
    own.filters.add(filter);
    own.weight += weight;
    this.subscriptions.add(own.principal, weight);
    let node = this.root;
    for (const level of levels) {
      node.children ??= new Map();
      let child = node.children.get(level);
      if (child === undefined) {
        node.children.set(level, (child = freshNode(own.principal)));
        this.levels.add(own.principal, 1);
      }
      node = child;
      if (node.owner === own.principal) node.owned++;
      else {
        node.others ??= new Map();
        node.others.set(own.principal, (node.others.get(own.principal) ?? 0) + 1);
      }
    }
    node.count++;
    this.cache.clear();
    return true;
  }

  private hasRoom(
    principal: string,
    levels: readonly string[],
    weight: number,
    isNew: boolean,
  ): boolean {
    const asked: [Share, number][] = [
      [this.sessions, isNew ? 1 : 0],
      [this.subscriptions, weight],
      [this.levels, this.missing(levels)],
    ];
    const full = asked.flatMap(([share, wanted]) =>
      wanted > 0 && share.room(principal) < wanted ? [share] : [],
    );
    for (const share of full) share.refused++;
    return full.length === 0;
  }

  /** Levels that are in nobody's filter yet. */
  private missing(levels: readonly string[]): number {
    let node: Node | undefined = this.root;
    for (const [index, level] of levels.entries()) {
      node = node.children?.get(level);
      if (node === undefined) return levels.length - index;
    }
    return 0;
  }

  remove(clientId: string, filters: Iterable<string>): void {
    const own = this.byClient.get(clientId);
    if (own === undefined) return;
    for (const filter of filters) {
      if (!own.filters.delete(filter)) continue;
      own.weight -= weightOf(filter);
      this.subscriptions.give(own.principal, weightOf(filter));
      this.prune(filter, own.principal);
    }
    if (own.filters.size === 0) {
      this.byClient.delete(clientId);
      this.sessions.give(own.principal);
    }
    this.cache.clear();
  }

  removeClient(clientId: string): void {
    this.remove(clientId, [...this.of(clientId)]);
  }

  private prune(filter: string, principal: string): void {
    const levels = levelsOf(filter);
    const path: Node[] = [this.root];
    for (const level of levels) {
      const child = path.at(-1)?.children?.get(level);
      if (child === undefined) return;
      path.push(child);
    }
    (path.at(-1) as Node).count--; // The root at least is in it.
    for (let index = levels.length; index > 0; index--) {
      const node = path[index] as Node; // One node a level, and the root.
      this.letGo(node, principal);
      if (node.count > 0 || (node.children?.size ?? 0) > 0) continue;
      path[index - 1]?.children?.delete(levels[index - 1] as string);
      this.levels.give(node.owner);
    }
  }

  /** One filter less of the principal's; a level that others still have is theirs from now on. */
  private letGo(node: Node, principal: string): void {
    if (node.owner !== principal) {
      const left = (node.others?.get(principal) ?? 1) - 1;
      if (left > 0) node.others?.set(principal, left);
      else node.others?.delete(principal);
      return;
    }
    if (--node.owned > 0) return;
    const [next] = node.others ?? [];
    if (next === undefined) return;
    node.others?.delete(next[0]);
    this.levels.give(node.owner);
    [node.owner, node.owned] = next;
    this.levels.add(node.owner, 1);
  }

  wanted(topic: string): boolean {
    if (this.byClient.size === 0) return false;
    const known = this.cache.get(topic);
    if (known !== undefined) return known;
    const wanted = this.match(topic);
    this.cache.set(topic, wanted);
    return wanted;
  }

  /** [MQTT-4.7.1] [MQTT-4.7.2-1] */
  private match(topic: string): boolean {
    const isHidden = topic.startsWith('$');
    let nodes: Node[] = [this.root];
    for (const [index, level] of topic.split('/').entries()) {
      const next: Node[] = [];
      const wild = index > 0 || !isHidden;
      for (const { children } of nodes) {
        if (children === undefined) continue;
        if (wild && (children.get('#')?.count ?? 0) > 0) return true;
        const same = children.get(level);
        const any = wild ? children.get('+') : undefined;
        if (same !== undefined) next.push(same);
        if (any !== undefined && any !== same) next.push(any);
      }
      if (next.length === 0) return false;
      nodes = next;
    }
    // "a/#" matches "a" as well.
    return nodes.some(({ count, children }) => count > 0 || (children?.get('#')?.count ?? 0) > 0);
  }
}

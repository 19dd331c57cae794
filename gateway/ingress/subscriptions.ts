/**
 * Which topics anybody on this gateway listens to. Most readings have no local subscriber; asking here first keeps
 * aedes's delivery out of their way. Filters are a trie of their levels, so that however many there are and however
 * they are made of wildcards, a topic looks at each node at most once.
 */

/** Answers remembered for topics; cleared when a subscription changes. */
const CACHE_MAX = 10_000;

interface Node {
  /** Filters that end here. */
  count: number;
  /** Most nodes end a filter and have none. */
  children: Map<string, Node> | undefined;
}

const freshNode = (): Node => ({ count: 0, children: undefined });

export class Subscriptions {
  private readonly byClient = new Map<string, Set<string>>();
  private readonly root = freshNode();
  private readonly cache = new Map<string, boolean>();
  private levels = 0;

  /** Clients with a subscription. */
  get clientCount(): number {
    return this.byClient.size;
  }

  /** Levels of all filters, beginnings that they share counted once. */
  get levelCount(): number {
    return this.levels;
  }

  has(clientId: string): boolean {
    return this.byClient.has(clientId);
  }

  of(clientId: string): ReadonlySet<string> {
    return this.byClient.get(clientId) ?? new Set();
  }

  add(clientId: string, filters: Iterable<string>): void {
    let own = this.byClient.get(clientId);
    if (own === undefined) this.byClient.set(clientId, (own = new Set()));
    for (const filter of filters) {
      if (own.has(filter)) continue;
      own.add(filter);
      let node = this.root;
      for (const level of filter.split('/')) {
        node.children ??= new Map();
        let child = node.children.get(level);
        if (child === undefined) {
          node.children.set(level, (child = freshNode()));
          this.levels++;
        }
        node = child;
      }
      node.count++;
    }
    this.cache.clear();
  }

  remove(clientId: string, filters: Iterable<string>): void {
    const own = this.byClient.get(clientId);
    if (own === undefined) return;
    for (const filter of filters) if (own.delete(filter)) this.prune(filter);
    if (own.size === 0) this.byClient.delete(clientId);
    this.cache.clear();
  }

  removeClient(clientId: string): void {
    this.remove(clientId, [...this.of(clientId)]);
  }

  private prune(filter: string): void {
    const levels = filter.split('/');
    const path: Node[] = [this.root];
    for (const level of levels) {
      const child = path.at(-1)?.children?.get(level);
      if (child === undefined) return;
      path.push(child);
    }
    (path.at(-1) as Node).count--; // The root at least is in it.
    for (let index = levels.length; index > 0; index--) {
      const node = path[index] as Node; // One node a level, and the root.
      if (node.count > 0 || (node.children?.size ?? 0) > 0) return;
      path[index - 1]?.children?.delete(levels[index - 1] as string);
      this.levels--;
    }
  }

  wanted(topic: string): boolean {
    if (this.byClient.size === 0) return false;
    const known = this.cache.get(topic);
    if (known !== undefined) return known;
    const wanted = this.match(topic);
    if (this.cache.size >= CACHE_MAX) this.cache.clear();
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

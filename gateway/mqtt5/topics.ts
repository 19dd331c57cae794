/**
 * Which subscriptions a topic matches: a trie of the filters' levels, so that a topic looks at each node at most once.
 * Shared subscriptions of one name and filter are a group, of which one member gets each message [MQTT-4.8.2-4].
 */
import { Remembered } from '../../shared/model/remembered.ts';

export interface Subscription<S> {
  session: S;
  /** As the client gave it, `$share/…` included. */
  filter: string;
  qos: number;
  noLocal: boolean;
  retainAsPublished: boolean;
  /** Subscription identifier; undefined: none. */
  id: number | undefined;
}

export interface Group<S> {
  /** `$share/NAME/FILTER`. */
  name: string;
  members: Map<S, Subscription<S>>;
  /** Whose turn it is, counted up for ever. */
  turn: number;
}

interface Node<S> {
  children: Map<string, Node<S>>;
  plain: Map<S, Subscription<S>>;
  groups: Map<string, Group<S>>;
}

const freshNode = <S>(): Node<S> => ({ children: new Map(), plain: new Map(), groups: new Map() });

/** The parts of `$share/NAME/FILTER`, or undefined for what is none [MQTT-4.8.2-1] [MQTT-4.8.2-2]. */
export function sharedParts(filter: string): { name: string; filter: string } | undefined {
  const [, name, heard] = /^\$share\/([^/+#]+)\/(.+)$/s.exec(filter) ?? [];
  return name === undefined || heard === undefined ? undefined : { name, filter: heard };
}

export const sharedFilter = (filter: string): string | undefined => sharedParts(filter)?.filter;

export interface Matched<S> {
  readonly plain: readonly Subscription<S>[];
  readonly groups: readonly Group<S>[];
}

/** `S`: whose subscriptions they are. */
export class Topics<S> {
  private readonly root = freshNode<S>();
  /** Answers for topics, until a subscription changes: devices say the same topics again and again. */
  private readonly known: Remembered<Matched<S>>;

  /** `knownMax`: answers that are remembered. */
  constructor(knownMax: number) {
    this.known = new Remembered(knownMax);
  }

  /** Adds or replaces [MQTT-3.8.4-3]. */
  add(subscription: Subscription<S>): void {
    this.known.clear();
    const { filter, session } = subscription;
    const node = this.path(sharedFilter(filter) ?? filter);
    if (!filter.startsWith('$share/')) {
      node.plain.set(session, subscription);
      return;
    }
    let group = node.groups.get(filter);
    if (group === undefined)
      node.groups.set(filter, (group = { name: filter, members: new Map(), turn: 0 }));
    group.members.set(session, subscription);
  }

  private path(filter: string): Node<S> {
    let node = this.root;
    for (const level of filter.split('/')) {
      let child = node.children.get(level);
      if (child === undefined) node.children.set(level, (child = freshNode<S>()));
      node = child;
    }
    return node;
  }

  remove({ filter, session }: Subscription<S>): void {
    this.known.clear();
    const levels = (sharedFilter(filter) ?? filter).split('/');
    const path = [this.root];
    for (const level of levels) {
      const child = path.at(-1)?.children.get(level);
      if (child === undefined) return;
      path.push(child);
    }
    const last = path.at(-1) ?? this.root;
    const group = last.groups.get(filter);
    if (group !== undefined) {
      group.members.delete(session);
      if (group.members.size === 0) last.groups.delete(filter);
    } else last.plain.delete(session);
    for (let index = levels.length; index > 0; index--) {
      const node = path[index];
      if (node === undefined || node.plain.size + node.groups.size + node.children.size > 0) return;
      path[index - 1]?.children.delete(levels[index - 1] ?? '');
    }
  }

  /** The group of a shared subscription, as long as it has members. */
  group(name: string): Group<S> | undefined {
    let node: Node<S> | undefined = this.root;
    for (const level of (sharedFilter(name) ?? name).split('/')) {
      node = node.children.get(level);
      if (node === undefined) return undefined;
    }
    return node.groups.get(name);
  }

  /** [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.2-1] */
  match(topic: string): Matched<S> {
    const known = this.known.get(topic);
    if (known !== undefined) return known;
    const found = this.find(topic);
    this.known.set(topic, found);
    return found;
  }

  private find(topic: string): Matched<S> {
    const found: { plain: Subscription<S>[]; groups: Group<S>[] } = { plain: [], groups: [] };
    const take = (node: Node<S> | undefined): void => {
      if (node === undefined) return;
      found.plain.push(...node.plain.values());
      found.groups.push(...node.groups.values());
    };
    const isHidden = topic.startsWith('$');
    let nodes = [this.root];
    for (const [index, level] of topic.split('/').entries()) {
      const next: Node<S>[] = [];
      for (const { children } of nodes) {
        if (children.size === 0) continue;
        const same = children.get(level);
        if (same !== undefined) next.push(same);
        if (index === 0 && isHidden) continue;
        take(children.get('#'));
        const any = children.get('+');
        if (any !== undefined && level !== '+') next.push(any);
      }
      if (next.length === 0) return found;
      nodes = next;
    }
    for (const node of nodes) {
      take(node);
      // "a/#" matches "a" as well.
      take(node.children.get('#'));
    }
    return found;
  }
}

/** What a heap retains more of than before, by what holds it: two snapshots of V8, compared. */
import { readFileSync } from 'node:fs';

interface Snapshot {
  snapshot: {
    meta: {
      node_fields: string[];
      node_types: [string[], ...unknown[]];
      edge_fields: string[];
      edge_types: [string[], ...unknown[]];
    };
  };
  nodes: number[];
  edges: number[];
  strings: string[];
}

export interface Kept {
  count: number;
  bytes: number;
}

/** So many steps from a thing to who holds it. */
const HOPS = 3;
/** Their names are their contents. */
const NAMELESS = new Set(['string', 'concatenated string', 'sliced string', 'number']);

class Heap {
  private readonly given: Snapshot;
  private readonly width: number;
  private readonly edgeWidth: number;
  private readonly at: Record<'type' | 'name' | 'self_size' | 'edge_count', number>;
  private readonly count: number;
  private readonly first: Uint32Array;
  /** Of each node, who holds it on the shortest way from the root, and by which edge. */
  private readonly holder: Int32Array;
  private readonly by: Int32Array;

  constructor(path: string) {
    this.given = JSON.parse(readFileSync(path, 'utf8')) as Snapshot;
    const { node_fields: fields, edge_fields: edgeFields } = this.given.snapshot.meta;
    this.width = fields.length;
    this.edgeWidth = edgeFields.length;
    const of = (name: string): number => fields.indexOf(name);
    this.at = {
      type: of('type'),
      name: of('name'),
      self_size: of('self_size'),
      edge_count: of('edge_count'),
    };
    this.count = this.given.nodes.length / this.width;
    this.first = new Uint32Array(this.count + 1);
    for (let node = 0; node < this.count; node++)
      this.first[node + 1] = (this.first[node] ?? 0) + this.field(node, 'edge_count');
    this.holder = new Int32Array(this.count).fill(-1);
    this.by = new Int32Array(this.count).fill(-1);
    this.walk();
  }

  private field(node: number, name: keyof Heap['at']): number {
    return this.given.nodes[node * this.width + this.at[name]] ?? 0;
  }

  private edge(at: number, part: 0 | 1 | 2): number {
    return this.given.edges[at * this.edgeWidth + part] ?? 0;
  }

  private edgeType(at: number): string {
    return this.given.snapshot.meta.edge_types[0][this.edge(at, 0)] ?? '';
  }

  private walk(): void {
    this.holder[0] = 0;
    let ring = [0];
    while (ring.length > 0) {
      const next: number[] = [];
      for (const node of ring)
        for (let at = this.first[node] ?? 0; at < (this.first[node + 1] ?? 0); at++) {
          const to = this.edge(at, 2) / this.width;
          if (this.edgeType(at) === 'weak' || this.holder[to] !== -1) continue;
          this.holder[to] = node;
          this.by[to] = at;
          next.push(to);
        }
      ring = next;
    }
  }

  private name(node: number): string {
    const type = this.given.snapshot.meta.node_types[0][this.field(node, 'type')] ?? '';
    const name = this.given.strings[this.field(node, 'name')] ?? '';
    return NAMELESS.has(type) || name === '' ? type : name.slice(0, 30);
  }

  private edgeName(at: number): string {
    const type = this.edgeType(at);
    const name = this.given.strings[this.edge(at, 1)] ?? '';
    return type === 'element' || type === 'hidden' || /^\d+$/.test(name) ? '[]' : name.slice(0, 30);
  }

  /** Way to who holds it → how many there are, and their bytes. */
  kinds(): Map<string, Kept> {
    const kinds = new Map<string, Kept>();
    for (let node = 1; node < this.count; node++) {
      const type = this.given.snapshot.meta.node_types[0][this.field(node, 'type')];
      // Compiled code comes and goes.
      if (type === 'code' || this.holder[node] === -1) continue;
      let way = this.name(node);
      for (let hop = 0, up = node; hop < HOPS && up !== 0; hop++) {
        const holder = this.holder[up] ?? 0;
        way += ` < ${this.name(holder)}.${this.edgeName(this.by[up] ?? 0)}`;
        up = holder;
      }
      const kept = kinds.get(way) ?? { count: 0, bytes: 0 };
      kinds.set(way, kept);
      kept.count++;
      kept.bytes += this.field(node, 'self_size');
    }
    return kinds;
  }
}

/** The kinds that take most more in `after` than in `before`, the largest first. */
export function grownKinds(before: string, after: string, most = 12): [way: string, Kept][] {
  const [old, now] = [new Heap(before).kinds(), new Heap(after).kinds()];
  return [...now]
    .map(([way, { count, bytes }]): [string, Kept] => {
      const was = old.get(way) ?? { count: 0, bytes: 0 };
      return [way, { count: count - was.count, bytes: bytes - was.bytes }];
    })
    .filter(([, { bytes }]) => bytes > 0)
    .sort(([, a], [, b]) => b.bytes - a.bytes)
    .slice(0, most);
}

/**
 * How many series one device, and one gateway, may bring into the stores. A device that puts a number into a tag would
 * otherwise make a new series with every message and take the store down for everybody (the pain that high cardinality
 * is known for). What would be one series too many goes to quarantine; raw has it, and a mapping can put it right.
 *
 * A series is counted by a 32-bit hash of its measurement and tags: among 100,000 of one device about one is taken for
 * another, which counts one too few. The hashes are part of the codec state, so the count survives restarts.
 */
import { Undecodable } from '../../shared/codecs/codec.ts';
import type { CodecState } from './codecs/context.ts';

export interface SeriesLimits {
  perClient: number;
  perGateway: number;
}

/** Hashes in one entry of the state: only the entry that grows is written. */
const CHUNK = 4096;

interface Count {
  hashes: Set<number>;
  /** Of the chunk that grows. */
  chunk: number[];
  chunkIndex: number;
}

/** FNV-1a. */
function hashOf(measurement: string, tags: Record<string, string>): number {
  let hash = 0x811c9dc5;
  const text = `${measurement}\0${Object.entries(tags)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .join('\0')}`;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

const keyOf = (client: string, index: number): string => `series/${index}/${client}`;

export class Cardinality {
  private readonly limits: SeriesLimits;
  private readonly byState = new WeakMap<
    CodecState,
    { clients: Map<string, Count>; total: number }
  >();
  /** Tag sets that were admitted, by identity: what repeats costs one look-up. */
  private readonly admitted = new WeakMap<
    Record<string, string>,
    { client: string; measurement: string }
  >();

  constructor(limits: SeriesLimits) {
    this.limits = limits;
  }

  private count(state: CodecState, client: string): { count: Count; all: { total: number } } {
    let all = this.byState.get(state);
    if (all === undefined) this.byState.set(state, (all = { clients: new Map(), total: 0 }));
    let count = all.clients.get(client);
    if (count === undefined) {
      count = { hashes: new Set(), chunk: [], chunkIndex: 0 };
      for (let index = 0; ; index++) {
        const chunk = state.get(keyOf(client, index));
        if (!Array.isArray(chunk)) break;
        for (const hash of chunk as number[]) count.hashes.add(hash);
        count.chunk = chunk as number[];
        count.chunkIndex = index;
      }
      all.clients.set(client, count);
      all.total += count.hashes.size;
    }
    return { count, all };
  }

  /** Counts a series that is new. Throws Undecodable when it would be one too many. */
  admit(
    state: CodecState,
    client: string,
    measurement: string,
    tags: Record<string, string>,
  ): void {
    const before = this.admitted.get(tags);
    if (before?.client === client && before.measurement === measurement) return;
    const { count, all } = this.count(state, client);
    const hash = hashOf(measurement, tags);
    if (!count.hashes.has(hash)) {
      const { perClient, perGateway } = this.limits;
      if (count.hashes.size >= perClient)
        throw new Undecodable(
          `client '${client}' has ${perClient} series already (decode.seriesPerClientMax); a new one would be too many`,
        );
      if (all.total >= perGateway)
        throw new Undecodable(
          `its gateway has ${perGateway} series already (decode.seriesPerGatewayMax); a new one would be too many`,
        );
      count.hashes.add(hash);
      all.total++;
      if (count.chunk.length >= CHUNK) {
        count.chunk = [];
        count.chunkIndex++;
      }
      count.chunk.push(hash);
      state.set(keyOf(client, count.chunkIndex), count.chunk);
    }
    this.admitted.set(tags, { client, measurement });
  }
}

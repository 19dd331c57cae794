/**
 * What codecs with state remember (Sparkplug's aliases, Homie's data types, discovery), per gateway. It is loaded from
 * the ledger topic, and what changed in a step is committed with that step's readings, so that nothing is decoded with a
 * state that could be lost. Bounded in entries and characters: of one gateway the entries used longest ago give way. A
 * key that a log could not take (a device can name a topic of any length) is kept by its hash.
 */
import { createHash } from 'node:crypto';
import { Undecodable } from '../../shared/codecs/codec.ts';
import type { CodecState } from './codecs/context.ts';

export const CODEC_PREFIX = 'codec/';
const ENTRIES_MAX = 20_000;
const VALUE_CHARS_MAX = 256 * 1024;
/** Of one gateway. */
const ALL_CHARS_MAX = 64 * 1024 * 1024;
const KEY_CHARS_MAX = 1024;
const NOTHING = Buffer.alloc(0);

const keyOf = (key: string): string =>
  key.length <= KEY_CHARS_MAX ? key : `#${createHash('sha256').update(key).digest('hex')}`;

interface Entry {
  value: unknown;
  chars: number;
}

class GatewayState implements CodecState {
  private readonly entries = new Map<string, Entry>();
  private chars = 0;
  readonly changed = new Set<string>();

  get(given: string): unknown {
    const key = keyOf(given);
    const entry = this.entries.get(key);
    if (entry === undefined) return undefined;
    // The order of a Map is that of use: the first one gives way.
    this.entries.delete(key);
    this.entries.set(key, entry);
    return entry.value;
  }

  set(given: string, value: unknown): void {
    const chars = value === undefined ? 0 : JSON.stringify(value).length;
    if (chars > VALUE_CHARS_MAX)
      throw new Undecodable(`it describes more than ${VALUE_CHARS_MAX} characters can hold`);
    const key = keyOf(given);
    this.put(key, value, chars);
    this.changed.add(key);
    while (this.entries.size > ENTRIES_MAX || this.chars > ALL_CHARS_MAX) {
      const [oldest] = this.entries.keys();
      if (oldest === undefined) return;
      this.put(oldest, undefined, 0);
      this.changed.add(oldest);
    }
  }

  /** By the key as it is kept. */
  put(key: string, value: unknown, chars: number): void {
    this.chars += chars - (this.entries.get(key)?.chars ?? 0);
    this.entries.delete(key);
    if (value !== undefined) this.entries.set(key, { value, chars });
  }

  keys(prefix: string): readonly string[] {
    return [...this.entries.keys()].filter((key) => key.startsWith(prefix));
  }

  kept(key: string): unknown {
    return this.entries.get(key)?.value;
  }
}

/** Reads, and keeps nothing: for messages that are decoded once more. */
export class FrozenState implements CodecState {
  private readonly state: CodecState;
  constructor(state: CodecState) {
    this.state = state;
  }
  get(key: string): unknown {
    return this.state.get(key);
  }
  keys(prefix: string): readonly string[] {
    return this.state.keys(prefix);
  }
  set(): void {
    // What this message said was taken when it was decoded first.
  }
}

export class CodecStates {
  private readonly gateways = new Map<string, GatewayState>();

  of(gateway: string): CodecState {
    let state = this.gateways.get(gateway);
    if (state === undefined) this.gateways.set(gateway, (state = new GatewayState()));
    return state;
  }

  /** An entry of the ledger topic. */
  load(key: string, value: Buffer): void {
    const [gateway = '', ...rest] = key.slice(CODEC_PREFIX.length).split('/');
    const state = this.of(gateway) as GatewayState; // Made above.
    state.put(rest.join('/'), JSON.parse(value.toString('utf8')), value.length);
  }

  /** What has changed since the last call, as entries of the ledger topic. */
  takeChanges(): { key: string; value: Buffer }[] {
    const changes: { key: string; value: Buffer }[] = [];
    for (const [gateway, state] of this.gateways) {
      const { changed } = state;
      for (const key of changed) {
        const value = state.kept(key);
        changes.push({
          key: `${CODEC_PREFIX}${gateway}/${key}`,
          value: value === undefined ? NOTHING : Buffer.from(JSON.stringify(value)),
        });
      }
      changed.clear();
    }
    return changes;
  }
}

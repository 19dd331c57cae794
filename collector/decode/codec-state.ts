/**
 * What codecs with state remember (Sparkplug's aliases, Homie's data types, discovery), per gateway. It is loaded from
 * the ledger topic, and what changed in a step is committed with that step's readings, so that nothing is decoded with a
 * state that could be lost. Bounded: of one gateway the entries used longest ago give way.
 */
import { Undecodable } from '../../shared/codecs/codec.ts';
import type { CodecState } from './codecs/context.ts';

export const CODEC_PREFIX = 'codec/';
const ENTRIES_MAX = 20_000;
const VALUE_CHARS_MAX = 256 * 1024;
const NOTHING = Buffer.alloc(0);

class GatewayState implements CodecState {
  readonly values = new Map<string, unknown>();
  readonly changed = new Set<string>();

  get(key: string): unknown {
    const value = this.values.get(key);
    if (value !== undefined) {
      // The order of a Map is that of use: the first one gives way.
      this.values.delete(key);
      this.values.set(key, value);
    }
    return value;
  }

  set(key: string, value: unknown): void {
    if (value !== undefined && JSON.stringify(value).length > VALUE_CHARS_MAX)
      throw new Undecodable(`it describes more than ${VALUE_CHARS_MAX} characters can hold`);
    this.values.delete(key);
    if (value !== undefined) this.values.set(key, value);
    this.changed.add(key);
    while (this.values.size > ENTRIES_MAX) {
      const [oldest] = this.values.keys();
      if (oldest === undefined) return;
      this.values.delete(oldest);
      this.changed.add(oldest);
    }
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
    state.values.set(rest.join('/'), JSON.parse(value.toString('utf8')));
  }

  /** What has changed since the last call, as entries of the ledger topic. */
  takeChanges(): { key: string; value: Buffer }[] {
    const changes: { key: string; value: Buffer }[] = [];
    for (const [gateway, { values, changed }] of this.gateways) {
      for (const key of changed) {
        const value = values.get(key);
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

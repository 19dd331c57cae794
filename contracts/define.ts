/**
 * What a package exports so that Headwater finds it: `export default defineLog({…})`, or several of them by name. Each
 * names the contract's version that it was written for, its options, what it supports, and how one is made.
 *
 * `create` does no I/O; `open()` of what it returns does.
 */
import {
  BATCH_ENGINE_CONTRACT_VERSION,
  type BatchEngine,
  type BatchEngineSupports,
} from './batch-engine.ts';
import { CODEC_CONTRACT_VERSION, type Codec, type CodecSupports } from './codec.ts';
import type { AdapterContext } from './context.ts';
import type { Log, LogContext, LogSupports } from './log.ts';
import { LOG_CONTRACT_VERSION } from './log.ts';
import { OBJECT_STORE_CONTRACT_VERSION, type ObjectStore } from './object-store.ts';
import type { OptionsSpec } from './options.ts';
import { STORE_CONTRACT_VERSION, type StoreSupports, type TimeSeriesStore } from './store.ts';

/** On every definition, whichever copy of this package made it. */
export const ADAPTER: unique symbol = Symbol.for('headwater.adapter');

export const KINDS = ['log', 'store', 'objectStore', 'codec', 'batchEngine'] as const;
export type Kind = (typeof KINDS)[number];

export interface Definition<
  K extends Kind,
  O extends OptionsSpec,
  Supports extends object,
  Context extends AdapterContext<O>,
  Instance,
> {
  kind: K;
  /** Version of the contract that it was written for. */
  contract: number;
  /** Before `://`, and before its options: lower case letters, digits and hyphens. */
  name: string;
  about: string;
  options: O;
  supports: Supports;
  create(context: Context): Instance;
}

/** A definition of whatever options, as a loader sees it. */
export interface AnyDefinition {
  readonly [ADAPTER]: true;
  kind: Kind;
  contract: number;
  name: string;
  about: string;
  options: OptionsSpec;
  supports: object;
  create(context: AdapterContext): unknown;
}

type Defined<D> = D & { readonly [ADAPTER]: true };
type Given<D extends { kind: unknown; contract: unknown }> = Omit<D, 'kind' | 'contract'> & {
  contract?: number;
};

export type LogDefinition<O extends OptionsSpec = OptionsSpec> = Definition<
  'log',
  O,
  LogSupports,
  LogContext<O>,
  Log
>;

export function defineLog<const O extends OptionsSpec>(
  definition: Given<LogDefinition<O>>,
): Defined<LogDefinition<O>> {
  return { contract: LOG_CONTRACT_VERSION, ...definition, kind: 'log', [ADAPTER]: true };
}

export type ObjectStoreDefinition<O extends OptionsSpec = OptionsSpec> = Definition<
  'objectStore',
  O,
  object,
  AdapterContext<O>,
  ObjectStore
>;

export function defineObjectStore<const O extends OptionsSpec>(
  definition: Given<ObjectStoreDefinition<O>>,
): Defined<ObjectStoreDefinition<O>> {
  return {
    contract: OBJECT_STORE_CONTRACT_VERSION,
    ...definition,
    kind: 'objectStore',
    [ADAPTER]: true,
  };
}

export type StoreDefinition<O extends OptionsSpec = OptionsSpec> = Definition<
  'store',
  O,
  StoreSupports,
  AdapterContext<O>,
  TimeSeriesStore
>;

export function defineStore<const O extends OptionsSpec>(
  definition: Given<StoreDefinition<O>>,
): Defined<StoreDefinition<O>> {
  return { contract: STORE_CONTRACT_VERSION, ...definition, kind: 'store', [ADAPTER]: true };
}

export type CodecDefinition<O extends OptionsSpec = OptionsSpec> = Definition<
  'codec',
  O,
  CodecSupports,
  AdapterContext<O>,
  Codec
>;

export function defineCodec<const O extends OptionsSpec>(
  definition: Given<CodecDefinition<O>>,
): Defined<CodecDefinition<O>> {
  return { contract: CODEC_CONTRACT_VERSION, ...definition, kind: 'codec', [ADAPTER]: true };
}

export type BatchEngineDefinition<O extends OptionsSpec = OptionsSpec> = Definition<
  'batchEngine',
  O,
  BatchEngineSupports,
  AdapterContext<O>,
  BatchEngine
>;

export function defineBatchEngine<const O extends OptionsSpec>(
  definition: Given<BatchEngineDefinition<O>>,
): Defined<BatchEngineDefinition<O>> {
  return {
    contract: BATCH_ENGINE_CONTRACT_VERSION,
    ...definition,
    kind: 'batchEngine',
    [ADAPTER]: true,
  };
}

/** Every definition that a module exports. */
export function definitionsOf(module: unknown): AnyDefinition[] {
  if (typeof module !== 'object' || module === null) return [];
  const exported = new Set<unknown>(Object.values(module));
  return [...exported].filter(
    (value): value is AnyDefinition =>
      typeof value === 'object' && value !== null && ADAPTER in value,
  );
}

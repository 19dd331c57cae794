/**
 * A user's own codec: a JavaScript function in the form that LoRaWAN makers publish, run in QuickJS compiled to
 * WebAssembly: no files, no network, no clock but what the message brings, and limits on time, memory and output.
 * The only file that imports it.
 *
 * `decodeUplink({bytes, fPort, recvTime})` → `{data, errors, warnings}` (The Things Stack, ChirpStack v4), or
 * `Decoder(bytes, port)` (The Things Stack v2) or `Decode(fPort, bytes)` (ChirpStack v3), which return the data.
 *
 * What a function leaves in globals may still be there for the next message, or not: a codec must not rely on it,
 * since a replay has to give the same. After an error, a timeout or exhausted memory it begins anew.
 */
import {
  newQuickJSWASMModuleFromVariant,
  type QuickJSContext,
  type QuickJSRuntime,
  type QuickJSSyncVariant,
  type QuickJSWASMModule,
} from 'quickjs-emscripten-core';
import { Undecodable } from '../../../shared/codecs/codec.ts';
import { parseJson } from '../../../shared/codecs/exact-json.ts';
import { isObject, own, type Tree, type TreeObject } from '../../../shared/codecs/tree.ts';
import { HeadwaterError, messageOf } from '../../../shared/errors.ts';

/** Of one call, milliseconds of the monotonic clock. */
export const SCRIPT_MS_MAX = 100;
const MEMORY_BYTES_MAX = 16 * 1024 * 1024;
const STACK_BYTES_MAX = 256 * 1024;
const OUTPUT_CHARS_MAX = 1024 * 1024;
export const SCRIPT_BYTES_MAX = 1024 * 1024;

/** What JSON cannot say is said with this before it. */
const MARK = '\u0000int:';

/** A replay has to give the same again: the time is the message's, and chance begins anew with each. */
const PRELUDE = `(function () {
  const Real = Date;
  let now = 0;
  let seed = 1;
  function MessageDate(...words) {
    if (new.target === undefined) return new Real(now).toString();
    return Reflect.construct(Real, words.length === 0 ? [now] : words, new.target);
  }
  MessageDate.prototype = Real.prototype;
  MessageDate.prototype.constructor = MessageDate;
  MessageDate.now = () => now;
  MessageDate.parse = Real.parse;
  MessageDate.UTC = Real.UTC;
  globalThis.Date = MessageDate;
  delete globalThis.performance;
  Math.random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  globalThis.__headwaterClock = (time) => { now = time; seed = 1; };
})()`;

/** Calls whichever form the script has. Numbers that are none are an error: JSON would turn them into null. */
const GLUE = `(function () {
  const form = typeof decodeUplink === 'function' ? 'uplink'
    : typeof Decoder === 'function' ? 'ttn2' : typeof Decode === 'function' ? 'chirpstack3' : '';
  const setClock = globalThis.__headwaterClock;
  globalThis.__headwater = function (text) {
    const input = JSON.parse(text);
    setClock(input.recvTime);
    let result;
    if (form === 'uplink') result = decodeUplink({ bytes: input.bytes, fPort: input.fPort, recvTime: new Date(input.recvTime), variables: {} });
    else if (form === 'ttn2') result = { data: Decoder(input.bytes, input.fPort) };
    else result = { data: Decode(input.fPort, input.bytes, {}) };
    return JSON.stringify(result === undefined ? null : result, function (key, value) {
      if (typeof value === 'bigint') return '\\u0000int:' + value;
      if (typeof value === 'number' && !isFinite(value)) throw new Error("value '" + key + "' is " + value);
      return value;
    });
  };
  return form;
})()`;

let loading: Promise<QuickJSWASMModule> | undefined;
let engine: QuickJSWASMModule | undefined;

/** Loads the engine, once a process. Scripts can be made afterwards. */
export async function loadEngine(): Promise<void> {
  // Its types are those of a CommonJS module; what is imported is the ES module, with the variant as default.
  const variant = import('@jitl/quickjs-ng-wasmfile-release-sync') as unknown as Promise<{
    default: QuickJSSyncVariant;
  }>;
  loading ??= newQuickJSWASMModuleFromVariant(variant);
  engine = await loading;
}

/** Integers that came marked, as bigint again. */
function unmark(value: Tree): Tree {
  if (typeof value === 'string')
    return value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value;
  if (Array.isArray(value)) return value.map(unmark);
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, child]) => [key, unmark(child)]));
}

const listText = (value: Tree | undefined): string =>
  (Array.isArray(value) ? value : []).map(String).filter(Boolean).join('; ');

export class Script {
  private readonly name: string;
  private readonly source: string;
  private readonly nowMs: () => number;
  private runtime: QuickJSRuntime | undefined;
  private context: QuickJSContext | undefined;
  private deadline = 0;

  /** `nowMs` is a monotonic clock. Nothing runs before the first call or `check`. */
  constructor(name: string, source: string, nowMs: () => number) {
    this.name = name;
    this.source = source;
    this.nowMs = nowMs;
  }

  /** Throws MAPPING_INVALID for a script that does not load or has no function of a known form. */
  check(): void {
    try {
      this.open();
    } catch (error) {
      throw new HeadwaterError('MAPPING_INVALID', `${this.name}: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  private open(): QuickJSContext {
    if (this.context !== undefined) return this.context;
    if (engine === undefined) throw new Error('bug: the script engine is not loaded');
    const runtime = engine.newRuntime();
    runtime.setMemoryLimit(MEMORY_BYTES_MAX);
    runtime.setMaxStackSize(STACK_BYTES_MAX);
    runtime.setInterruptHandler(() => this.nowMs() > this.deadline);
    const context = runtime.newContext();
    this.runtime = runtime;
    this.context = context;
    try {
      this.evaluate(context, PRELUDE);
      this.evaluate(context, this.source);
      if (this.evaluate(context, GLUE) === '')
        throw new Error('has no function decodeUplink, Decoder or Decode');
    } catch (error) {
      this.close();
      throw error;
    }
    return context;
  }

  private evaluate(context: QuickJSContext, source: string): string {
    this.deadline = this.nowMs() + SCRIPT_MS_MAX * 10;
    const result = context.evalCode(source, this.name);
    if (result.error !== undefined) throw this.failure(context, result.error);
    const value: unknown = context.dump(result.value);
    result.value.dispose();
    return typeof value === 'string' ? value : '';
  }

  private failure(context: QuickJSContext, handle: Parameters<QuickJSContext['dump']>[0]): Error {
    const dumped = context.dump(handle) as { name?: string; message?: string } | string | undefined;
    handle.dispose();
    const text =
      typeof dumped === 'object' && dumped !== null
        ? `${dumped.name ?? 'Error'}: ${dumped.message ?? ''}`
        : String(dumped);
    return new Error(
      /interrupted/.test(text) ? `took longer than ${SCRIPT_MS_MAX} ms` : text.slice(0, 300),
    );
  }

  /** Runs it on one payload. Throws Undecodable, with what the function said. */
  decode(bytes: Uint8Array, fPort: number, receivedMs: number): TreeObject | Tree[] {
    const result = parseJson(this.call({ bytes: [...bytes], fPort, recvTime: receivedMs }));
    if (!isObject(result)) throw new Undecodable(`codec ${this.name}: it returned nothing`);
    const data = own(result, 'data');
    const errors = listText(own(result, 'errors'));
    if (data === undefined || data === null || (!isObject(data) && !Array.isArray(data)))
      throw new Undecodable(
        `codec ${this.name}: ${errors === '' ? 'it returned no data' : errors}`,
      );
    return unmark(data) as TreeObject | Tree[];
  }

  private call(input: object): string {
    let context: QuickJSContext;
    try {
      context = this.open();
      this.deadline = this.nowMs() + SCRIPT_MS_MAX;
      const text = context.newString(JSON.stringify(input));
      const run = context.getProp(context.global, '__headwater');
      const result = context.callFunction(run, context.undefined, text);
      text.dispose();
      run.dispose();
      if (result.error !== undefined) throw this.failure(context, result.error);
      const output = context.getString(result.value);
      result.value.dispose();
      if (output.length > OUTPUT_CHARS_MAX)
        throw new Error(`returned more than ${OUTPUT_CHARS_MAX} characters`);
      return output;
    } catch (error) {
      // Whatever state it is in now: the next message finds a fresh one.
      this.close();
      throw new Undecodable(`codec ${this.name}: ${messageOf(error)}`, { cause: error });
    }
  }

  close(): void {
    const { context, runtime } = this;
    this.context = undefined;
    this.runtime = undefined;
    try {
      context?.dispose();
      runtime?.dispose();
    } catch {
      // Exhausted memory leaves values behind that the engine asserts about; the module itself goes on.
      engine = undefined;
      loading = undefined;
      void loadEngine();
    }
  }
}

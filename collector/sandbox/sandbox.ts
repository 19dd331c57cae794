/**
 * Users' code, in QuickJS compiled to WebAssembly: no files, no network, no clock but what the call brings, no chance of
 * its own, and limits on time, memory and output. The only file that imports it.
 *
 * What code leaves in globals may still be there at the next call, or not: it must not rely on it, since a replay has to
 * give the same. After an error, a timeout or exhausted memory it begins anew.
 */
import {
  newQuickJSWASMModuleFromVariant,
  type QuickJSContext,
  type QuickJSRuntime,
  type QuickJSSyncVariant,
  type QuickJSWASMModule,
} from 'quickjs-emscripten-core';
import { messageOf } from '../../shared/errors.ts';

const MEMORY_BYTES_MAX = 16 * 1024 * 1024;
const STACK_BYTES_MAX = 256 * 1024;
const OUTPUT_CHARS_MAX = 1024 * 1024;

/**
 * A replay has to give the same again: the time is the message's, and chance begins anew with each. What decoders of
 * makers expect of their network server is there too: a console, which nobody reads, and helpers for text and base64.
 */
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
  const quiet = () => undefined;
  globalThis.console = { log: quiet, info: quiet, warn: quiet, error: quiet, debug: quiet, trace: quiet, table: quiet };
  globalThis.TextDecoder ??= class {
    constructor(label = 'utf-8') { this.encoding = String(label).toLowerCase(); }
    decode(bytes = []) {
      let text = '';
      for (const byte of bytes) text += String.fromCharCode(byte);
      return /^utf-?8$/.test(this.encoding) ? decodeURIComponent(escape(text)) : text;
    }
  };
  globalThis.TextEncoder ??= class {
    encode(text = '') { return Uint8Array.from(unescape(encodeURIComponent(text)), (char) => char.charCodeAt(0)); }
  };
  const DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
  globalThis.atob ??= (text) => {
    let bits = 0, value = 0, result = '';
    for (const char of String(text).replace(/[=\\s]/g, '')) {
      const digit = DIGITS.indexOf(char);
      if (digit < 0) throw new Error('atob: not base64');
      value = (value << 6) | digit;
      bits += 6;
      if (bits >= 8) { bits -= 8; result += String.fromCharCode((value >> bits) & 255); value &= (1 << bits) - 1; }
    }
    return result;
  };
  globalThis.btoa ??= (text) => {
    let bits = 0, value = 0, result = '';
    for (const char of String(text)) {
      value = (value << 8) | (char.charCodeAt(0) & 255);
      bits += 8;
      while (bits >= 6) { bits -= 6; result += DIGITS[(value >> bits) & 63]; value &= (1 << bits) - 1; }
    }
    if (bits > 0) result += DIGITS[(value << (6 - bits)) & 63];
    return result + '='.repeat((4 - (result.length % 4)) % 4);
  };
  globalThis.__headwaterClock = (time) => { now = time; seed = 1; };
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

export interface SandboxOptions {
  /** For people: the file it comes from. */
  name: string;
  source: string;
  /**
   * Evaluated after the source: defines `__headwater(text)`, which answers with text, and its value says what it found
   * to call; '' when there is nothing. `__headwaterClock(ms)` sets the time that the code sees.
   */
  glue: string;
  /** What the code has to have, for the error when it does not. */
  needs: string;
  /** Of one call, milliseconds. */
  msMax: number;
  /** A monotonic clock. */
  nowMs: () => number;
}

export class Sandbox {
  private readonly options: SandboxOptions;
  private runtime: QuickJSRuntime | undefined;
  private context: QuickJSContext | undefined;
  private deadline = 0;

  /** Nothing runs before the first call or `open`. */
  constructor(options: SandboxOptions) {
    this.options = options;
  }

  /** Throws when the source does not load or has nothing to call. */
  open(): QuickJSContext {
    if (this.context !== undefined) return this.context;
    if (engine === undefined) throw new Error('bug: the script engine is not loaded');
    const { source, glue, needs } = this.options;
    const runtime = engine.newRuntime();
    runtime.setMemoryLimit(MEMORY_BYTES_MAX);
    runtime.setMaxStackSize(STACK_BYTES_MAX);
    runtime.setInterruptHandler(() => this.options.nowMs() > this.deadline);
    const context = runtime.newContext();
    this.runtime = runtime;
    this.context = context;
    try {
      this.evaluate(context, PRELUDE);
      this.evaluate(context, source);
      if (this.evaluate(context, glue) === '') throw new Error(`has no function ${needs}`);
    } catch (error) {
      this.close();
      throw error;
    }
    return context;
  }

  private evaluate(context: QuickJSContext, source: string): string {
    const { name, nowMs, msMax } = this.options;
    this.deadline = nowMs() + msMax * 10;
    const result = context.evalCode(source, name);
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
      /interrupted/.test(text) ? `took longer than ${this.options.msMax} ms` : text.slice(0, 300),
    );
  }

  /** Calls it with a text. Throws what it threw, as a plain error. */
  call(input: string): string {
    try {
      const context = this.open();
      this.deadline = this.options.nowMs() + this.options.msMax;
      const text = context.newString(input);
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
      // Whatever state it is in now: the next call finds a fresh one.
      this.close();
      throw error instanceof Error ? error : new Error(messageOf(error));
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

/**
 * A user's own function over a series, in TypeScript or JavaScript: `step(state, reading)` is called with each reading in
 * turn and returns the state for the next one and what it makes of this one. It runs as users' codecs do: in QuickJS,
 * without files, network, clock or chance, with limits on time and memory, so that a replay gives the same.
 */
import { createRequire } from 'node:module';
import type { transformSync } from 'amaro';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { Sandbox } from '../sandbox/sandbox.ts';

export interface FunctionReading {
  /** Epoch milliseconds. */
  time: number;
  measurement: string;
  tags: Record<string, string>;
  fields: Record<string, number>;
}

/** What it makes of readings. */
export interface FunctionResults {
  /** Kept for the next reading; whatever JSON can hold. */
  state: unknown;
  /** Of each reading, a reading of the rule's measurement at the same time; undefined for none. */
  fields: (Record<string, number> | undefined)[];
}

/** Readings given to it at once, and the time that they may take together. */
export const READINGS_MAX = 200;
const MS_MAX = 1000;

/** A compiler of megabytes: only who has such a function waits for it. */
const compiler = (): { transformSync: typeof transformSync } =>
  createRequire(import.meta.url)('amaro') as { transformSync: typeof transformSync };

const GLUE = `(function () {
  if (typeof step !== 'function') return '';
  const setClock = globalThis.__headwaterClock;
  globalThis.__headwater = function (text) {
    let [state, readings] = JSON.parse(text);
    const results = [];
    for (const reading of readings) {
      setClock(reading.time);
      const result = step(state ?? undefined, reading);
      if (typeof result !== 'object' || result === null) throw new Error('step returned nothing');
      for (const name in result.fields ?? {})
        if (typeof result.fields[name] !== 'number' || !isFinite(result.fields[name])) delete result.fields[name];
      results.push(result.fields ?? null);
      state = result.state;
    }
    return JSON.stringify([state ?? null, results]);
  };
  return 'step';
})()`;

export class StreamFunction {
  readonly file: string;
  private readonly sandbox: Sandbox;

  /** Throws RULE_INVALID for a text that is no TypeScript. Nothing runs before `check`. */
  constructor(file: string, text: string) {
    this.file = file;
    let code: string;
    try {
      code = compiler().transformSync(text, { mode: 'strip-only' }).code;
    } catch (error) {
      throw new HeadwaterError('RULE_INVALID', `${file}: ${firstLine(error)}`, { cause: error });
    }
    this.sandbox = new Sandbox({
      name: file,
      // A script has no modules: what it exports are its globals.
      source: code.replaceAll(/^(\s*)export\s+(?=function|const|let|class)/gm, '$1'),
      glue: GLUE,
      needs: 'step(state, reading)',
      msMax: MS_MAX,
      nowMs: () => performance.now(),
    });
  }

  /** Throws RULE_INVALID. */
  check(): void {
    try {
      this.sandbox.open();
    } catch (error) {
      throw new HeadwaterError('RULE_INVALID', `${this.file}: ${firstLine(error)}`, {
        cause: error,
      });
    }
  }

  /** Runs over at most READINGS_MAX readings of one series, in order. Throws what the function threw. */
  run(state: unknown, readings: readonly FunctionReading[]): FunctionResults {
    const [next, fields] = JSON.parse(
      this.sandbox.call(JSON.stringify([state ?? null, readings])),
    ) as [unknown, (Record<string, number> | null)[]];
    const some = fields.map((each) =>
      each === null || Object.keys(each).length === 0 ? undefined : each,
    );
    return { state: next, fields: some };
  }

  close(): void {
    this.sandbox.close();
  }
}

const firstLine = (error: unknown): string =>
  (typeof error === 'object' && error !== null && 'message' in error
    ? String(error.message)
    : messageOf(error)
  ).split('\n')[0] ?? '';

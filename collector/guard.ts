/**
 * What stands between Headwater and a package that someone else wrote. Whatever it throws is an operating error in one
 * sentence with the adapter's name: by its code where it has one of the contracts, else as one that passes. Whatever it gives
 * is looked at before it is believed. A call without an answer has failed after a while, so that one lost promise of a
 * package is no end of a stage: five minutes for what writes, one for what is only asked.
 */
import { CONTRACT_ERRORS, operatingError, type ContractErrorCode } from '../contracts/errors.ts';
import { processTime, type Time } from '../shared/env/env.ts';
import { HeadwaterError, isBug, isOurs, messageOf } from '../shared/errors.ts';

export const WRITE_MS = 300_000;
export const READ_MS = 60_000;
/** Nobody's stop waits longer for a package. */
export const CLOSE_MS = 5000;

/** What a call has to give, in words and as a look at it. */
export interface Shape<T> {
  words: string;
  fits: (value: unknown) => value is T;
}

export const shape = <T>(words: string, fits: (value: unknown) => boolean): Shape<T> => ({
  words,
  fits: (value): value is T => fits(value),
});

export const isObject = (value: unknown): value is Record<string | symbol, unknown> =>
  typeof value === 'object' && value !== null;
export const isText = (value: unknown): value is string => typeof value === 'string';
export const isWhole = (value: unknown): value is number =>
  Number.isSafeInteger(value) && Number(value) >= 0;
export const isTexts = (value: unknown): value is Record<string, string> =>
  isObject(value) && !Array.isArray(value) && Object.values(value).every(isText);
export const isListOf =
  (fits: (value: unknown) => boolean) =>
  (value: unknown): boolean =>
    // Not `every`, which passes over holes.
    Array.isArray(value) && !value.some((each) => !fits(each)) && !hasHoles(value);

function hasHoles(list: readonly unknown[]): boolean {
  for (let at = 0; at < list.length; at++) if (!(at in list)) return true;
  return false;
}

/** A call that has nothing to give; what it gives all the same is nobody's. */
export const NOTHING = shape<unknown>('nothing', () => true);
export const SENTENCES = shape<string[]>('a list of sentences', isListOf(isText));

function said(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return `a list of ${value.length}`;
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

const ITERATOR = shape<AsyncIterator<unknown>>(
  'parts that can be iterated',
  (value) => isObject(value) && typeof value['next'] === 'function',
);

export class Guard {
  readonly name: string;
  private readonly what: string;
  private readonly code: ContractErrorCode;
  private readonly time: Time;

  /** `what` it is, as in `log`; `code` of what has none: it passes by itself. */
  constructor(what: string, name: string, code: ContractErrorCode, time: Time = processTime) {
    this.what = what;
    this.name = name;
    this.code = code;
    this.time = time;
  }

  /** A sentence of its own. */
  failure(text: string, cause?: unknown): HeadwaterError {
    const message = `${this.what} ${this.name}: ${text}`;
    return new HeadwaterError(this.code, message, cause === undefined ? {} : { cause });
  }

  /** Of whatever was thrown. What our own code threw, which the adapter only handed on, stays what it is. */
  error(error: unknown): unknown {
    if (isOurs(error) || isBug(error)) return error;
    const code = operatingError(error)?.code ?? '';
    if (!Object.hasOwn(CONTRACT_ERRORS, code)) return this.failure(messageOf(error), error);
    const message = `${this.what} ${this.name}: ${messageOf(error)}`;
    // One of the table's own keys.
    return new HeadwaterError(code as ContractErrorCode, message, { cause: error });
  }

  /** Resolves with what the call gave, if it is that; `late` is called when it has given no answer. */
  async call<T>(
    name: string,
    work: () => unknown,
    { words, fits }: Shape<T>,
    ms = READ_MS,
    late?: () => void,
  ): Promise<T> {
    let value: unknown;
    try {
      value = await this.within(name, work, ms, late);
      if (fits(value)) return value;
    } catch (error) {
      throw this.error(error);
    }
    throw this.failure(`${name} gave ${said(value)}, which is not ${words}`);
  }

  private async within(
    name: string,
    work: () => unknown,
    ms: number,
    late?: () => void,
  ): Promise<unknown> {
    return await new Promise((resolve, reject) => {
      const timer = this.time.timers.after(ms, () => {
        late?.();
        reject(this.failure(`${name} has given no answer for ${ms / 1000} s`));
      });
      const settle =
        <V>(end: (value: V) => void) =>
        (value: V): void => {
          timer.cancel();
          end(value);
        };
      // A call that throws at once, or whose promise throws when it is asked, rejects as well.
      void new Promise<unknown>((begin) => begin(work())).then(settle(resolve), settle(reject));
    });
  }

  /** What is asked for a page or a metric has an answer, whatever the adapter does. */
  answer<T>(name: string, work: () => unknown, shape: Shape<T>, otherwise: (why: string) => T): T {
    try {
      const value = work();
      if (shape.fits(value)) return value;
      return otherwise(
        this.failure(`${name} gave ${said(value)}, which is not ${shape.words}`).message,
      );
    } catch (error) {
      return otherwise(messageOf(this.error(error)));
    }
  }

  /** Parts as they come. An iterator that does not end when nobody reads on is left behind. */
  async *parts<T>(
    name: string,
    begin: () => AsyncIterable<T>,
    part: Shape<T>,
  ): AsyncGenerator<T, void, undefined> {
    const work = (): unknown => {
      const parts: unknown = begin();
      const own = isObject(parts) ? parts[Symbol.asyncIterator] : undefined;
      return typeof own === 'function' ? (Reflect.apply(own, parts, []) as unknown) : parts;
    };
    const iterator = await this.call(name, work, ITERATOR);
    const step = shape<IteratorResult<unknown>>('a step of an iterator', isObject);
    let isOver = false;
    try {
      for (;;) {
        isOver = true; // Whoever fails has ended.
        const { done, value } = await this.call(name, () => iterator.next(), step);
        if (done === true) return;
        isOver = false;
        if (!part.fits(value))
          throw this.failure(`${name} gave ${said(value)}, which is not ${part.words}`);
        yield value;
      }
    } finally {
      if (!isOver)
        await this.call(name, () => iterator.return?.(), NOTHING, CLOSE_MS).catch(() => undefined);
    }
  }

  /** It is closed, or was left behind after some seconds. */
  async close(work: () => unknown): Promise<void> {
    await this.call('close', work, NOTHING, CLOSE_MS);
  }

  /** A call that writes, and gives nothing. */
  async write(name: string, work: () => unknown, late?: () => void): Promise<void> {
    await this.call(name, work, NOTHING, WRITE_MS, late);
  }
}

/** What `create` gave, if it can be asked. Throws ADAPTER_CONTRACT. */
export function made<T extends object>(
  flag: string,
  create: () => T,
  methods: readonly (keyof T & string)[],
): T {
  const refuse = (text: string, cause?: unknown): never => {
    throw new HeadwaterError('ADAPTER_CONTRACT', `${flag}: ${text}`, { cause });
  };
  try {
    const adapter: unknown = create();
    if (!isObject(adapter)) return refuse(`its create() gave ${said(adapter)}, no adapter`);
    const missing = methods.find((name) => typeof adapter[name] !== 'function');
    if (missing === undefined) return adapter as T; // By its methods; what they give is looked at each time.
    const hint =
      typeof adapter['then'] === 'function' ? ' (a promise: open() does what takes time)' : '';
    return refuse(`what its create() gave has no ${missing}()${hint}`);
  } catch (error) {
    if (isOurs(error)) throw error;
    return refuse(`its create() has failed: ${messageOf(error)}`, error);
  }
}

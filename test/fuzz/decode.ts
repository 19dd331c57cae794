/**
 * Decoders under fuzz, in this process. Guided by coverage: V8 itself counts blocks (the inspector's precise coverage), so
 * nothing is instrumented; an input that reaches a block that none before it has reached is kept and changed further.
 *
 * What must hold for every input: nothing is thrown but what callers expect; the time is in proportion to its length; no
 * memory stays; nothing appears on the prototypes that all share.
 */
import { Session } from 'node:inspector/promises';
import { rng } from '../support/seed.ts';
import { DECODERS, isKnown, type Decoder } from './decoders.ts';

const INPUT_BYTES_MAX = 64 * 1024;
/** Of an input, milliseconds of CPU; and for each of its bytes. */
const BASE_MS = 60;
const PER_BYTE_MS = 0.005;
const GROWN_BYTES_MAX = 192 * 1024 * 1024;
const BATCH = 200;
const KEPT_MAX = 2000;

type Random = () => number;
const whole = (next: Random, below: number): number => Math.floor(next() * below);

const TOKENS = [
  '\0',
  '"',
  "'",
  '\\',
  '{',
  '}',
  '[',
  ']',
  '(',
  ')',
  ',',
  ':',
  '/',
  '#',
  '+',
  '*',
  '&a',
  '*a',
  '<<: ',
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  '1e999',
  '-0',
  '9007199254740993',
  'NaN',
  'Infinity',
  '\u202e',
  '\ud800',
  '\u0000int:x',
  'null',
  'true',
  '- ',
  '\n',
  '\r\n',
  '\t',
  ' '.repeat(50),
  '%',
  '..',
  '!!js/function',
  'é',
];

/** What is built of them stays small enough. */
function mutate(next: Random, seed: Buffer, other: Buffer): Buffer {
  let bytes = Buffer.from(seed);
  for (let round = 1 + whole(next, 4); round > 0; round--) {
    const at = whole(next, bytes.length + 1);
    const to = Math.min(bytes.length, at + 1 + whole(next, next() < 0.8 ? 8 : bytes.length + 1));
    const [head, part, tail] = [bytes.subarray(0, at), bytes.subarray(at, to), bytes.subarray(to)];
    switch (whole(next, 10)) {
      case 0:
        if (at < bytes.length) bytes[at] = (bytes[at] as number) ^ (1 << whole(next, 8));
        break;
      case 1:
        if (at < bytes.length) bytes[at] = [0, 1, 0x7f, 0x80, 0xfe, 0xff][whole(next, 6)] as number;
        break;
      case 2:
        bytes = Buffer.concat([head, tail]);
        break;
      case 3:
        bytes = Buffer.concat([
          head,
          Buffer.from(TOKENS[whole(next, TOKENS.length)] as string),
          bytes.subarray(at),
        ]);
        break;
      case 4:
        bytes = Buffer.concat([
          head,
          Buffer.from(Array.from({ length: 1 + whole(next, 8) }, () => whole(next, 256))),
          bytes.subarray(at),
        ]);
        break;
      case 5:
        // Many of the same: what is not linear shows itself.
        if (part.length > 0) {
          const times =
            1 + whole(next, next() < 0.9 ? 8 : Math.floor(INPUT_BYTES_MAX / part.length));
          bytes = Buffer.concat([head, ...Array.from({ length: times }, () => part), tail]);
        }
        break;
      case 6:
        bytes = Buffer.concat([head, other.subarray(whole(next, other.length + 1))]);
        break;
      case 7:
        if (at + 4 <= bytes.length)
          bytes.writeUInt32BE(next() < 0.5 ? 0xffffffff : whole(next, 2 ** 32), at);
        break;
      case 8:
        bytes = Buffer.from(bytes.subarray(0, at));
        break;
      default:
        bytes = Buffer.from(
          bytes
            .toString('latin1')
            .replace(
              /\d+/,
              () =>
                ['0', '-1', '4294967296', '1e400', '99999999999999999999'][
                  whole(next, 5)
                ] as string,
            ),
          'latin1',
        );
    }
  }
  return bytes.length > INPUT_BYTES_MAX ? bytes.subarray(0, INPUT_BYTES_MAX) : bytes;
}

/** Blocks of our own code that were reached, each told once. */
class Coverage {
  readonly blocks = new Set<string>();
  private readonly session = new Session();

  async start(): Promise<void> {
    this.session.connect();
    await this.session.post('Profiler.enable');
    await this.session.post('Profiler.startPreciseCoverage', { callCount: false, detailed: true });
  }

  /** How many are new. */
  async look(): Promise<number> {
    const { result } = await this.session.post('Profiler.takePreciseCoverage');
    const before = this.blocks.size;
    for (const { url, functions } of result) {
      if (!url.startsWith('file:') || url.includes('/test/')) continue;
      for (const { ranges } of functions)
        for (const { startOffset, endOffset, count } of ranges)
          if (count > 0) this.blocks.add(`${url} ${startOffset} ${endOffset}`);
    }
    return this.blocks.size - before;
  }

  close(): void {
    this.session.disconnect();
  }
}

export interface Fuzzed {
  name: string;
  inputs: number;
  /** That reached something new. */
  kept: number;
  blocks: number;
  /** Of the slowest one. */
  slowestMs: number;
  slowestBytes: number;
  problems: string[];
}

const shared = (): number =>
  [Object, Array, Function, String, Number, Map, Buffer].reduce(
    (sum, { prototype }) => sum + Reflect.ownKeys(prototype as object).length,
    0,
  );

const shown = (bytes: Buffer): string =>
  bytes.length > 400
    ? `${bytes.subarray(0, 400).toString('base64')}… (${bytes.length} bytes)`
    : bytes.toString('base64');

interface Options {
  name: string;
  ms: number;
  /** At most so many; for CI. */
  inputsMax: number;
  seed: number;
  /** By coverage, and held against the time that it may take; else inputs alone. */
  isGuided: boolean;
}

class Run {
  readonly fuzzed: Fuzzed;
  private readonly decoder: Decoder;
  private readonly judgesTime: boolean;
  private readonly keys = shared();
  /** Kinds of problems that were told: each once. */
  private readonly told = new Set<string>();

  constructor(name: string, judgesTime: boolean) {
    this.judgesTime = judgesTime;
    this.decoder = DECODERS[name] as Decoder; // Of its names.
    this.fuzzed = {
      name,
      inputs: 0,
      kept: 0,
      blocks: 0,
      slowestMs: 0,
      slowestBytes: 0,
      problems: [],
    };
  }

  private problem(kind: string, text: string, bytes: Buffer): void {
    if (this.told.has(kind)) return;
    this.told.add(kind);
    this.fuzzed.problems.push(`${this.fuzzed.name}: ${text}: base64 ${shown(bytes)}`);
  }

  private async once(bytes: Buffer): Promise<number> {
    const before = process.cpuUsage();
    try {
      const made = this.decoder.run(bytes);
      if (made instanceof Promise) await made;
    } catch (error) {
      if (!isKnown(error, this.decoder.throws)) {
        const { name, message, stack = '' } = error as Error;
        this.problem(
          `${name} ${message.replaceAll(/\d+|'[^']*'|"[^"]*"/g, '')}`,
          `${name}: ${message} ${stack.split('\n')[1]?.trim() ?? ''}`,
          bytes,
        );
      }
    }
    // Of the process, whatever else this machine does.
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000;
  }

  async one(bytes: Buffer): Promise<void> {
    const { fuzzed, decoder } = this;
    fuzzed.inputs++;
    const most = decoder.msMax ?? BASE_MS + bytes.length * PER_BYTE_MS;
    let ms = await this.once(bytes);
    // The compiler and the collector work beside it: what is slow is slow again.
    for (let again = 0; this.judgesTime && ms > most && again < 4; again++)
      ms = Math.min(ms, await this.once(bytes));
    if (ms > fuzzed.slowestMs) Object.assign(fuzzed, { slowestMs: ms, slowestBytes: bytes.length });
    if (ms > most && this.judgesTime)
      this.problem('slow', `${ms.toFixed(0)} ms for ${bytes.length} bytes`, bytes);
    if (shared() !== this.keys) this.problem('prototype', 'a prototype of all has changed', bytes);
  }
}

/** Throws for a name that is none. */
export async function fuzzDecoder({
  name,
  ms,
  inputsMax,
  seed,
  isGuided,
}: Options): Promise<Fuzzed> {
  if (!Object.hasOwn(DECODERS, name))
    throw new Error(`'${name}' is no decoder: there are ${Object.keys(DECODERS).join(', ')}`);
  const next = rng(seed);
  const run = new Run(name, isGuided);
  const { fuzzed } = run;
  const coverage = isGuided ? new Coverage() : undefined;
  await coverage?.start();
  const pool = DECODERS[name]?.seeds() ?? [];
  for (const bytes of [Buffer.alloc(0), ...pool]) await run.one(bytes);
  await coverage?.look();
  global.gc?.();
  const before = process.memoryUsage().rss;
  const until = performance.now() + ms;
  const pick = (): Buffer =>
    pool[whole(next, next() < 0.5 ? pool.length : Math.min(pool.length, 50))] ?? Buffer.alloc(0);
  while (performance.now() < until && fuzzed.inputs < inputsMax) {
    const batch = Array.from({ length: BATCH }, () => mutate(next, pick(), pick()));
    for (const bytes of batch) await run.one(bytes);
    if (coverage === undefined || (await coverage.look()) === 0) continue;
    // Which of them it was is not known: the whole batch is small, so a few of it are kept.
    for (let count = 0; count < 8; count++) pool.push(batch[whole(next, BATCH)] as Buffer);
    fuzzed.kept++;
    if (pool.length > KEPT_MAX) pool.splice(50, pool.length - KEPT_MAX);
  }
  fuzzed.blocks = coverage?.blocks.size ?? 0;
  coverage?.close();
  global.gc?.();
  const grown = process.memoryUsage().rss - before;
  if (grown > GROWN_BYTES_MAX)
    fuzzed.problems.push(`${name}: memory grew by ${Math.round(grown / 2 ** 20)} MiB`);
  return fuzzed;
}

/** The suite of the Codec contract: it takes copies of the codec's own examples, and damages them. */
import assert from 'node:assert/strict';
import type { Codec, CodecGives, CodecPoint, CodecSupports, CodecValue } from '../codec.ts';
import { operatingError } from '../errors.ts';
import { runCases, type Case, type Result } from './runner.ts';

/** How the suite gets at what is tested. */
export interface CodecUnderTest {
  supports: CodecSupports;
  create(): Codec;
}

export type CodecCase = Case<Codec, CodecSupports>;

const HINTS = { receivedMs: Date.UTC(2026, 0, 1) };
/** Levels of nesting that a document may have. */
const DEPTH_MAX = 32;
const NOISE_PAYLOADS = 500;
const NOISE_BYTES_MAX = 256;
const SAME_BYTES = 100_000;
const LARGE_BYTES = 1024 * 1024;
/** Of one payload, also on a slow machine; a good codec takes milliseconds. */
const PARSE_MS_MAX = 10_000;

/** What it makes of it; undefined: it has refused it as it should. Any other error fails the case. */
function parsed(codec: Codec, payload: Uint8Array): CodecGives | undefined {
  try {
    const gives = codec.parse(payload, HINTS);
    assert.ok('document' in gives || 'points' in gives, 'it gives neither a document nor points');
    return gives;
  } catch (error) {
    if (operatingError(error)?.code === 'RECORD_REFUSED') return undefined;
    const head = Buffer.from(payload.subarray(0, 24)).toString('hex');
    const what = `${payload.length} bytes that begin with ${head === '' ? 'nothing' : head}`;
    throw new Error(`${what}: it throws ${error instanceof Error ? error.stack : String(error)}`, {
      cause: error,
    });
  }
}

/** A sequence of bytes that is the same in every run (xorshift32). */
function noise(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

function checkValue(value: CodecValue, at: string, depth: number): void {
  if (depth > DEPTH_MAX) assert.fail(`${at}: nested more than ${DEPTH_MAX} levels deep`);
  if (value === null || value instanceof Uint8Array) return;
  if (value instanceof Date) {
    assert.ok(Number.isFinite(value.getTime()), `${at} is no time`);
  } else if (Array.isArray(value)) {
    for (const [index, child] of value.entries()) checkValue(child, `${at}[${index}]`, depth + 1);
  } else if (typeof value === 'object') {
    const prototype: unknown = Object.getPrototypeOf(value);
    assert.ok(
      prototype === Object.prototype || prototype === null,
      `${at} is an object of a class of its own`,
    );
    for (const [key, child] of Object.entries(value)) checkValue(child, `${at}.${key}`, depth + 1);
  } else {
    const isScalar = ['boolean', 'number', 'bigint', 'string'].includes(typeof value);
    assert.ok(isScalar, `${at} is ${typeof value}, which no document holds`);
  }
}

function checkPoint({ measurement, tags = {}, fields, timeMs }: CodecPoint, at: string): void {
  assert.notEqual(measurement, '', `${at} has a measurement without a name`);
  for (const [name, value] of Object.entries(tags))
    assert.equal(typeof value, 'string', `${at}: tag '${name}' is no text`);
  for (const [name, value] of Object.entries(fields)) {
    assert.notEqual(name, '', `${at} has a field without a name`);
    const isValue = typeof value === 'number' ? Number.isFinite(value) : typeof value !== 'object';
    assert.ok(isValue && value !== undefined, `${at}: '${name}' is ${value}, which is no value`);
  }
  assert.ok(timeMs === undefined || Number.isFinite(timeMs), `${at}: its time is ${timeMs}`);
}

const unlessIt =
  (gives: CodecSupports['gives']) =>
  (supports: CodecSupports): string | undefined =>
    supports.gives === gives ? undefined : `it gives ${supports.gives}`;

interface Law {
  name: string;
  skip?: (supports: CodecSupports) => string | undefined;
  check: (codec: Codec) => void;
}

const LAWS: readonly Law[] = [
  {
    name: 'every example gives what it says',
    check: (codec) => {
      assert.ok(codec.examples.length > 0, 'it has no example');
      for (const { payload, gives } of codec.examples)
        assert.deepEqual(codec.parse(Uint8Array.from(payload), HINTS), gives);
    },
  },
  {
    name: 'a document holds values that a reading can have, or a mapping can read',
    skip: unlessIt('document'),
    check: (codec) => {
      for (const { payload } of codec.examples) {
        const gives = codec.parse(Uint8Array.from(payload), HINTS);
        assert.ok('document' in gives, 'its supports.gives says that it gives a document');
        checkValue(gives.document, 'the document', 0);
      }
    },
  },
  {
    name: 'a point has names, and values that are finite numbers, texts or truth',
    skip: unlessIt('points'),
    check: (codec) => {
      for (const { payload } of codec.examples) {
        const gives = codec.parse(Uint8Array.from(payload), HINTS);
        assert.ok('points' in gives, 'its supports.gives says that it gives points');
        for (const [index, point] of gives.points.entries()) checkPoint(point, `point ${index}`);
      }
    },
  },
  {
    name: 'the same bytes give the same, whatever was decoded in between',
    check: (codec) => {
      const before = codec.examples.map(({ payload }) =>
        codec.parse(Uint8Array.from(payload), HINTS),
      );
      for (const { payload } of codec.examples) parsed(codec, payload.slice(1));
      for (const [at, { payload }] of [...codec.examples.entries()].toReversed())
        assert.deepEqual(codec.parse(Uint8Array.from(payload), HINTS), before[at]);
    },
  },
  {
    name: 'the payload stays as it was',
    check: (codec) => {
      for (const { payload } of codec.examples) {
        const given = Uint8Array.from(payload);
        parsed(codec, given);
        assert.deepEqual(given, Uint8Array.from(payload));
      }
    },
  },
  {
    name: 'a payload that is cut off anywhere is decoded or refused, and nothing else',
    check: (codec) => {
      for (const { payload } of codec.examples)
        for (let end = 0; end < payload.length; end++) parsed(codec, payload.slice(0, end));
    },
  },
  {
    name: 'a payload with a wrong bit anywhere is decoded or refused, and nothing else',
    check: (codec) => {
      for (const { payload } of codec.examples)
        for (let bit = 0; bit < payload.length * 8; bit++) {
          const wrong = Uint8Array.from(payload);
          wrong[bit >> 3] = (wrong[bit >> 3] ?? 0) ^ (1 << (bit & 7));
          parsed(codec, wrong);
        }
    },
  },
  {
    name: 'noise is decoded or refused, and nothing else',
    check: (codec) => {
      const next = noise(20_261_126);
      for (let count = 0; count < NOISE_PAYLOADS; count++)
        parsed(
          codec,
          Uint8Array.from({ length: next() % NOISE_BYTES_MAX }, () => next() & 0xff),
        );
    },
  },
  {
    name: 'one byte a hundred thousand times, a nesting without end among them, ends nothing',
    check: (codec) => {
      const bytes = new Set(codec.examples.flatMap(({ payload }) => [...payload]));
      for (const byte of bytes) parsed(codec, new Uint8Array(SAME_BYTES).fill(byte));
    },
  },
  {
    name: 'a megabyte of what it knows is decoded or refused soon',
    check: (codec) => {
      for (const { payload } of codec.examples) {
        const large = Buffer.alloc(LARGE_BYTES, payload);
        const startedMs = performance.now();
        parsed(codec, large);
        const ms = Math.round(performance.now() - startedMs);
        assert.ok(ms < PARSE_MS_MAX, `it has taken ${ms} ms for ${LARGE_BYTES} bytes`);
      }
    },
  },
];

export const CODEC_CASES: readonly CodecCase[] = LAWS.map(({ name, skip, check }) => ({
  name,
  ...(skip === undefined ? {} : { skip }),
  run: (codec) =>
    new Promise((resolve) => {
      check(codec);
      resolve();
    }),
}));

export async function runCodecCase(tested: CodecUnderTest, { run }: CodecCase): Promise<void> {
  await run(tested.create());
}

/** All cases whose name holds `only`, one after the other. */
export async function runCodecSuite(
  tested: CodecUnderTest,
  onResult: (result: Result) => void,
  only = '',
): Promise<Result[]> {
  return await runCases<Codec, CodecSupports>(
    CODEC_CASES,
    tested.supports,
    false,
    (run) => run(tested.create()),
    onResult,
    only,
  );
}

/** Sparkplug B payloads, byte by byte, as an edge node writes them. */
import { RECEIVED } from './decode.ts';

function int(number: number, value: bigint | number): Buffer {
  const bytes = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  const key = number << 3;
  if (key >= 0x80) bytes.push((key & 0x7f) | 0x80, key >> 7);
  else bytes.push(key);
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return Buffer.from([...bytes, Number(rest)]);
}

const length = (size: number): Buffer => int(0, size).subarray(1);

function inside(number: number, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const key = (number << 3) | 2;
  const head = key >= 0x80 ? [(key & 0x7f) | 0x80, key >> 7] : [key];
  return Buffer.concat([Buffer.from(head), length(body.length), body]);
}

const text = (number: number, value: string): Buffer => inside(number, Buffer.from(value));

function double(number: number, value: number): Buffer {
  const bytes = Buffer.alloc(9);
  bytes[0] = (number << 3) | 1;
  bytes.writeDoubleLE(value, 1);
  return bytes;
}

interface Metric {
  name?: string;
  alias?: number;
  double?: number;
  long?: bigint;
  datatype?: number;
  bytes?: Buffer;
  quality?: number;
  template?: { isDefinition: boolean };
}

function metric({ name, alias, quality, template, ...value }: Metric): Buffer {
  const parts = name === undefined ? [] : [text(1, name)];
  if (alias !== undefined) parts.push(int(2, alias));
  if (value.double !== undefined)
    parts.push(int(4, value.datatype ?? 10), double(13, value.double));
  if (value.long !== undefined) parts.push(int(4, value.datatype ?? 8), int(11, value.long));
  if (value.bytes !== undefined) parts.push(int(4, 12), inside(15, value.bytes));
  if (quality !== undefined)
    parts.push(inside(9, text(1, 'Quality'), inside(2, int(1, 3), int(3, quality))));
  if (template !== undefined)
    parts.push(
      int(4, 19),
      inside(
        18,
        inside(2, text(1, 'speed'), int(4, 3), int(10, 7)),
        int(5, template.isDefinition ? 1 : 0),
      ),
    );
  return Buffer.concat(parts);
}

const payload = (seq: number, ...metrics: Buffer[][]): Buffer =>
  Buffer.concat([int(1, RECEIVED), ...metrics.map((each) => inside(2, ...each)), int(3, seq)]);

function nested(levels: number): Buffer {
  let template = inside(2, text(1, 'x'), int(4, 3), int(10, 7));
  for (let level = 0; level < levels; level++)
    template = inside(2, text(1, 'x'), int(4, 19), inside(18, template));
  return Buffer.concat([text(1, 'deep'), int(4, 19), inside(18, template)]);
}

export const sparkplug = {
  metric,
  payload,
  nested,
  birth: (...metrics: Buffer[]): Buffer => payload(0, ...metrics.map((each) => [each])),
  /** As Tahu's CompressionAlgorithm makes it. */
  compressed: (body: Buffer, algorithm: string | undefined): Buffer =>
    Buffer.concat([
      ...(algorithm === undefined
        ? []
        : [inside(2, text(1, 'algorithm'), int(4, 12), text(15, algorithm))]),
      text(4, 'SPBV1.0_COMPRESSED'),
      inside(5, body),
    ]),
};

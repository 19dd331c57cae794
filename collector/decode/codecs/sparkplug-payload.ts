/**
 * A Sparkplug B payload (Eclipse Sparkplug 3.0, chapter 6.4: the protobuf schema; 6.4.16: data types). Integers of
 * signed types travel in unsigned fields as two's complement. A value that is wrong in itself is its metric's problem
 * alone. A payload whose uuid says that it is compressed (Ignition, Tahu) is opened, within PAYLOAD_BYTES_MAX.
 */
import { isUtf8 } from 'node:buffer';
import { gunzipSync, inflateSync } from 'node:zlib';
import { DEPTH_MAX, Undecodable, exactNumber } from '../../../shared/codecs/codec.ts';
import { messageOf } from '../../../shared/errors.ts';
import type { FieldValue } from '../../../shared/model/reading.ts';
import { BYTES, FIXED32, FIXED64, VARINT, wireFields, type WireField } from './protobuf-wire.ts';

export interface SparkplugMetric {
  /** Undefined when only the alias names it. */
  name: string | undefined;
  alias: bigint | undefined;
  /** Epoch milliseconds. */
  timestamp: number | undefined;
  datatype: number;
  isHistorical: boolean;
  isTransient: boolean;
  isNull: boolean;
  /** Values by a suffix of the name: '' for a scalar, more for a data set or template. */
  values: [suffix: string, value: FieldValue | bigint][];
  unit: string | undefined;
  /** The property Quality (6.4.8): 192 is good, 0 bad, 500 stale; undefined: it says none. */
  quality: number | undefined;
  /** Why it has no value. */
  problem: string | undefined;
}

export interface SparkplugPayload {
  timestamp: number | undefined;
  metrics: SparkplugMetric[];
  seq: number | undefined;
  uuid: string | undefined;
}

/** What a compressed payload may become, bytes. */
export const PAYLOAD_BYTES_MAX = 16 * 1024 * 1024;
const COMPRESSED = 'SPBV1.0_COMPRESSED';

const SIGNED: Record<number, number> = { 1: 8, 2: 16, 3: 32, 4: 64 };
const UNSIGNED: Record<number, number> = { 5: 8, 6: 16, 7: 32, 8: 64 };
const DATETIME = 13;
const NOTHING = Buffer.alloc(0);
/** Arrays, 22 to 34: element size and how one is read. */
const ARRAYS: Record<
  number,
  [bytes: number, read: (bytes: Buffer, at: number) => FieldValue | bigint]
> = {
  22: [1, (bytes, at) => bytes.readInt8(at)],
  23: [2, (bytes, at) => bytes.readInt16LE(at)],
  24: [4, (bytes, at) => bytes.readInt32LE(at)],
  25: [8, (bytes, at) => bytes.readBigInt64LE(at)],
  26: [1, (bytes, at) => bytes.readUInt8(at)],
  27: [2, (bytes, at) => bytes.readUInt16LE(at)],
  28: [4, (bytes, at) => bytes.readUInt32LE(at)],
  29: [8, (bytes, at) => bytes.readBigUInt64LE(at)],
  30: [4, (bytes, at) => shortest(bytes.readFloatLE(at))],
  31: [8, (bytes, at) => bytes.readDoubleLE(at)],
  34: [8, (bytes, at) => bytes.readBigInt64LE(at)],
};
const BOOLEAN_ARRAY = 32;
const STRING_ARRAY = 33;

/** The shortest decimal that is the same 32-bit float: 12.3, as the device meant it, not 12.300000190734863. */
function shortest(value: number): number {
  if (!Number.isFinite(value)) return value;
  for (let digits = 6; digits <= 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}

function textOf({ bytes, type }: WireField): string {
  if (type !== BYTES || !isUtf8(bytes)) throw new Undecodable('Sparkplug: a text is not UTF-8');
  return bytes.toString('utf8');
}

function millis(field: WireField): number {
  if (field.type !== VARINT) throw new Undecodable('Sparkplug: a timestamp is no integer');
  return exactNumber('timestamp', field.integer);
}

function dateText(ms: number): string {
  const date = new Date(ms);
  if (Number.isNaN(date.getTime()))
    throw new Undecodable(`Sparkplug: ${ms} is beyond what a date can be`);
  return date.toISOString();
}

/** Fields 10 to 16 of a metric, 1 to 7 of a data set's cell shifted by nine, and their like. */
function scalarOf(kind: number, field: WireField, datatype: number): FieldValue | bigint {
  switch (kind) {
    case 10: // int_value
    case 11: {
      // long_value
      const signed = SIGNED[datatype];
      if (signed !== undefined) return BigInt.asIntN(signed, field.integer);
      const unsigned = UNSIGNED[datatype];
      if (datatype === DATETIME) return dateText(millis(field));
      return unsigned === undefined ? field.integer : BigInt.asUintN(unsigned, field.integer);
    }
    case 12:
      if (field.type !== FIXED32) throw new Undecodable('Sparkplug: a float has not four bytes');
      return shortest(field.bytes.readFloatLE(0));
    case 13:
      if (field.type !== FIXED64) throw new Undecodable('Sparkplug: a double has not eight bytes');
      return field.bytes.readDoubleLE(0);
    case 14:
      return field.integer !== 0n;
    default:
      return textOf(field);
  }
}

function arrayOf(datatype: number, bytes: Buffer): [string, FieldValue | bigint][] | undefined {
  const fixed = ARRAYS[datatype];
  if (fixed !== undefined) {
    const [size, read] = fixed;
    if (bytes.length % size !== 0)
      throw new Undecodable('Sparkplug: an array does not end with a whole element');
    return Array.from({ length: bytes.length / size }, (_, index) => [
      `_${index}`,
      read(bytes, index * size),
    ]);
  }
  if (datatype === BOOLEAN_ARRAY) {
    if (bytes.length < 4) throw new Undecodable('Sparkplug: a boolean array has no count');
    const count = bytes.readUInt32LE(0);
    if (count > (bytes.length - 4) * 8)
      throw new Undecodable('Sparkplug: a boolean array ends before its count');
    return Array.from({ length: count }, (_, index) => [
      `_${index}`,
      ((bytes[4 + (index >> 3)] as number) & (0x80 >> (index & 7))) !== 0, // Within the count.
    ]);
  }
  if (datatype === STRING_ARRAY) {
    if (!isUtf8(bytes)) throw new Undecodable('Sparkplug: a text is not UTF-8');
    const parts = bytes.toString('utf8').split('\0');
    if (parts.at(-1) === '') parts.pop();
    return parts.map((text, index) => [`_${index}`, text]);
  }
  return undefined;
}

/** DataSet, 6.4.11: columns, types and rows; a cell is `<column>_<row>`. */
function dataSetOf(bytes: Buffer): [string, FieldValue | bigint][] {
  const columns: string[] = [];
  const types: number[] = [];
  const rows: Buffer[] = [];
  for (const field of wireFields(bytes)) {
    if (field.number === 2) columns.push(textOf(field));
    else if (field.number === 3) types.push(...typesOf(field));
    else if (field.number === 4) rows.push(field.bytes);
  }
  const values: [string, FieldValue | bigint][] = [];
  for (const [index, row] of rows.entries()) {
    let column = 0;
    for (const cell of wireFields(row)) {
      for (const value of wireFields(cell.bytes)) {
        const scalar = scalarOf(value.number + 9, value, types[column] ?? 0);
        values.push([`/${columns[column] ?? column}_${index}`, scalar]);
      }
      column++;
    }
  }
  return values;
}

/** Packed or not. */
function typesOf(field: WireField): number[] {
  if (field.type === VARINT) return [Number(field.integer)];
  const types: number[] = [];
  for (const byte of field.bytes) types.push(byte); // Data types are below 128: a byte each.
  return types;
}

/** Template, 6.4.14: its metrics, under its name. A definition says what is possible, and is no reading. */
function templateOf(bytes: Buffer, depth: number): [string, FieldValue | bigint][] {
  if (depth > DEPTH_MAX) throw new Undecodable(`nested more than ${DEPTH_MAX} levels deep`);
  const values: [string, FieldValue | bigint][] = [];
  for (const field of wireFields(bytes)) {
    if (field.number === 5 && field.integer !== 0n) return [];
    if (field.number !== 2) continue;
    const metric = metricOf(field.bytes, depth + 1);
    if (metric.problem !== undefined) throw new Undecodable(metric.problem);
    for (const [suffix, value] of metric.values)
      values.push([`/${metric.name ?? String(metric.alias)}${suffix}`, value]);
  }
  return values;
}

/** `engUnit` and `Quality` of a property set: names (1) and values (2) side by side. */
function propertiesOf(bytes: Buffer): Pick<SparkplugMetric, 'unit' | 'quality'> {
  const names: string[] = [];
  const values: Buffer[] = [];
  for (const field of wireFields(bytes)) {
    if (field.number === 1) names.push(textOf(field));
    else if (field.number === 2) values.push(field.bytes);
  }
  let unit: string | undefined;
  let quality: number | undefined;
  for (const [index, name] of names.entries()) {
    for (const field of wireFields(values[index] ?? NOTHING)) {
      if (/^eng(ineering)?units?$/i.test(name) && field.number === 8) unit ??= textOf(field);
      if (/^quality$/i.test(name) && (field.number === 3 || field.number === 4))
        quality = Number(BigInt.asIntN(field.number === 3 ? 32 : 64, field.integer));
    }
  }
  return { unit, quality };
}

export function metricOf(bytes: Buffer, depth = 0): SparkplugMetric {
  const metric: SparkplugMetric = {
    name: undefined,
    alias: undefined,
    timestamp: undefined,
    datatype: 0,
    isHistorical: false,
    isTransient: false,
    isNull: false,
    values: [],
    unit: undefined,
    quality: undefined,
    problem: undefined,
  };
  let value: WireField | undefined;
  for (const field of wireFields(bytes)) {
    switch (field.number) {
      case 1:
        metric.name = textOf(field);
        break;
      case 2:
        metric.alias = field.integer;
        break;
      case 3:
        metric.timestamp = millis(field);
        break;
      case 4:
        metric.datatype = Number(field.integer);
        break;
      case 5:
        metric.isHistorical = field.integer !== 0n;
        break;
      case 6:
        metric.isTransient = field.integer !== 0n;
        break;
      case 7:
        metric.isNull = field.integer !== 0n;
        break;
      case 9:
        Object.assign(metric, propertiesOf(field.bytes));
        break;
      default:
        if (field.number >= 10 && field.number <= 18) value = field;
    }
  }
  if (value === undefined || metric.isNull) return metric;
  try {
    metric.values = valuesOf(metric, value, depth);
  } catch (error) {
    if (!(error instanceof Undecodable)) throw error;
    metric.problem = error.message;
  }
  return metric;
}

function valuesOf(
  { datatype }: SparkplugMetric,
  field: WireField,
  depth: number,
): SparkplugMetric['values'] {
  switch (field.number) {
    case 16:
      return arrayOf(datatype, field.bytes) ?? [['', field.bytes.toString('hex')]];
    case 17:
      return dataSetOf(field.bytes);
    case 18:
      return templateOf(field.bytes, depth);
    default:
      return [['', scalarOf(field.number, field, datatype)]];
  }
}

/** Throws Undecodable. */
export function decodeSparkplugPayload(bytes: Buffer): SparkplugPayload {
  const { payload, body } = readPayload(bytes);
  return payload.uuid === COMPRESSED ? opened(payload, body) : payload;
}

function readPayload(bytes: Buffer): { payload: SparkplugPayload; body: Buffer | undefined } {
  const payload: SparkplugPayload = {
    timestamp: undefined,
    metrics: [],
    seq: undefined,
    uuid: undefined,
  };
  let body: Buffer | undefined;
  for (const field of wireFields(bytes)) {
    if (field.number === 1) payload.timestamp = millis(field);
    else if (field.number === 2) payload.metrics.push(metricOf(field.bytes));
    else if (field.number === 3) payload.seq = Number(field.integer);
    else if (field.number === 4) payload.uuid = textOf(field);
    else if (field.number === 5) body = field.bytes;
  }
  return { payload, body };
}

/** What is compressed in a payload, which says how in its metric `algorithm`. */
function opened(outer: SparkplugPayload, body: Buffer | undefined): SparkplugPayload {
  const said = outer.metrics.find(({ name }) => name === 'algorithm')?.values[0]?.[1];
  // Tahu leaves it out for its default.
  const algorithm = typeof said === 'string' ? said.toUpperCase() : 'DEFLATE';
  if (body === undefined) throw new Undecodable('Sparkplug: a compressed payload has no body');
  const inner = readPayload(inflated(body, algorithm)).payload;
  if (inner.uuid === COMPRESSED) throw new Undecodable('Sparkplug: a payload is compressed twice');
  return {
    ...inner,
    timestamp: inner.timestamp ?? outer.timestamp,
    seq: inner.seq ?? outer.seq,
  };
}

function inflated(body: Buffer, algorithm: string): Buffer {
  const options = { maxOutputLength: PAYLOAD_BYTES_MAX };
  try {
    if (algorithm === 'GZIP') return gunzipSync(body, options);
    if (algorithm === 'DEFLATE') return inflateSync(body, options);
  } catch (error) {
    throw new Undecodable(
      `Sparkplug: the compressed payload cannot be opened (${algorithm}, at most ${PAYLOAD_BYTES_MAX} bytes): ${messageOf(error)}`,
      { cause: error },
    );
  }
  throw new Undecodable(
    `Sparkplug: the payload is compressed with '${algorithm.slice(0, 40)}'; known are GZIP and DEFLATE`,
  );
}

/** The same metric with a data type that its BIRTH declared: integers are read anew. */
export function withDatatype(metric: SparkplugMetric, datatype: number): SparkplugMetric {
  const bits = SIGNED[datatype];
  const values = metric.values.map(([suffix, value]): [string, FieldValue | bigint] => {
    if (typeof value !== 'bigint') return [suffix, value];
    if (bits !== undefined) return [suffix, BigInt.asIntN(bits, value)];
    if (datatype === DATETIME) return [suffix, dateText(exactNumber('value', value))];
    return [suffix, value];
  });
  return { ...metric, datatype, values };
}

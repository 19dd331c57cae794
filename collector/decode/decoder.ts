/**
 * From a message to readings: the first mapping that takes it, else what can be told from the payload alone. Whatever
 * cannot be read goes to quarantine with its reason and holds up nobody (law 5).
 */
import { createHash } from 'node:crypto';
import { Undecodable, type Decoded, type FieldMeta } from '../../shared/codecs/codec.ts';
import { decodeTree } from '../../shared/codecs/json.ts';
import type { EpochUnit } from '../../shared/codecs/time.ts';
import { isObject, type Tree } from '../../shared/codecs/tree.ts';
import type { FrameRecord } from '../../shared/frame/frame.ts';
import { IDEMPOTENCY_PROPERTY } from '../../shared/http/ingest.ts';
import { readProperties } from '../../shared/mqtt/properties.ts';
import { identityDigits, type FieldValue, type Reading } from '../../shared/model/reading.ts';
import type { MessageContext } from './codecs/context.ts';
import {
  codecOfContentType,
  detect,
  parseAs,
  type CodecName,
  type Parsed,
} from './codecs/detect.ts';
import { decodeDiscovery, discovered } from './codecs/home-assistant.ts';
import { decodeHomie } from './codecs/homie.ts';
import { decodeSparkplug } from './codecs/sparkplug.ts';
import type { InnerCodec, Mapping, ScriptCodec } from './mapping/mapping.ts';
import type { Candidate, Mappings, Meaning } from './mapping/mappings.ts';
import { valueAt, type Match } from './mapping/path.ts';
import { applyRule, holds, type Rule } from './mapping/rule.ts';

/** What a message is read with, besides its bytes. */
interface Hints {
  codec: CodecName | undefined;
  precision: EpochUnit | undefined;
  /** Given by an HTTP client. */
  key: string | undefined;
}

const NO_HINTS: Hints = { codec: undefined, precision: undefined, key: undefined };
const PRECISIONS: readonly string[] = ['s', 'ms', 'us', 'ns'];

function hintsOf({ properties }: FrameRecord): Hints {
  if (properties === undefined) return NO_HINTS;
  const { contentType, user } = readProperties(properties);
  const precision = user.find(([name]) => name === 'precision')?.[1];
  return {
    key: user.find(([name]) => name === IDEMPOTENCY_PROPERTY)?.[1],
    codec: contentType === undefined ? undefined : codecOfContentType(contentType),
    precision:
      precision !== undefined && PRECISIONS.includes(precision)
        ? (precision as EpochUnit)
        : undefined,
  };
}

/** Tags of a mapping, and of the values that it makes tags, which are taken out of the fields. */
export function takeTags(
  fields: Map<string, FieldValue>,
  names: Iterable<string>,
  tags: Record<string, string>,
): void {
  for (const name of names) {
    for (const typed of [name, `${name}_text`, `${name}_bool`]) {
      const value = fields.get(typed);
      if (value === undefined) continue;
      tags[name] = String(value);
      fields.delete(typed);
    }
  }
}

/** Ids of one topic's messages that are remembered. */
const IDS_MAX = 32;

/** What the rules say of the message around the bytes still holds: the result stands beside it. */
const beside = (document: Tree, decoded: Tree): Tree =>
  isObject(document) ? { ...document, decoded } : decoded;

const NOTHING_ABOVE: Tree[] = [];
const NO_NAMES: ReadonlyMap<string, string> = new Map();
const root = (document: Tree): Match => ({
  node: document,
  above: NOTHING_ABOVE,
  names: NO_NAMES,
});

/** Bytes of a text in a document. */
function bytesOf(value: Tree | undefined, encoding: 'base64' | 'hex', where: string): Uint8Array {
  if (value instanceof Uint8Array) return value;
  if (typeof value !== 'string') throw new Undecodable(`there are no bytes at '${where}'`);
  const bytes = Buffer.from(value, encoding);
  const same = bytes.toString(encoding).replaceAll('=', '');
  const given = value.replaceAll('=', '');
  if (
    encoding === 'hex'
      ? same !== given.toLowerCase()
      : same !== given.replaceAll('-', '+').replaceAll('_', '/')
  )
    throw new Undecodable(`'${where}' is not ${encoding}`);
  return bytes;
}

/** One message on its way through the mappings of its topic. */
class MessageDecoder {
  private readonly record: FrameRecord;
  private readonly context: MessageContext;
  private readonly mappings: Mappings;
  private readonly meaning: Meaning;
  private readonly hints: Hints;
  /** The document as it was read last: several mappings ask for the same. */
  private parsed: { codec: CodecName; result: Parsed } | undefined;

  constructor(record: FrameRecord, context: MessageContext, mappings: Mappings) {
    this.record = record;
    this.context = context;
    this.mappings = mappings;
    this.meaning = mappings.of(context.gateway, record.topic);
    this.hints = hintsOf(record);
  }

  decode(): Decoded[] {
    if (this.isRepeatedRequest()) return [];
    for (const candidate of this.meaning.candidates) {
      const decoded = this.attempt(candidate);
      if (decoded !== undefined) return decoded;
    }
    const { measurement, tags } = this.meaning;
    const parsed = this.parse(this.hints.codec ?? 'auto');
    if ('document' in parsed) {
      const decoded = decodeTree(parsed.document, this.context.latestMs);
      decoded.measurement = measurement;
      decoded.tags = tags;
      return [decoded];
    }
    return parsed.points.map((each) => ({
      ...each,
      measurement: each.measurement ?? measurement,
      tags: each.tags === undefined ? tags : this.mappings.shared({ ...each.tags, ...tags }),
    }));
  }

  private parse(codec: CodecName): Parsed {
    if (this.parsed?.codec === codec) return this.parsed.result;
    const { payload } = this.record;
    const { latestMs } = this.context;
    const result =
      codec === 'auto'
        ? detect(payload, latestMs)
        : parseAs(codec, payload, latestMs, this.hints.precision);
    this.parsed = { codec, result };
    return result;
  }

  /** Undefined: this mapping is not for this message. */
  private attempt(candidate: Candidate): Decoded[] | undefined {
    const { mapping } = candidate;
    const { payload } = this.record;
    switch (mapping.codec) {
      case 'none':
        return [];
      case 'sparkplug':
        return this.tagged(candidate, decodeSparkplug(payload, this.context));
      case 'homie':
        return this.tagged(candidate, decodeHomie(payload, this.context));
      case 'home-assistant':
        return this.tagged(candidate, decodeDiscovery(payload, this.context));
      default:
    }
    const codec = mapping.codec === 'auto' ? (this.hints.codec ?? 'auto') : mapping.codec;
    if (mapping.when.length > 0 && !this.applies(mapping, codec)) return undefined;
    if (this.isRepeat(mapping, codec)) return [];
    const points = this.points(candidate, codec);
    if (points.length === 0 && mapping.empty !== undefined) throw new Undecodable(mapping.empty);
    return points;
  }

  private points(candidate: Candidate, codec: CodecName): Decoded[] {
    const { script, inner } = candidate.mapping;
    if (script !== undefined) return this.scripted(candidate, script, codec);
    const parsed = this.parse(codec);
    if (!('document' in parsed)) return this.tagged(candidate, parsed.points) ?? [];
    return inner === undefined
      ? this.ruled(candidate, parsed.document)
      : this.within(candidate, inner, parsed.document);
  }

  /** A message that carries the id of one before it: sent again by its sender, not measured again. */
  private isRepeat({ idempotency }: Mapping, codec: CodecName): boolean {
    if (idempotency === undefined) return false;
    const parsed = this.parse(codec);
    const id = 'document' in parsed ? valueAt(root(parsed.document), idempotency) : undefined;
    if (typeof id !== 'string' || id === '') return false;
    return this.seenBefore(`idempotency/${this.context.topic}`, id);
  }

  /** A request under an Idempotency-Key that came before: to another process, or before a restart. */
  private isRepeatedRequest(): boolean {
    const { key } = this.hints;
    if (key === undefined) return false;
    const hash = createHash('sha256').update(key).digest('hex').slice(0, 16);
    // Spread over entries, so that one more key does not write all of them again.
    return this.seenBefore(`key/${hash.slice(0, 2)}/${this.record.client}`, hash);
  }

  private seenBefore(key: string, id: string): boolean {
    const { state, epoch, sequence } = this.context;
    const identity = `${epoch}/${sequence}`;
    const seen = (state.get(key) as [string, string][] | undefined) ?? [];
    const before = seen.find(([known]) => known === id);
    // The same message decoded once more (a replay, a clock put right) is no repeat of itself.
    if (before !== undefined) return before[1] !== identity;
    state.set(key, [...seen, [id, identity]].slice(-IDS_MAX));
    return false;
  }

  /** Bytes inside the document: their points, with the document's time where they have none. */
  private within(candidate: Candidate, inner: InnerCodec, document: Tree): Decoded[] {
    const bytes = bytesOf(valueAt(root(document), inner.from), inner.encoding, inner.from.text);
    const parsed = parseAs(inner.codec, Buffer.from(bytes), this.context.latestMs, undefined);
    if ('document' in parsed) return this.ruled(candidate, beside(document, parsed.document));
    const outer = this.ruled(candidate, document);
    const [first] = outer;
    return parsed.points.map((each) => {
      const point: Decoded = { ...each, tags: { ...first?.tags, ...each.tags } };
      if (point.time === undefined && first?.time !== undefined) point.time = first.time;
      const name = point.measurement ?? first?.measurement;
      if (name !== undefined) point.measurement = name;
      point.tags = this.mappings.shared(point.tags ?? {});
      return point;
    });
  }

  /** Conditions on a payload that cannot be read do not hold. */
  private applies(mapping: Mapping, codec: CodecName): boolean {
    let parsed: Parsed;
    try {
      parsed = this.parse(codec);
    } catch (error) {
      if (error instanceof Undecodable) return false;
      throw error;
    }
    if (!('document' in parsed)) return false;
    const place = root(parsed.document);
    return mapping.when.every((condition) => holds(condition, place));
  }

  private scripted(candidate: Candidate, codec: ScriptCodec, format: CodecName): Decoded[] {
    const { script, bytes, encoding, port } = codec;
    const { payload } = this.record;
    if (bytes === undefined) {
      const fPort = typeof port === 'number' ? port : 1;
      return this.ruled(candidate, script.decode(payload, fPort, this.context.receivedMs));
    }
    const parsed = this.parse(format === 'auto' ? 'json' : format);
    if (!('document' in parsed)) throw new Undecodable('there is no document with bytes in it');
    const place = root(parsed.document);
    const raw = bytesOf(valueAt(place, bytes), encoding, bytes.text);
    const found = typeof port === 'number' ? port : valueAt(place, port);
    const data = script.decode(raw, Number(found ?? 1), this.context.receivedMs);
    return this.ruled(candidate, beside(parsed.document, data));
  }

  private ruled(candidate: Candidate, document: Tree): Decoded[] {
    const { mapping, names } = candidate;
    if (mapping.errors !== undefined) {
      const said = valueAt(root(document), mapping.errors);
      const text = (Array.isArray(said) ? said : [said]).filter(
        (each): each is string => typeof each === 'string' && each !== '',
      );
      if (text.length > 0)
        throw new Undecodable(`the sender could not decode it: ${text.join('; ')}`);
    }
    const context = {
      names,
      receivedMs: this.context.latestMs,
      localZone: this.mappings.localZone,
    };
    return mapping.rules.flatMap((rule) => {
      const decoded = applyRule(rule, document, context);
      for (const each of decoded) this.complete(candidate, rule, each, true);
      return decoded;
    });
  }

  /** Points that a codec made, under the names of the topic and the mapping's first rule. */
  private tagged(candidate: Candidate, points: Decoded[] | undefined): Decoded[] | undefined {
    const [rule] = candidate.mapping.rules;
    if (points === undefined || rule === undefined) return points;
    return points.map((each) => {
      const fixed = Object.fromEntries(
        rule.tags.flatMap(([name, source]) =>
          'constant' in source ? [[name, source.constant]] : [],
        ),
      );
      const point: Decoded = { ...each, tags: { ...each.tags, ...fixed } };
      if (
        each.measurement === undefined &&
        rule.measurement !== undefined &&
        'constant' in rule.measurement
      )
        point.measurement = rule.measurement.constant;
      this.complete(candidate, rule, point, false);
      return point;
    });
  }

  /** `isRuled`: the point's tags are the rule's alone; those of a codec's own points may differ from one to the next. */
  private complete(candidate: Candidate, rule: Rule, point: Decoded, isRuled: boolean): void {
    point.measurement ??= candidate.measurement;
    const known = candidate.fixedTags.get(rule);
    if (isRuled && known !== undefined) {
      point.tags = known;
      return;
    }
    const tags = { ...point.tags, ...candidate.tags };
    takeTags(point.fields, rule.tagFields, tags);
    point.tags = this.mappings.shared(tags);
    if (isRuled && rule.hasFixedTags) candidate.fixedTags.set(rule, point.tags);
  }
}

export interface DecodedReading extends Reading {
  meta?: ReadonlyMap<string, FieldMeta>;
}

/** Empty when the message holds no value (an empty payload, only nulls, metadata). Throws Undecodable. */
export function decodeRecord(
  record: FrameRecord,
  seed: number,
  context: MessageContext,
  mappings: Mappings,
): DecodedReading[] {
  if (record.payload.length === 0 && !record.topic.endsWith('/config')) return [];
  const { discoveryKey } = mappings.of(context.gateway, record.topic);
  const decoded = new MessageDecoder(record, context, mappings).decode();
  const known = discovered(context.state, discoveryKey);
  const readings: DecodedReading[] = [];
  const { sequence } = record;
  for (const [index, { measurement, tags, fields, time, meta }] of decoded.entries()) {
    if (fields.size === 0) continue;
    const reading: DecodedReading = {
      measurement: measurement as string, // Completed above.
      tags: tags as Record<string, string>,
      fields: objectOf(fields),
      sequence,
      index,
      timeMs: time?.ms ?? context.receivedMs,
      // A device that gives microseconds or nanoseconds keeps its own digits.
      ns: time?.fine === true ? time.ns : identityDigits(seed, sequence, index, 1_000_000),
    };
    const all = known === undefined ? meta : new Map([...(meta ?? []), ...known]);
    if (all !== undefined && all.size > 0) reading.meta = all;
    readings.push(reading);
  }
  return readings;
}

/** A Map as an object; `__proto__` becomes a field like any other. */
function objectOf(fields: Map<string, FieldValue>): Record<string, FieldValue> {
  return Object.fromEntries(fields);
}

/** One message on its way through the mappings of its topic. */
import { createHash } from 'node:crypto';
import { Undecodable, type Decoded, type Problem } from '../../shared/codecs/codec.ts';
import { decodeTrees } from '../../shared/codecs/json.ts';
import { isObject, type Tree } from '../../shared/codecs/tree.ts';
import type { FrameRecord } from '../../shared/frame/frame.ts';
import type { FieldValue } from '../../shared/model/reading.ts';
import type { MessageContext, ProtocolCodec } from './codecs/context.ts';
import { parseAs } from './codecs/detect.ts';
import { decodeDiscovery } from './codecs/home-assistant.ts';
import { decodeHomie } from './codecs/homie.ts';
import { decodeSimatic } from './codecs/simatic.ts';
import { decodeSparkplug } from './codecs/sparkplug.ts';
import type { CodecName, Parsed } from './codecs/table.ts';
import { hintsOf, type Hints } from './hints.ts';
import { bytesOf, inflated } from './inner-bytes.ts';
import { applyRule } from './mapping/apply.ts';
import type { InnerCodec, Mapping, ScriptCodec } from './mapping/mapping.ts';
import type { Candidate, Mappings, Meaning } from './mapping/mappings.ts';
import { root, valueAt, withoutPlace } from './mapping/path.ts';
import { refined } from './mapping/point.ts';
import { hasValue, leftOver } from './mapping/rest.ts';
import { holds, type Rule, type RuleContext } from './mapping/rule.ts';

/** Values that a mapping makes tags, which are taken out of the fields. An empty text is no tag. */
export function takeTags(
  fields: Map<string, FieldValue>,
  names: Iterable<string>,
  tags: Record<string, string>,
): void {
  for (const name of names) {
    for (const typed of [name, `${name}_text`, `${name}_bool`]) {
      const value = fields.get(typed);
      if (value === undefined) continue;
      if (value !== '') tags[name] = String(value);
      fields.delete(typed);
    }
  }
}

const PROTOCOLS: Partial<Record<CodecName, ProtocolCodec>> = {
  sparkplug: decodeSparkplug,
  homie: decodeHomie,
  'home-assistant': decodeDiscovery,
  simatic: decodeSimatic,
};

/** Ids of one topic's messages that are remembered. */
const IDS_MAX = 32;
/** What the rules say of the message around the bytes still holds: the result stands beside it. */
const beside = (document: Tree, decoded: Tree): Tree =>
  isObject(document) ? { ...document, decoded } : decoded;

/** What a message gives, before it has an identity. */
export interface Outcome {
  points: Decoded[];
  problems?: Problem[] | undefined;
  /** What the mapping leaves over. */
  left?: { mapping: string; paths: readonly string[] } | undefined;
}

const NOTHING: Outcome = { points: [] };

export class MessageDecoder {
  private readonly record: FrameRecord;
  private readonly context: MessageContext;
  private readonly mappings: Mappings;
  private readonly meaning: Meaning;
  private readonly hints: Hints;
  /** The document as it was read last: several mappings ask for the same. */
  private parsed: { codec: CodecName; mapping: Mapping | undefined; result: Parsed } | undefined;
  /** The mapping that took the message; none: it was told from the payload. */
  used: Mapping | undefined;

  constructor(record: FrameRecord, context: MessageContext, mappings: Mappings) {
    this.record = record;
    this.context = context;
    this.mappings = mappings;
    this.meaning = mappings.of(context.gateway, record.topic);
    this.hints = hintsOf(record);
  }

  /** Throws Undecodable. */
  decode(): Outcome {
    if (this.isRepeatedRequest()) return NOTHING;
    let isOpen: boolean | undefined;
    for (const candidate of this.meaning.candidates) {
      if (candidate.isGated && !(isOpen ??= this.opensGate())) continue;
      const outcome = this.attempt(candidate);
      if (outcome === undefined) continue;
      this.used = candidate.mapping;
      return outcome;
    }
    const { measurement, tags } = this.meaning;
    const parsed = this.parse(this.hints.codec ?? 'auto');
    if ('document' in parsed) {
      const points = decodeTrees(parsed.document, this.context.latestMs, this.mappings.times);
      for (const each of points) {
        each.measurement = measurement;
        each.tags =
          each.tags === undefined ? tags : this.mappings.shared({ ...each.tags, ...tags });
      }
      return { points, problems: parsed.problems };
    }
    const points = parsed.points.map((each) => ({
      ...each,
      measurement: each.measurement ?? measurement,
      tags: each.tags === undefined ? tags : this.mappings.shared({ ...each.tags, ...tags }),
    }));
    return { points, problems: parsed.problems };
  }

  /** Whether the document has a member that the conditions of some mapping ask for. */
  private opensGate(): boolean {
    const { gates } = this.meaning;
    try {
      const parsed = this.parse(this.hints.codec ?? 'auto');
      if (!('document' in parsed)) return false;
      const { document } = parsed;
      if (Array.isArray(document)) return document.length > 0;
      return isObject(document) && Object.keys(document).some((key) => gates.has(key));
    } catch (error) {
      if (error instanceof Undecodable) return false;
      throw error;
    }
  }

  private parse(codec: CodecName, mapping?: Mapping): Parsed {
    const { parsed } = this;
    const isSpecial = mapping?.charset !== undefined || mapping?.compression !== undefined;
    const key = isSpecial ? mapping : undefined;
    if (parsed?.codec === codec && parsed.mapping === key) return parsed.result;
    const { payload } = this.record;
    const compression = mapping?.compression;
    const charset = mapping?.charset ?? this.hints.charset;
    const hints = {
      receivedMs: this.context.latestMs,
      precision: this.hints.precision,
      charset,
    };
    let bytes = compression === undefined ? payload : inflated(payload, compression);
    // What is guessed is guessed of text; the encoding is known here.
    if (codec === 'auto' && charset !== undefined)
      bytes = Buffer.from(new TextDecoder(charset).decode(bytes));
    const result = parseAs(codec, bytes, hints);
    this.parsed = { codec, mapping: key, result };
    return result;
  }

  /** Undefined: this mapping is not for this message. */
  private attempt(candidate: Candidate): Outcome | undefined {
    const { mapping } = candidate;
    const protocol = PROTOCOLS[mapping.codec];
    if (protocol !== undefined) {
      const points = protocol(this.record.payload, this.context);
      return points === undefined ? undefined : { points: this.tagged(candidate, points) };
    }
    const usual = mapping.codec === 'auto' || mapping.codec === 'none';
    const codec = usual ? (this.hints.codec ?? 'auto') : mapping.codec;
    if (mapping.when.length > 0 && !this.applies(mapping, codec)) return undefined;
    if (mapping.codec === 'none' || this.isRepeat(mapping, codec)) return NOTHING;
    const outcome = this.points(candidate, codec);
    if (outcome.points.length === 0 && typeof mapping.empty === 'string')
      throw new Undecodable(mapping.empty);
    return outcome;
  }

  private points(candidate: Candidate, codec: CodecName): Outcome {
    const { mapping } = candidate;
    const { script, inner } = mapping;
    if (script !== undefined) return this.scripted(candidate, script, codec);
    const parsed = this.parse(codec, mapping);
    if (!('document' in parsed)) {
      const { points, problems, guessedOf } = parsed;
      if (guessedOf !== undefined && mapping.hasPlaces) return this.ruled(candidate, guessedOf);
      return { points: this.tagged(candidate, points), problems };
    }
    return inner === undefined
      ? told(mapping, parsed, this.ruled(candidate, parsed.document))
      : told(mapping, parsed, this.within(candidate, inner, parsed.document));
  }

  /** A message that carries the id of one before it: sent again by its sender, not measured again. */
  private isRepeat(mapping: Mapping, codec: CodecName): boolean {
    const { idempotency } = mapping;
    if (idempotency === undefined) return false;
    const parsed = this.parse(codec, mapping);
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
  private within(candidate: Candidate, inner: InnerCodec, document: Tree): Outcome {
    const bytes = bytesOf(valueAt(root(document), inner.from), inner.encoding, inner.from.text);
    const { latestMs } = this.context;
    const parsed = parseAs(inner.codec, Buffer.from(bytes), { receivedMs: latestMs });
    if ('document' in parsed) {
      const both = this.ruled(candidate, beside(document, parsed.document));
      return told(candidate.mapping, parsed, both);
    }
    const outer = this.ruled(candidate, withoutPlace(document, inner.from.segments));
    const [first] = outer.points;
    const points = parsed.points.map((each) => {
      const point: Decoded = { ...each, tags: { ...first?.tags, ...each.tags } };
      if (point.time === undefined && first?.time !== undefined) point.time = first.time;
      const name = point.measurement ?? first?.measurement;
      if (name !== undefined) point.measurement = name;
      point.tags = this.mappings.shared(point.tags ?? {});
      return point;
    });
    const around = outer.points.filter((each) => !isEmpty(each));
    return told(candidate.mapping, parsed, { ...outer, points: [...points, ...around] });
  }

  /** Conditions on a payload that cannot be read do not hold. */
  private applies(mapping: Mapping, codec: CodecName): boolean {
    let parsed: Parsed;
    try {
      parsed = this.parse(codec, mapping);
    } catch (error) {
      if (error instanceof Undecodable) return false;
      throw error;
    }
    if (!('document' in parsed)) return false;
    const { document } = parsed;
    const { gate } = mapping;
    if (gate !== undefined) {
      if (typeof document !== 'object' || document === null) return false;
      if (!Object.hasOwn(document, gate)) return false;
    }
    const place = root(document);
    return mapping.when.every((condition) => holds(condition, place));
  }

  private scripted(candidate: Candidate, codec: ScriptCodec, format: CodecName): Outcome {
    const { script, bytes, encoding, port } = codec;
    const { receivedMs, topic } = this.context;
    const about = { topic, properties: this.hints.user };
    if (bytes === undefined) {
      const fPort = typeof port === 'number' ? port : 1;
      return this.ruled(candidate, script.decode(this.record.payload, fPort, receivedMs, about));
    }
    const parsed = this.parse(format === 'auto' ? 'json' : format, candidate.mapping);
    if (!('document' in parsed)) throw new Undecodable('there is no document with bytes in it');
    const place = root(parsed.document);
    const raw = bytesOf(valueAt(place, bytes), encoding, bytes.text);
    const found = typeof port === 'number' ? port : valueAt(place, port);
    const data = script.decode(raw, Number(found ?? 1), receivedMs, about);
    return this.ruled(candidate, beside(parsed.document, data));
  }

  private rules({ names }: Candidate): RuleContext {
    return {
      names,
      receivedMs: this.context.latestMs,
      times: this.mappings.times,
      properties: this.hints.user,
      hasDropped: false,
    };
  }

  private ruled(candidate: Candidate, document: Tree): Outcome {
    const { mapping } = candidate;
    if (mapping.errors !== undefined) {
      const said = valueAt(root(document), mapping.errors);
      const text = (Array.isArray(said) ? said : [said]).filter(
        (each): each is string => typeof each === 'string' && each !== '',
      );
      if (text.length > 0)
        throw new Undecodable(`the sender could not decode it: ${text.join('; ')}`);
    }
    const context = this.rules(candidate);
    let points: Decoded[] = [];
    for (const rule of mapping.rules) {
      const decoded = applyRule(rule, document, context);
      for (const each of decoded) this.complete(candidate, rule, each, true);
      points = points.length === 0 ? decoded : points.concat(decoded);
    }
    const hasNone = points.every(isEmpty);
    if (hasNone) this.checkEmpty(mapping, document, context);
    if (mapping.claims === undefined || (hasNone && mapping.empty === true)) return { points };
    const paths = leftOver(document, mapping.claims);
    return paths.length === 0 ? { points } : { points, left: { mapping: mapping.name, paths } };
  }

  /** A mapping took the message and made nothing of it, though it holds values that the mapping does not drop by name. */
  private checkEmpty({ name, empty }: Mapping, document: Tree, { hasDropped }: RuleContext): void {
    if (empty !== undefined || hasDropped || !hasValue(document)) return;
    throw new Undecodable(
      `mapping '${name}' takes this message and makes no reading of it: none of its points or fields leads to a value (empty: true says that this may be)`,
    );
  }

  /** Points that a codec made, as the mapping's first rule that is not for places of a document wants them. */
  private tagged(candidate: Candidate, points: Decoded[]): Decoded[] {
    const rule = candidate.mapping.rules.find(
      ({ each, parallel }) => each.segments.length === 0 && parallel === undefined,
    );
    if (rule === undefined) return points.map((each) => this.bare(candidate, each));
    if (rule.isPlain) {
      for (const each of points) {
        if (rule.constants !== undefined) each.tags = { ...each.tags, ...rule.constants };
        this.complete(candidate, rule, each, false);
      }
      return points;
    }
    const context = this.rules(candidate);
    return points.map((each) => {
      const point = refined(rule, each, context);
      this.complete(candidate, rule, point, false);
      return point;
    });
  }

  private bare({ measurement, tags }: Candidate, point: Decoded): Decoded {
    const all = this.mappings.shared({ ...point.tags, ...tags });
    return { ...point, measurement: point.measurement ?? measurement, tags: all };
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

/** With what the codec could not read, and the words that it passed over. */
function told(
  { name, isRestTold }: Mapping,
  { problems, words }: Parsed,
  outcome: Outcome,
): Outcome {
  if (problems === undefined && words === undefined) return outcome;
  const all = [...(problems ?? []), ...(outcome.problems ?? [])];
  const left = [...(outcome.left?.paths ?? []), ...((isRestTold ? words : undefined) ?? [])];
  return {
    points: outcome.points,
    problems: all.length === 0 ? undefined : all,
    left: left.length === 0 ? undefined : { mapping: name, paths: left },
  };
}

const isEmpty = ({ fields }: Decoded): boolean => fields.isEmpty;

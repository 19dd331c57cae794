/**
 * Every codec: a row. What a mapping may name, which content types choose it, how it is recognised without either, and
 * what it makes of bytes. `docs/readings.md` lists the rows, and a test proves it.
 */
import { decodeCayenneLpp } from '../../../shared/codecs/cayenne-lpp.ts';
import { Undecodable, type Decoded, type Problem } from '../../../shared/codecs/codec.ts';
import { parseDeviceJson, parseJson } from '../../../shared/codecs/exact-json.ts';
import { looseObject } from '../../../shared/codecs/loose-json.ts';
import { decodeLines, looksLikeLineProtocol } from '../../../shared/codecs/line-protocol.ts';
import { decodeRuuvi } from '../../../shared/codecs/ruuvi.ts';
import { scalarTree } from '../../../shared/codecs/scalar.ts';
import { decodeSenml, isSenml } from '../../../shared/codecs/senml.ts';
import type { EpochUnit } from '../../../shared/codecs/time.ts';
import type { Tree } from '../../../shared/codecs/tree.ts';
import { decodeCbor, decodeCborSequence } from './cbor.ts';
import { csvTree, guessedCsv } from './csv.ts';
import { decodeMsgpack } from './msgpack.ts';
import {
  guessedDocuments,
  guessedLines,
  guessedQuery,
  keyValueTree,
  ndjsonTree,
  queryTree,
} from './tables.ts';
import { HeadwaterError } from '../../../shared/errors.ts';
import { hasControl, textOf } from './text.ts';

/** A document, of which a mapping or the default makes points; or the points themselves, and what of the payload is wrong. */
export type Parsed = ({ document: Tree } | { points: Decoded[]; guessedOf?: Tree }) & {
  problems?: Problem[];
  /** Of the payload, what is no value of any name. */
  words?: readonly string[];
};

/** What is known besides the bytes. */
export interface Hints {
  receivedMs: number;
  /** Of line protocol's timestamps. */
  precision?: EpochUnit | undefined;
  /** Of text; undefined: UTF-8. */
  charset?: string | undefined;
}

/** A payload that is text, looked at once for all codecs. */
export interface Seen {
  text: string;
  /** Its first character that is no white space. */
  first: string;
  receivedMs: number;
}

export interface CodecRow {
  name: string;
  contentTypes: readonly string[];
  /**
   * `document`: a mapping's rules make points of it; `points`: it makes its own, and rules go over them; `protocol`: the
   * same, with topic and state; `nothing`.
   */
  gives: 'document' | 'points' | 'protocol' | 'nothing';
  about: string;
  /** How it is recognised, for the docs. */
  recognised: string;
  /** Undefined: it is not of this codec. Throws Undecodable for what plainly is, and is damaged. */
  look?: (seen: Seen) => Parsed | undefined;
  /** Bytes that are no text are tried; they count when all of them are a map with names in one codec and no other. */
  isBinary?: boolean;
  /** Throws Undecodable. */
  parse?: (payload: Buffer, hints: Hints) => Parsed;
}

/** A line that begins like a list and goes on as text, `[12:00:01] door open`, or in a time or date. */
const isLogLine = (text: string): boolean =>
  /^\s*\[(?:[^\]"{[]*\]\s*[^\s,\]]|\d+[:/-]\d)/.test(text);

function lookJson({ text, first }: Seen): Parsed | undefined {
  if (first !== '{' && first !== '[' && first !== '"') return undefined;
  try {
    return { document: parseJson(text) };
  } catch (error) {
    if (first === '"' || (first === '[' && isLogLine(text))) return undefined;
    const document = guessedLines(text) ?? guessedDocuments(text) ?? looseObject(text);
    if (document === undefined) throw error;
    return { document };
  }
}

/** Guessed only: most lines must be lines. */
function lookLines({ text, receivedMs }: Seen): Parsed | undefined {
  if (!looksLikeLineProtocol(text)) return undefined;
  const found = decodeLines(text, receivedMs);
  return found.points.length > found.problems.length ? found : undefined;
}

/** What is nothing but pairs or a table with names above it is one; all else is a text. */
function lookText({ text }: Seen): Parsed | undefined {
  if (hasControl(text)) return undefined;
  const document = scalarTree(text);
  if (typeof document !== 'string') return { document };
  return { document: guessedQuery(text) ?? guessedCsv(text) ?? document };
}

function parseLines(payload: Buffer, { receivedMs, precision, charset }: Hints): Parsed {
  const found = decodeLines(textOf(payload, charset), receivedMs, precision);
  if (found.points.length + found.problems.length === 0)
    throw new Undecodable('line protocol: no line');
  return found;
}

function parseSenml(payload: Buffer, { receivedMs }: Hints): Parsed {
  const isText = payload[payload.findIndex((byte) => byte > 0x20)] === 0x5b;
  return decodeSenml(isText ? parseJson(textOf(payload)) : decodeCbor(payload), receivedMs);
}

const text =
  (read: (text: string) => Tree) =>
  (payload: Buffer, { charset }: Hints): Parsed => ({ document: read(textOf(payload, charset)) });

const ROWS = [
  {
    name: 'json',
    contentTypes: ['application/json'],
    gives: 'document',
    about: 'JSON; NaN and infinities, as Python and C write them, are left out and counted',
    recognised: 'look: it begins with {, [ or "',
    look: lookJson,
    parse: text(parseDeviceJson),
  },
  {
    name: 'line-protocol',
    contentTypes: ['application/vnd.influx.line-protocol', 'text/x-influx-line-protocol'],
    gives: 'points',
    about: "InfluxDB's line protocol; a line that is wrong goes to quarantine alone",
    recognised: 'look: most lines are lines of it',
    look: lookLines,
    parse: parseLines,
  },
  {
    name: 'text',
    contentTypes: [],
    gives: 'document',
    about: 'the whole payload as one text; without a mapping a bare number, true, false or text',
    recognised: 'look: all other text',
    look: lookText,
    parse: text((each) => each),
  },
  {
    name: 'ndjson',
    contentTypes: ['application/x-ndjson', 'application/jsonl', 'application/x-jsonlines'],
    gives: 'document',
    about: 'a JSON document a line: a list; a line that is wrong goes to quarantine alone',
    recognised: 'look: several lines, each of them JSON, or objects one behind another',
    parse: (payload, { charset }) => ndjsonTree(textOf(payload, charset)),
  },
  {
    name: 'csv',
    contentTypes: ['text/csv'],
    gives: 'document',
    about:
      'a list of rows by the names in the first line, or a list of lists where that line has a number',
    recognised:
      'content type; look: a line of names, and below it lines of as many cells with a number in each',
    parse: text(csvTree),
  },
  {
    name: 'key-value',
    contentTypes: [],
    gives: 'document',
    about:
      '`a=1 b=2`, separated by spaces, commas, semicolons or line ends; words without a value are told',
    recognised: '',
    parse: (payload, { charset }) => keyValueTree(textOf(payload, charset)),
  },
  {
    name: 'query-string',
    contentTypes: ['application/x-www-form-urlencoded'],
    gives: 'document',
    about: '`a=1&b=2`, percent-encoded',
    recognised: 'content type; look: nothing but pairs with `&` between them, one of them a number',
    parse: text(queryTree),
  },
  {
    name: 'cbor',
    contentTypes: ['application/cbor'],
    gives: 'document',
    about: 'RFC 8949',
    recognised: 'look: the whole payload is a map with text keys, in no other binary codec',
    isBinary: true,
    parse: (payload) => ({ document: decodeCbor(payload) }),
  },
  {
    name: 'cbor-seq',
    contentTypes: ['application/cbor-seq'],
    gives: 'document',
    about: 'a CBOR sequence (RFC 8742): a list of its items',
    recognised: '',
    parse: (payload) => ({ document: decodeCborSequence(payload) }),
  },
  {
    name: 'msgpack',
    contentTypes: ['application/msgpack', 'application/x-msgpack', 'application/vnd.msgpack'],
    gives: 'document',
    about: 'MessagePack',
    recognised: 'look: the same',
    isBinary: true,
    parse: (payload) => ({ document: decodeMsgpack(payload) }),
  },
  {
    name: 'senml',
    contentTypes: [
      'application/senml+json',
      'application/sensml+json',
      'application/senml+cbor',
      'application/sensml+cbor',
    ],
    gives: 'points',
    about: 'RFC 8428, JSON and CBOR, all units; a record that is wrong goes to quarantine alone',
    recognised: 'look: a list of records with its labels alone',
    parse: parseSenml,
  },
  {
    name: 'cayenne-lpp',
    contentTypes: [],
    gives: 'points',
    about: 'Cayenne Low Power Payload',
    recognised: '',
    parse: (payload) => ({ points: [decodeCayenneLpp(payload)] }),
  },
  {
    name: 'ruuvi',
    contentTypes: [],
    gives: 'points',
    about: 'RuuviTag, data formats 3 and 5',
    recognised: '',
    parse: (payload) => ({ points: [decodeRuuvi(payload)] }),
  },
  {
    name: 'sparkplug',
    contentTypes: [],
    gives: 'protocol',
    about:
      'Sparkplug B 3.0: aliases, metrics of every type, data sets, templates, quality, compressed payloads; births, deaths, sequence',
    recognised: 'topics `spBv1.0/…`',
  },
  {
    name: 'homie',
    contentTypes: [],
    gives: 'protocol',
    about: 'Homie 3, 4 and 5',
    recognised: 'topics `homie/…`, and others once a device has described itself there',
  },
  {
    name: 'home-assistant',
    contentTypes: [],
    gives: 'protocol',
    about: "Home Assistant's discovery: units and names, no readings",
    recognised: 'topics `homeassistant/…/config`',
  },
  {
    name: 'simatic',
    contentTypes: [],
    gives: 'protocol',
    about: "the databus of Siemens' Industrial Edge: values under the names that its metadata has",
    recognised: 'topics `ie/…/simatic/v1/…`',
  },
  {
    name: 'bytes',
    contentTypes: [],
    gives: 'document',
    about: 'the whole payload as bytes, for `types: { value: hex }`',
    recognised: '',
    parse: (payload) => ({ document: payload }),
  },
  {
    name: 'none',
    contentTypes: [],
    gives: 'nothing',
    about: 'the messages stay in the raw log and give no readings',
    recognised: '',
  },
] as const satisfies readonly CodecRow[];

/** `auto`, a row here, or the codec of a package that `decode.codecs` names. */
export type CodecName = string;

/** In the order in which they look. */
export const CODECS: readonly CodecRow[] = ROWS;

const BY_NAME: ReadonlyMap<string, CodecRow> = new Map(CODECS.map((row) => [row.name, row]));
const BY_TYPE: ReadonlyMap<string, CodecName> = new Map(
  CODECS.flatMap(({ name, contentTypes }) => contentTypes.map((type) => [type, name] as const)),
);
/** Of packages, by name: chosen by mappings alone, so that what a package brings changes no message that none of them names. */
const ADDED = new Map<string, CodecRow>();

/** Once for a process, before its mappings are read. Throws CONFIG_INVALID for a name that is taken. */
export function addCodec(row: CodecRow): void {
  if (row.name === 'auto' || BY_NAME.has(row.name))
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `decode.codecs: a package names its codec '${row.name}', as one of Headwater's own is called`,
    );
  ADDED.set(row.name, row);
}

export const codecOf = (name: CodecName): CodecRow | undefined =>
  BY_NAME.get(name) ?? ADDED.get(name);

/** What a mapping may name. */
export const codecNames = (): CodecName[] => ['auto', ...BY_NAME.keys(), ...ADDED.keys()];

/** What a content type says; undefined for one that says nothing of a codec (`text/plain`, octets). */
export const codecOfContentType = (type: string): CodecName | undefined =>
  BY_TYPE.get((type.split(';')[0] ?? '').trim().toLowerCase());

/** A document that a guess has found, as SenML where it looks so; a mapping's rules may want the document. */
export function adopted(document: Tree, receivedMs: number): Parsed {
  if (!isSenml(document)) return { document };
  return { ...decodeSenml(document, receivedMs), guessedOf: document };
}

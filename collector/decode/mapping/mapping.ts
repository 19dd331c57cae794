/**
 * Mappings: what a topic means. A YAML file lists them; the first whose template and conditions hold decides.
 * `docs/mappings.md` describes the keys, and `collector/mappings/` has those that are shipped, each with its example.
 * A key that the mapping's codec could not heed is an error: nothing that somebody writes is passed over.
 */
import { dirname, isAbsolute, join } from 'node:path';
import { parse } from 'yaml';
import { readUserFile } from '../../../shared/config/user-file.ts';
import { HeadwaterError, messageOf } from '../../../shared/errors.ts';
import { SCRIPT_BYTES_MAX, Script } from '../codecs/script.ts';
import { codecNames, codecOf, type CodecName } from '../codecs/table.ts';
import { isCharset } from '../codecs/text.ts';
import type { Path } from './path.ts';
import { Place } from './place.ts';
import { PLACE_KEYS, RULE_KEYS, conditions, readRule } from './read-rule.ts';
import { claimsOf, type Claims } from './rest.ts';
import { builtDocument } from './shipped.ts';
import type { Condition, Rule } from './rule.ts';
import { compileTemplate, type Template } from './template.ts';

/** A user's codec within a mapping. */
export interface ScriptCodec {
  script: Script;
  /** Where the bytes are in the document, as base64 or hexadecimal text; undefined: the payload itself. */
  bytes: Path | undefined;
  encoding: 'base64' | 'hex';
  port: Path | number;
}

export interface InnerCodec {
  from: Path;
  encoding: 'base64' | 'hex';
  codec: CodecName;
}

export const COMPRESSIONS = ['gzip', 'zlib', 'deflate'] as const;
export type Compression = (typeof COMPRESSIONS)[number];

export interface Mapping {
  /** For messages: file and entry. */
  name: string;
  templates: Template[];
  codec: CodecName;
  /** Of text that is not UTF-8. */
  charset: string | undefined;
  compression: Compression | undefined;
  script: ScriptCodec | undefined;
  /** Bytes within the document that have a codec of their own; what it gives stands beside the document as `decoded`. */
  inner: InnerCodec | undefined;
  /** Where the sender's own id of a message is: one that comes again is the same message. */
  idempotency: Path | undefined;
  /** Why a message without any point goes to quarantine; true: it may have none; undefined: the reason is said in general. */
  empty: string | true | undefined;
  when: Condition[];
  /** A member that a document must have for the conditions to hold: most are known by it not to. */
  gate: string | undefined;
  /** Where a device or network says that it could not decode: then the message goes to quarantine with that text. */
  errors: Path | undefined;
  rules: Rule[];
  /** What the rules take of a document. */
  claims: Claims;
  /** Whether what they leave is told. */
  isRestTold: boolean;
  /** Whether a rule leads to places of a document: points of a codec have none. */
  hasPlaces: boolean;
}

/** Everything that decides what readings a message gives, as text: kept, so that it can be known later what was written. */
export interface MappingSource {
  /** File name → its text. */
  files: Record<string, string>;
}

const COMMON_KEYS = ['topic', 'name', 'about', 'codec'];
/** What needs a document. */
const DOCUMENT_KEYS = ['script', 'inner', 'idempotency', 'errors', 'points', 'rest'];
const MAPPING_KEYS = [
  ...COMMON_KEYS,
  'charset',
  'compression',
  'empty',
  ...DOCUMENT_KEYS,
  ...RULE_KEYS,
];
const FILE_KEYS = ['mappings', 'name', 'about', 'examples'];

function templates(place: Place): Template[] {
  const list = place.texts();
  if (list.length === 0) place.wrong('is needed');
  return list.map((text) => {
    const template = compileTemplate(text);
    return 'error' in template ? place.wrong(template.error) : template;
  });
}

/** How scripts are read: from files beside the mapping, or from what was kept of them. */
export type ReadScript = (file: string) => string;

const leadsToPlaces = ({ each, pairs, parallel, timed }: Rule): boolean =>
  each.segments.length > 0 || (pairs ?? parallel ?? timed) !== undefined;

const ENCODINGS = ['base64', 'hex'] as const;

function innerCodec(place: Place): InnerCodec | undefined {
  if (!place.isThere) return undefined;
  place.object(['from', 'encoding', 'codec']);
  return {
    from: place.at('from').path(),
    encoding: place.at('encoding').choice(ENCODINGS) ?? 'base64',
    codec: place.at('codec').choice<CodecName>(codecNames()) ?? 'auto',
  };
}

function scriptCodec(place: Place, read: ReadScript, nowMs: () => number): ScriptCodec | undefined {
  if (!place.isThere) return undefined;
  const isFile = typeof place.value === 'string';
  if (!isFile) place.object(['file', 'bytes', 'encoding', 'port']);
  const file = isFile ? place.text() : place.at('file').text();
  const encoding = isFile ? undefined : place.at('encoding').choice(ENCODINGS);
  let source: string;
  try {
    source = read(file);
  } catch (error) {
    return place.wrong(messageOf(error));
  }
  if (source.length > SCRIPT_BYTES_MAX)
    place.wrong(`${file} has ${source.length} characters, ${SCRIPT_BYTES_MAX} allowed`);
  const port = isFile ? undefined : place.at('port');
  return {
    script: new Script(file, source, nowMs),
    bytes: isFile ? undefined : place.at('bytes').optionalPath(),
    encoding: encoding ?? 'base64',
    port:
      port === undefined || !port.isThere
        ? 1
        : typeof port.value === 'number'
          ? port.value
          : port.path(),
  };
}

/** Keys that a codec leaves without effect. */
function unheeded(codec: CodecName): readonly string[] {
  switch (codecOf(codec)?.gives) {
    case 'nothing':
      return MAPPING_KEYS.filter((key) => !COMMON_KEYS.includes(key) && key !== 'when');
    case 'points':
      return [...DOCUMENT_KEYS, ...PLACE_KEYS, 'when'];
    case 'protocol':
      return [...DOCUMENT_KEYS, ...PLACE_KEYS, 'when', 'charset', 'compression', 'empty'];
    default:
      return [];
  }
}

function checkHeeded(place: Place, codec: CodecName): void {
  const without = unheeded(codec);
  const key = Object.keys(place.object()).find((each) => without.includes(each));
  if (key !== undefined)
    place
      .at(key)
      .wrong(
        codec === 'none'
          ? "codec 'none' makes no readings, so it would have no effect"
          : `codec '${codec}' makes points of its own, so it would have no effect`,
      );
}

function gateOf(when: readonly Condition[]): string | undefined {
  for (const { path, expect } of when) {
    const [first] = path.segments;
    if (expect !== false && first?.kind === 'key' && (path.up ?? 0) === 0) return first.key;
  }
  return undefined;
}

function emptyOf(place: Place): Mapping['empty'] {
  return place.value === true ? true : place.optionalText();
}

function charsetOf(place: Place): string | undefined {
  const name = place.optionalText();
  if (name !== undefined && !isCharset(name)) place.wrong(`'${name}' is no encoding that is known`);
  return name;
}

function mapping(place: Place, file: string, read: ReadScript, nowMs: () => number): Mapping {
  place.object(MAPPING_KEYS);
  const codec = place.at('codec').choice<CodecName>(codecNames()) ?? 'auto';
  checkHeeded(place, codec);
  const points = place.at('points');
  if (points.isThere && !Array.isArray(points.value)) points.wrong('is not a list');
  const list = points.isThere ? (points.value as unknown[]) : [];
  const own = list.map((each, index) => {
    const point = new Place(`${points.where}[${index}]`, each);
    point.object(RULE_KEYS);
    return readRule(point, place);
  });
  const rules = own.length > 0 ? own : [readRule(place, place)];
  const script = scriptCodec(place.at('script'), read, nowMs);
  const inner = innerCodec(place.at('inner'));
  const when = conditions(place.at('when'));
  const errors = place.at('errors').optionalPath();
  const idempotency = place.at('idempotency').optionalPath();
  const named = [errors, idempotency, inner?.from, script?.bytes, script?.port];
  const isRestTold = place.at('rest').flag(true);
  return {
    name: place.at('name').optionalText() ?? file,
    templates: templates(place.at('topic')),
    codec,
    charset: charsetOf(place.at('charset')),
    compression: place.at('compression').choice(COMPRESSIONS),
    script,
    inner,
    idempotency,
    empty: emptyOf(place.at('empty')),
    when,
    gate: gateOf(when),
    errors,
    rules,
    isRestTold,
    hasPlaces: rules.some(leadsToPlaces),
    claims: isRestTold
      ? claimsOf(rules, [
          ...when.map(({ path }) => path),
          ...named.filter((path) => typeof path === 'object'),
        ])
      : undefined,
  };
}

/** Throws MAPPING_INVALID, naming file and entry. `nowMs` is a monotonic clock, for the time that scripts may take. */
export function parseMappings(
  text: string,
  file: string,
  read: ReadScript = () => {
    throw new Error('scripts are only for files');
  },
  nowMs: () => number = () => performance.now(),
): Mapping[] {
  let document: unknown;
  try {
    document = builtDocument(text) ?? parse(text);
  } catch (error) {
    throw new HeadwaterError(
      'MAPPING_INVALID',
      `${file}: YAML: ${messageOf(error).split('\n')[0] ?? ''}`,
      { cause: error },
    );
  }
  const top = new Place(file, document ?? {});
  top.object(FILE_KEYS);
  const list = top.at('mappings').value;
  if (!Array.isArray(list)) return top.wrong("needs a list under 'mappings'");
  return list.map((entry: unknown, index) =>
    mapping(new Place(`${file}: mappings[${index}]`, entry), file, read, nowMs),
  );
}

/** Reads a mapping file and the scripts that it names; `source` gets their texts. Throws MAPPING_INVALID. */
export function loadMappings(file: string, source: MappingSource = { files: {} }): Mapping[] {
  const read = (path: string): string => {
    const script = isAbsolute(path) ? path : join(dirname(file), path);
    const text = readUserFile(script).toString('utf8');
    source.files[path] = text;
    return text;
  };
  let text: string;
  try {
    text = readUserFile(file).toString('utf8');
  } catch (error) {
    throw new HeadwaterError('MAPPING_INVALID', `${file}: ${messageOf(error)}`, { cause: error });
  }
  source.files[file] = text;
  return parseMappings(text, file, read);
}

/**
 * Mappings: what a topic means. A YAML file lists them; the first whose template and conditions hold decides.
 * `docs/mappings.md` describes the keys, and `collector/mappings/` has those that are shipped, each with its example.
 */
import { readFileSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { parse } from 'yaml';
import { TIME_KEYS } from '../../../shared/codecs/json.ts';
import { checkZone, type EpochUnit } from '../../../shared/codecs/time.ts';
import type { Tree } from '../../../shared/codecs/tree.ts';
import type { FieldValue } from '../../../shared/model/reading.ts';
import { HeadwaterError, messageOf } from '../../../shared/errors.ts';
import { CODECS, type CodecName } from '../codecs/detect.ts';
import { SCRIPT_BYTES_MAX, Script } from '../codecs/script.ts';
import { compilePath, type Path } from './path.ts';
import {
  CONVERSIONS,
  KINDS,
  type Condition,
  type Conversion,
  type Kind,
  type Rule,
  type TextSource,
  type TimeSource,
} from './rule.ts';
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

export interface Mapping {
  /** For messages: file and entry. */
  name: string;
  templates: Template[];
  codec: CodecName;
  script: ScriptCodec | undefined;
  /** Bytes within the document that have a codec of their own; what it gives stands beside the document as `decoded`. */
  inner: InnerCodec | undefined;
  /** Where the sender's own id of a message is: one that comes again is the same message. */
  idempotency: Path | undefined;
  /** Why a message without any point goes to quarantine; undefined: it may have none. */
  empty: string | undefined;
  when: Condition[];
  /** Where a device or network says that it could not decode: then the message goes to quarantine with that text. */
  errors: Path | undefined;
  rules: Rule[];
}

/** Everything that decides what readings a message gives, as text: kept, so that it can be known later what was written. */
export interface MappingSource {
  /** File name → its text. */
  files: Record<string, string>;
}

const RULE_KEYS = [
  'each',
  'is',
  'when',
  'measurement',
  'field',
  'tags',
  'tagFields',
  'time',
  'fields',
  'drop',
  'defaults',
  'types',
  'rename',
  'units',
  'pairs',
  'unwrap',
];
const MAPPING_KEYS = [
  'topic',
  'name',
  'about',
  'codec',
  'script',
  'inner',
  'idempotency',
  'empty',
  'errors',
  'points',
  ...RULE_KEYS,
];
const FILE_KEYS = ['mappings', 'name', 'about', 'examples'];
const UNITS: readonly string[] = ['s', 'ms', 'us', 'ns'];

const NO_PATH = compilePath('') as Path; // The empty path is valid.

/** Reads one place of the document, with errors that name it. */
class Place {
  readonly where: string;
  readonly value: unknown;

  constructor(where: string, value: unknown) {
    this.where = where;
    this.value = value;
  }

  wrong(why: string): never {
    throw new HeadwaterError('MAPPING_INVALID', `${this.where}: ${why}`);
  }

  get isThere(): boolean {
    return this.value !== undefined && this.value !== null;
  }

  at(key: string): Place {
    const value = (this.value as Record<string, unknown> | null | undefined)?.[key];
    return new Place(`${this.where}: '${key}'`, value);
  }

  object(keys?: readonly string[]): Record<string, unknown> {
    const { value } = this;
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      return this.wrong('is not a set of keys');
    for (const key of Object.keys(value))
      if (keys !== undefined && !keys.includes(key))
        this.wrong(`unknown key '${key}'; known are ${keys.join(', ')}`);
    return value as Record<string, unknown>;
  }

  text(): string {
    const { value } = this;
    if (typeof value !== 'string' || value === '') return this.wrong('is not a text');
    return value;
  }

  optionalText(): string | undefined {
    return this.isThere ? this.text() : undefined;
  }

  texts(): string[] {
    if (!this.isThere) return [];
    const list = Array.isArray(this.value) ? this.value : [this.value];
    if (!list.every((each) => typeof each === 'string' && each !== ''))
      return this.wrong('is not a list of names');
    return list as string[];
  }

  entries(): [string, Place][] {
    if (!this.isThere) return [];
    return Object.entries(this.object()).map(([key, value]) => [
      key,
      new Place(`${this.where}: '${key}'`, value),
    ]);
  }

  path(): Path {
    const path = compilePath(typeof this.value === 'number' ? String(this.value) : this.text());
    return 'error' in path ? this.wrong(path.error) : path;
  }

  optionalPath(): Path | undefined {
    return this.isThere ? this.path() : undefined;
  }
}

function conditions(place: Place): Condition[] {
  return place.entries().map(([key, each]) => {
    const path = new Place(each.where, key).path();
    const { value } = each;
    if (typeof value === 'boolean') return { path, expect: value };
    const list: unknown[] = Array.isArray(value) ? value : [value];
    if (!list.every((item) => ['string', 'number', 'boolean'].includes(typeof item)))
      each.wrong('is neither true, false, a value nor a list of values');
    return { path, expect: list as Tree[] };
  });
}

/** A constant, or `{ from: PATH }`. */
function textSource(place: Place): TextSource {
  const { value } = place;
  if (typeof value === 'object' && value !== null) {
    place.object(['from']);
    return { path: place.at('from').path() };
  }
  if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean')
    return place.wrong('is not a text');
  return { constant: String(value) };
}

function timeSource(place: Place): TimeSource {
  if (typeof place.value === 'string')
    return { path: place.path(), unit: undefined, zone: undefined };
  place.object(['from', 'unit', 'zone']);
  const unit = place.at('unit').optionalText();
  if (unit !== undefined && !UNITS.includes(unit))
    place.at('unit').wrong(`'${unit}' is not one of ${UNITS.join(', ')}`);
  const zone = place.at('zone').optionalText();
  if (zone !== undefined && zone !== 'local') {
    try {
      checkZone(zone);
    } catch {
      place.at('zone').wrong(`'${zone}' is neither 'local' nor a time zone such as Europe/Berlin`);
    }
  }
  return { path: place.at('from').path(), unit: unit as EpochUnit | undefined, zone };
}

const USUAL_TIMES: TimeSource[] = [...TIME_KEYS].map((key) => ({
  path: compilePath(key) as Path, // A word is a valid path.
  unit: undefined,
  zone: undefined,
}));

function times(place: Place): TimeSource[] {
  if (!place.isThere) return USUAL_TIMES;
  if (place.value === false) return [];
  const list = Array.isArray(place.value) ? place.value : [place.value];
  return list.map((each, index) => timeSource(new Place(`${place.where}[${index}]`, each)));
}

/** `[a, b.c]`, named by their path, or `name: path`. */
function fields(place: Place): [string, Path][] | undefined {
  if (!place.isThere) return undefined;
  if (Array.isArray(place.value))
    return place.texts().map((text): [string, Path] => {
      const path = new Place(place.where, text).path();
      return [text.replace(/^[\^$]+\.?/, '').replaceAll('.', '_'), path];
    });
  return place.entries().map(([name, each]) => [name, each.path()]);
}

function conversions(place: Place): Map<string, Conversion> {
  return new Map(
    place.entries().map(([name, each]) => {
      const text = each.text();
      if (!(CONVERSIONS as readonly string[]).includes(text))
        each.wrong(`'${text}' is not one of ${CONVERSIONS.join(', ')}`);
      return [name, text as Conversion];
    }),
  );
}

function choice<T extends string>(place: Place, choices: readonly T[]): T | undefined {
  const text = place.optionalText();
  if (text !== undefined && !(choices as readonly string[]).includes(text))
    place.wrong(`'${text}' is not one of ${choices.join(', ')}`);
  return text as T | undefined;
}

function defaults(place: Place): Map<string, FieldValue> {
  return new Map(
    place.entries().map(([name, each]): [string, FieldValue] => {
      const { value } = each;
      if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
        return [name, value];
      return each.wrong('is no value');
    }),
  );
}

const textMap = (place: Place): Map<string, string> =>
  new Map(place.entries().map(([name, each]) => [name, each.text()]));

/** What is not said at a point is said by the mapping. */
function rule(point: Place, base: Place): Rule {
  const pick = (key: string): Place => {
    const own = point.at(key);
    return own.isThere || own.value === false ? own : base.at(key);
  };
  const pairs = pick('pairs');
  const unwrap = pick('unwrap');
  if (pairs.isThere) pairs.object(['from', 'name', 'value']);
  if (unwrap.isThere) unwrap.object(['value', 'unit', 'name']);
  const tags = new Map<string, TextSource>();
  for (const source of [base.at('tags'), point.at('tags')])
    for (const [name, each] of source.entries()) tags.set(name, textSource(each));
  const measurement = pick('measurement');
  const each = point.at('each').optionalPath() ?? NO_PATH;
  const tagFields = new Set(pick('tagFields').texts());
  return {
    each,
    hasFixedTags:
      tagFields.size === 0 &&
      each.segments.every(({ kind }) => kind !== 'pattern') &&
      [...tags.values()].every((source) => 'constant' in source),
    is: choice<Kind>(point.at('is'), KINDS),
    when: point === base ? [] : conditions(point.at('when')),
    measurement: measurement.isThere ? textSource(measurement) : undefined,
    field: pick('field').optionalText(),
    tags: [...tags],
    tagFields,
    time: times(pick('time')),
    fields: fields(pick('fields')),
    drop: new Set(pick('drop').texts()),
    defaults: defaults(pick('defaults')),
    types: conversions(pick('types')),
    rename: textMap(pick('rename')),
    units: textMap(pick('units')),
    pairs: pairs.isThere
      ? {
          from: pairs.at('from').path(),
          name: pairs.at('name').text(),
          value: pairs.at('value').text(),
        }
      : undefined,
    unwrap: unwrap.isThere
      ? {
          value: unwrap.at('value').text(),
          unit: unwrap.at('unit').optionalText(),
          name: unwrap.at('name').optionalText(),
        }
      : undefined,
  };
}

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

const ENCODINGS = ['base64', 'hex'] as const;

function innerCodec(place: Place): InnerCodec | undefined {
  if (!place.isThere) return undefined;
  place.object(['from', 'encoding', 'codec']);
  return {
    from: place.at('from').path(),
    encoding: choice(place.at('encoding'), ENCODINGS) ?? 'base64',
    codec: choice<CodecName>(place.at('codec'), CODECS) ?? 'auto',
  };
}

function scriptCodec(place: Place, read: ReadScript, nowMs: () => number): ScriptCodec | undefined {
  if (!place.isThere) return undefined;
  const isFile = typeof place.value === 'string';
  if (!isFile) place.object(['file', 'bytes', 'encoding', 'port']);
  const file = isFile ? place.text() : place.at('file').text();
  const encoding = isFile ? undefined : choice(place.at('encoding'), ENCODINGS);
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

function mapping(place: Place, file: string, read: ReadScript, nowMs: () => number): Mapping {
  place.object(MAPPING_KEYS);
  const points = place.at('points');
  if (points.isThere && !Array.isArray(points.value)) points.wrong('is not a list');
  const list = points.isThere ? (points.value as unknown[]) : [];
  const rules = list.map((each, index) => {
    const point = new Place(`${points.where}[${index}]`, each);
    point.object(RULE_KEYS);
    return rule(point, place);
  });
  return {
    name: place.at('name').optionalText() ?? file,
    templates: templates(place.at('topic')),
    codec: choice<CodecName>(place.at('codec'), CODECS) ?? 'auto',
    script: scriptCodec(place.at('script'), read, nowMs),
    inner: innerCodec(place.at('inner')),
    idempotency: place.at('idempotency').optionalPath(),
    empty: place.at('empty').optionalText(),
    when: conditions(place.at('when')),
    errors: place.at('errors').optionalPath(),
    rules: rules.length > 0 ? rules : [rule(place, place)],
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
    document = parse(text);
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
    const text = readFileSync(isAbsolute(path) ? path : join(dirname(file), path), 'utf8');
    source.files[path] = text;
    return text;
  };
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new HeadwaterError('MAPPING_INVALID', `${file}: ${messageOf(error)}`, { cause: error });
  }
  source.files[file] = text;
  return parseMappings(text, file, read);
}

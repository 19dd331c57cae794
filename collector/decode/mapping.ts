/**
 * Mappings: what a topic means. A YAML file lists them; the first whose template matches decides. A template's levels
 * are `{name}` (a tag), `{measurement}`, `{field}` (name of a bare value), `+` (any), `#` (the rest) or a literal.
 *
 * ```yaml
 * mappings:
 *   - topic: factory/{line}/{device}/{measurement}
 *     tags: { site: leeds }      # constants
 *     tagFields: [room]          # values of the payload that are tags
 *     time: measured_at          # key of the device's time, besides the usual ones
 * ```
 */
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { TIME_KEYS } from '../../shared/codecs/json.ts';

export interface Mapping {
  levels: string[];
  measurement: string | undefined;
  tags: Record<string, string>;
  tagFields: ReadonlySet<string>;
  timeKeys: ReadonlySet<string>;
}

/** What a topic means for the messages on it. One object per topic and gateway: readings share its `tags`. */
export interface Meaning {
  measurement: string;
  tags: Record<string, string>;
  field: string;
  tagFields: ReadonlySet<string>;
  timeKeys: ReadonlySet<string>;
}

const NO_FIELDS: ReadonlySet<string> = new Set();
const KEYS = ['topic', 'measurement', 'tags', 'tagFields', 'time'];

/** Throws MAPPING_INVALID, naming file and entry. */
export function parseMappings(text: string, file: string): Mapping[] {
  const wrong = (where: string, why: string): never => {
    throw new HeadwaterError('MAPPING_INVALID', `${file}: ${where}: ${why}`);
  };
  let document: unknown;
  try {
    document = parse(text);
  } catch (error) {
    return wrong('YAML', messageOf(error).split('\n')[0] ?? '');
  }
  const list = (document as { mappings?: unknown } | null)?.mappings;
  if (!Array.isArray(list)) return wrong('top level', "needs a list under 'mappings'");
  return list.map((entry: unknown, index): Mapping => {
    const where = `mappings[${index}]`;
    if (typeof entry !== 'object' || entry === null) return wrong(where, 'is not a set of keys');
    const { topic, measurement, tags, tagFields, time } = entry as Record<string, unknown>;
    for (const key of Object.keys(entry))
      if (!KEYS.includes(key)) wrong(where, `unknown key '${key}'; known are ${KEYS.join(', ')}`);
    if (typeof topic !== 'string' || topic === '') return wrong(where, "needs a 'topic'");
    const levels = topic.split('/');
    const names = levels
      .filter((level) => /^\{.*\}$/.test(level))
      .map((level) => level.slice(1, -1));
    if (names.some((name) => !/^[A-Za-z_][\w-]*$/.test(name)))
      wrong(where, `'${topic}' has a name that is not a word`);
    if (new Set(names).size !== names.length) wrong(where, `'${topic}' has a name twice`);
    if (levels.some((level, at) => level === '#' && at < levels.length - 1))
      wrong(where, "'#' must be the last level");
    if (measurement !== undefined && typeof measurement !== 'string')
      wrong(where, "'measurement' is not a text");
    const constants: Record<string, string> = {};
    for (const [key, value] of Object.entries((tags ?? {}) as Record<string, unknown>)) {
      if (typeof value === 'object') wrong(where, `tag '${key}' is not a text`);
      constants[key] = String(value);
    }
    if (
      tagFields !== undefined &&
      !(Array.isArray(tagFields) && tagFields.every((name) => typeof name === 'string'))
    ) {
      wrong(where, "'tagFields' is not a list of names");
    }
    if (time !== undefined && typeof time !== 'string') wrong(where, "'time' is not a key's name");
    return {
      levels,
      measurement: measurement as string | undefined,
      tags: constants,
      tagFields: new Set((tagFields ?? []) as string[]),
      timeKeys: typeof time === 'string' ? new Set([time]) : TIME_KEYS,
    };
  });
}

export function loadMappings(file: string): Mapping[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new HeadwaterError('MAPPING_INVALID', `${file}: ${messageOf(error)}`, { cause: error });
  }
  return parseMappings(text, file);
}

function match(mapping: Mapping, topic: string[]): Map<string, string> | undefined {
  const values = new Map<string, string>();
  for (const [index, level] of mapping.levels.entries()) {
    if (level === '#') return values;
    const actual = topic[index];
    if (actual === undefined) return undefined;
    if (level.startsWith('{') && level.endsWith('}')) values.set(level.slice(1, -1), actual);
    else if (level !== '+' && level !== actual) return undefined;
  }
  return mapping.levels.length === topic.length ? values : undefined;
}

/** Meanings remembered; cleared when there are more. */
const MEANINGS_MAX = 100_000;

export class Mappings {
  private readonly mappings: readonly Mapping[];
  private readonly known = new Map<string, Meaning>();

  constructor(mappings: readonly Mapping[]) {
    this.mappings = mappings;
  }

  of(gateway: string, topic: string): Meaning {
    const key = `${gateway}\0${topic}`;
    const known = this.known.get(key);
    if (known !== undefined) return known;
    const meaning = this.resolve(gateway, topic);
    if (this.known.size >= MEANINGS_MAX) this.known.clear();
    this.known.set(key, meaning);
    return meaning;
  }

  private resolve(gateway: string, topic: string): Meaning {
    const levels = topic.split('/');
    const last = levels.findLast((level) => level !== '') ?? 'message';
    for (const mapping of this.mappings) {
      const values = match(mapping, levels);
      if (values === undefined) continue;
      const measurement = values.get('measurement') ?? mapping.measurement ?? last;
      const field = values.get('field') ?? 'value';
      values.delete('measurement');
      values.delete('field');
      const tags = { ...mapping.tags, ...Object.fromEntries(values), gateway };
      return { measurement, tags, field, tagFields: mapping.tagFields, timeKeys: mapping.timeKeys };
    }
    return {
      measurement: last,
      tags: { topic, gateway },
      field: 'value',
      tagFields: NO_FIELDS,
      timeKeys: TIME_KEYS,
    };
  }
}

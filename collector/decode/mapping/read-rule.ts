/** Reads what a mapping, or one of its points, says of readings. What is not said at a point is said by the mapping. */
import type { EpochUnit } from '../../../shared/codecs/time.ts';
import type { Tree } from '../../../shared/codecs/tree.ts';
import type { FieldValue } from '../../../shared/model/reading.ts';
import { CONVERSIONS, type Conversion } from './convert.ts';
import { compilePath, type Path } from './path.ts';
import { Place } from './place.ts';
import {
  ALL_TAGS,
  KINDS,
  type Condition,
  type Kind,
  type Rule,
  type Scale,
  type TextSource,
  type TimeSource,
} from './rule.ts';
import { compileTimePattern, isZone } from './time-pattern.ts';

/** What finds the places of points in a document; the points of a codec have none. */
export const PLACE_KEYS = ['each', 'is', 'parallel', 'nested', 'timed', 'pairs', 'unwrap', 'field'];
export const RULE_KEYS = [
  ...PLACE_KEYS,
  'when',
  'measurement',
  'tags',
  'tagFields',
  'time',
  'fields',
  'drop',
  'defaults',
  'types',
  'values',
  'scale',
  'rename',
  'units',
];
const UNITS: readonly string[] = ['s', 'ms', 'us', 'ns'];
const NO_PATH = compilePath('') as Path; // The empty path is valid.

export function conditions(place: Place): Condition[] {
  return place.entries().map(([key, each]) => {
    const path = new Place(each.where, key).path();
    const { value } = each;
    if (typeof value === 'boolean') return { path, expect: value };
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      each.object(['is']);
      const is = each.at('is').choice<Kind>(KINDS) ?? each.at('is').wrong('is needed');
      return { path, expect: { is } };
    }
    const list: unknown[] = Array.isArray(value) ? value : [value];
    if (!list.every((item) => ['string', 'number', 'boolean'].includes(typeof item)))
      each.wrong('is neither true, false, a value, a list of values nor { is: KIND }');
    return { path, expect: list as Tree[] };
  });
}

/** A constant, `{ from: PATH }` or `{ property: NAME }`. */
function textSource(place: Place): TextSource {
  const { value } = place;
  if (typeof value === 'object' && value !== null) {
    place.object(['from', 'property']);
    const property = place.at('property').optionalText();
    if (property !== undefined && place.at('from').isThere)
      place.wrong("has both 'from' and 'property'");
    return property === undefined ? { path: place.at('from').path() } : { property };
  }
  if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean')
    return place.wrong('is not a text');
  return { constant: String(value) };
}

function tagSource(name: string, place: Place): TextSource {
  const source = textSource(place);
  if (name === ALL_TAGS && !('path' in source))
    place.wrong('is for all members of an object: { from: PATH }');
  return source;
}

const USUAL: Omit<TimeSource, 'path'> = {
  more: [],
  unit: undefined,
  zone: undefined,
  pattern: undefined,
  step: undefined,
  isHistory: false,
};

function timePaths(place: Place): [Path, ...Path[]] {
  if (!Array.isArray(place.value)) return [place.path()];
  const [first, ...more] = place.value.map((each: unknown, index) =>
    new Place(`${place.where}[${index}]`, each).path(),
  );
  return first === undefined ? place.wrong('is an empty list') : [first, ...more];
}

function timeSource(place: Place): TimeSource {
  if (typeof place.value === 'string') return { ...USUAL, path: place.path() };
  place.object(['from', 'unit', 'zone', 'format', 'step', 'history']);
  const unit = place.at('unit').optionalText();
  if (unit !== undefined && !UNITS.includes(unit))
    place.at('unit').wrong(`'${unit}' is not one of ${UNITS.join(', ')}`);
  const zone = place.at('zone').optionalText();
  if (zone !== undefined && zone !== 'local' && !isZone(zone))
    place.at('zone').wrong(`'${zone}' is neither 'local' nor a time zone such as Europe/Berlin`);
  const format = place.at('format').optionalText();
  const pattern = format === undefined ? undefined : compileTimePattern(format);
  if (pattern !== undefined && 'error' in pattern) return place.at('format').wrong(pattern.error);
  const step = place.at('step');
  const [path, ...more] = timePaths(place.at('from'));
  return {
    path,
    more,
    unit: unit as EpochUnit | undefined,
    zone: zone === 'local' ? undefined : zone,
    pattern,
    step: !step.isThere ? undefined : typeof step.value === 'number' ? step.number() : step.path(),
    isHistory: place.at('history').flag(false),
  };
}

function times(place: Place): TimeSource[] {
  if (!place.isThere || place.value === false) return [];
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

function fieldValues(place: Place): Map<string, FieldValue> {
  return new Map(
    place.entries().map(([name, each]): [string, FieldValue] => {
      const { value } = each;
      if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
        return [name, value];
      return each.wrong('is no value');
    }),
  );
}

/** A factor, or `{ by, add }`. */
function scales(place: Place): Map<string, Scale> {
  return new Map(
    place.entries().map(([name, each]): [string, Scale] => {
      if (typeof each.value === 'number') return [name, { by: each.number(), add: 0 }];
      each.object(['by', 'add']);
      const [by, add] = [each.at('by'), each.at('add')];
      return [name, { by: by.isThere ? by.number() : 1, add: add.isThere ? add.number() : 0 }];
    }),
  );
}

const textMap = (place: Place): Map<string, string> =>
  new Map(place.entries().map(([name, each]) => [name, each.text()]));

/** `true`, or the zone of times that name none. */
function timedOf(place: Place): Rule['timed'] {
  if (typeof place.value !== 'object' || !place.isThere) return place.flag(false) ? {} : undefined;
  place.object(['zone']);
  const zone = place.at('zone').text();
  if (!isZone(zone)) place.at('zone').wrong(`'${zone}' is no time zone such as Europe/Berlin`);
  return { zone };
}

function pairsOf(pairs: Place): Rule['pairs'] {
  if (!pairs.isThere) return undefined;
  pairs.object(['from', 'name', 'value']);
  return {
    from: pairs.at('from').path(),
    name: pairs.at('name').text(),
    value: pairs.at('value').text(),
  };
}

function unwrapOf(unwrap: Place): Rule['unwrap'] {
  if (!unwrap.isThere) return undefined;
  unwrap.object(['value', 'unit', 'name']);
  return {
    value: unwrap.at('value').text(),
    unit: unwrap.at('unit').optionalText(),
    name: unwrap.at('name').optionalText(),
  };
}

type Values = Pick<Rule, 'types' | 'values' | 'scale' | 'drop' | 'defaults' | 'rename' | 'units'>;

function valuesOf(pick: (key: string) => Place): Values {
  return {
    drop: new Set(pick('drop').texts()),
    defaults: fieldValues(pick('defaults')),
    types: conversions(pick('types')),
    values: new Map(
      pick('values')
        .entries()
        .map(([name, each]) => [name, fieldValues(each)]),
    ),
    scale: scales(pick('scale')),
    rename: textMap(pick('rename')),
    units: new Map(
      pick('units')
        .entries()
        .map(([name, each]) => [name, textSource(each)]),
    ),
  };
}

const sizeOf = (values: Values): number =>
  Object.values(values).reduce((sum, { size }) => sum + size, 0);

/** `point` is the mapping itself where it has no points. */
export function readRule(point: Place, base: Place): Rule {
  const pick = (key: string): Place => {
    const own = point.at(key);
    return own.isThere || own.value === false ? own : base.at(key);
  };
  const tags = new Map<string, TextSource>();
  for (const source of [base.at('tags'), point.at('tags')])
    for (const [name, each] of source.entries()) tags.set(name, tagSource(name, each));
  const [measurement, field, time, parallel] = [
    pick('measurement'),
    pick('field'),
    pick('time'),
    point.at('parallel'),
  ];
  const each = point.at('each').optionalPath() ?? NO_PATH;
  const tagFields = new Set(pick('tagFields').texts());
  const values = valuesOf(pick);
  const list = fields(pick('fields'));
  if (point.at('field').isThere && (list !== undefined || pick('pairs').isThere))
    point
      .at('field')
      .wrong(
        "names a bare value, so beside 'fields' or 'pairs' it would have no effect; each: PATH leads to one",
      );
  const areConstant = [...tags.values()].every((source) => 'constant' in source);
  const fixed = [...tags].flatMap(([name, source]) =>
    'constant' in source && !source.constant.includes('{') ? [[name, source.constant]] : [],
  );
  return {
    ...values,
    each,
    hasFixedTags:
      tagFields.size === 0 && areConstant && each.segments.every(({ kind }) => kind !== 'pattern'),
    isPlain:
      sizeOf(values) === 0 &&
      list === undefined &&
      !measurement.isThere &&
      !time.isThere &&
      time.value !== false &&
      fixed.length === tags.size,
    is: point.at('is').choice<Kind>(KINDS),
    when: point === base ? [] : conditions(point.at('when')),
    measurement: measurement.isThere ? textSource(measurement) : undefined,
    field: field.isThere ? textSource(field) : undefined,
    tags: [...tags],
    constants: fixed.length === 0 ? undefined : Object.fromEntries(fixed),
    tagFields,
    time: times(time),
    hasTime: time.isThere || time.value === false,
    fields: list,
    parallel: parallel.isThere ? fields(parallel) : undefined,
    nested: point.at('nested').flag(true),
    timed: timedOf(point.at('timed')),
    converts: values.types.size + values.values.size + values.scale.size > 0,
    pairs: pairsOf(pick('pairs')),
    unwrap: unwrapOf(pick('unwrap')),
  };
}

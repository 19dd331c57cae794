/**
 * Configuration: one table per side, from which come the check, the sample file, the reference page and the types.
 * A value comes from, in falling order: flag, environment (`HEADWATER_…`), YAML file, default. Unknown keys are refused.
 */
import { parse } from 'yaml';
import { HeadwaterError, messageOf } from '../errors.ts';
import type { Address } from '../net/listen.ts';
import { nearest } from './nearest.ts';
import { readUserFile } from './user-file.ts';
import { inUnit } from './units.ts';

interface Key<T extends string, V> {
  type: T;
  default: V;
  about: string;
  /** Command line flag without dashes. */
  flag?: string;
  /** Only from the environment or a file that is private: never on a command line. */
  secret?: boolean;
}

export type KeySpec =
  | (Key<'string', string> & {
      choices?: readonly string[];
      /** A folder of this machine. */
      isFolder?: true;
      /** It may name an adapter (`NAME`, `NAME://ADDRESS`), whose own options are keys under that name. */
      adapter?: true;
    })
  | Key<'boolean', boolean>
  | (Key<'list', readonly string[]> & { adapter?: true })
  /** HOST:PORT; '' switches it off. */
  | Key<'address', string>
  | (Key<'integer', number> & { min: number; max: number; unit: string });

export type ConfigSpec = Record<string, KeySpec>;

type ValueOf<K extends KeySpec> = K extends { type: 'string' }
  ? string
  : K extends { type: 'boolean' }
    ? boolean
    : K extends { type: 'list' }
      ? string[]
      : K extends { type: 'address' }
        ? Address | undefined
        : number;

export type ConfigOf<S extends ConfigSpec> = { readonly [K in keyof S]: ValueOf<S[K]> };

type Origin = { text: string };

export function environmentName(key: string): string {
  return `HEADWATER_${key
    .replaceAll(/([a-z])([A-Z])/g, '$1_$2')
    .replaceAll('.', '_')
    .toUpperCase()}`;
}

/** A flag that is wrong is a command line that is (exit code 2), whatever it sets. */
const wrongIn = (origin: string): 'USAGE' | 'CONFIG_INVALID' =>
  origin.startsWith('--') ? 'USAGE' : 'CONFIG_INVALID';

/** `HOST:PORT`, `[::1]:PORT` or `:PORT` (loopback). Throws CONFIG_INVALID, and USAGE of a flag. */
export function parseAddress(text: string, origin: string): Address {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65535) {
    throw new HeadwaterError(
      wrongIn(origin),
      `${origin}: '${text}' is not an address of the form HOST:PORT${match === null ? '' : ', where a port is at most 65535'}`,
    );
  }
  return { host: match[1] ?? (match[2] || '127.0.0.1'), port };
}

/** Of this machine: what looks like a network's would be made here, quietly, under that name. Throws as above. */
export function parseFolder(text: string, origin: string): string {
  if (text === '')
    throw new HeadwaterError(wrongIn(origin), `${origin} is empty: it wants the name of a folder`);
  if (/^(\/\/|\\\\|[a-z][a-z0-9+.-]+:\/)/i.test(text))
    throw new HeadwaterError(
      wrongIn(origin),
      `${origin}: '${text}' is a network address, not a folder of this machine: mount it, and name the place where it is mounted (its fsync must be one: not NFS with async)`,
    );
  return text;
}

function convert(spec: KeySpec, value: unknown, origin: Origin): unknown {
  const wrong = (wanted: string): never => {
    const is = typeof value === 'string' ? value : JSON.stringify(value);
    const said =
      value === null ? `it has no value, and wants ${wanted}` : `'${is}' is not ${wanted}`;
    throw new HeadwaterError(wrongIn(origin.text), `${origin.text}: ${said}`);
  };
  switch (spec.type) {
    case 'string':
      if (typeof value !== 'string' && typeof value !== 'number') return wrong('a text');
      if (spec.choices !== undefined && !spec.choices.includes(String(value)))
        return wrong(`one of ${spec.choices.join(', ')}`);
      if (spec.isFolder === true) return parseFolder(String(value), origin.text);
      return String(value);
    case 'boolean':
      if (value === true || value === 'true' || value === '1') return true;
      if (value === false || value === 'false' || value === '0') return false;
      return wrong('true or false');
    case 'list':
      if (Array.isArray(value))
        return value.some((each) => each === null || typeof each === 'object')
          ? wrong('a list of texts')
          : value.map(String);
      return typeof value === 'string'
        ? value
            .split(',')
            .map((part) => part.trim())
            .filter(Boolean)
        : wrong('a list');
    case 'address':
      if (value === '' || value === null) return undefined;
      return typeof value === 'string'
        ? parseAddress(value, origin.text)
        : wrong('an address of the form HOST:PORT');
    case 'integer': {
      const number = typeof value === 'string' && /^-?\d+$/.test(value) ? Number(value) : value;
      if (typeof number !== 'number' || !Number.isSafeInteger(number)) {
        const meant = inUnit(String(value), spec.unit);
        const isFit = meant !== undefined && meant >= spec.min && meant <= spec.max;
        return wrong(`a whole number of ${spec.unit}${isFit ? `; write ${meant}` : ''}`);
      }
      if (number < spec.min || number > spec.max)
        return wrong(`between ${spec.min} and ${spec.max} ${spec.unit}`);
      return number;
    }
    default:
      return wrong('of a known type');
  }
}

/** Keys of nested YAML joined with dots; what the table declares as a list stays one. */
function flatten(value: unknown, prefix: string, into: Map<string, unknown>): void {
  for (const [key, child] of Object.entries(value as Record<string, unknown>)) {
    const path = prefix === '' ? key : `${prefix}.${key}`;
    if (typeof child === 'object' && child !== null && !Array.isArray(child))
      flatten(child, path, into);
    else into.set(path, child);
  }
}

export interface ConfigSources {
  /** By flag name. */
  flags?: Record<string, string | boolean | undefined>;
  environment?: Record<string, string | undefined>;
  file?: string | undefined;
  /** Of a file that serves both sides: the section to read. The other sections' names are `sections`. */
  section?: string;
  sections?: readonly string[];
}

function suggestion(key: string, known: string[]): string {
  const inside = known.filter((name) => name.startsWith(`${key}.`));
  if (inside.length > 0)
    return `: it is a section, with keys such as '${inside.slice(0, 3).join("', '")}'`;
  const inner = /^(?:gateway|collector)\.(.*)$/.exec(key)?.[1] ?? '';
  if (known.includes(inner))
    return `; the sections 'gateway' and 'collector' are of the file of headwater up: here it is '${inner}'`;
  const close =
    known.find((name) => name.toLowerCase() === key.toLowerCase() || name.endsWith(`.${key}`)) ??
    nearest(key, known);
  return close === undefined ? '' : `; did you mean '${close}'?`;
}

function readFile(file: string, sources: ConfigSources): Map<string, unknown> {
  const values = new Map<string, unknown>();
  let document: unknown;
  try {
    document = parse(readUserFile(file).toString('utf8'));
  } catch (error) {
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `${file}: ${messageOf(error).split('\n')[0] ?? ''}`,
      { cause: error },
    );
  }
  if (document === null || document === undefined) return values;
  if (typeof document !== 'object' || Array.isArray(document)) {
    throw new HeadwaterError('CONFIG_INVALID', `${file}: the top level must be keys with values`);
  }
  let part: unknown = document;
  if (sources.section !== undefined) {
    for (const key of Object.keys(document)) {
      if (!(sources.sections ?? []).includes(key)) {
        throw new HeadwaterError(
          'CONFIG_UNKNOWN_KEY',
          `${file}: unknown section '${key}'; known are ${(sources.sections ?? []).join(', ')}`,
        );
      }
    }
    part = (document as Record<string, unknown>)[sources.section] ?? {};
    if (typeof part !== 'object' || Array.isArray(part))
      throw new HeadwaterError(
        'CONFIG_INVALID',
        `${file}: the section '${sources.section}' must be keys with values`,
      );
  }
  flatten(part, '', values);
  return values;
}

function valueOf(
  key: string,
  each: KeySpec,
  { flags, environment, file }: ConfigSources,
  fromFile: Map<string, unknown>,
): unknown {
  const flagged = each.flag === undefined ? undefined : flags?.[each.flag];
  if (flagged !== undefined) return convert(each, flagged, { text: `--${each.flag}` });
  const name = environmentName(key);
  const fromEnvironment = environment?.[name];
  if (fromEnvironment !== undefined) return convert(each, fromEnvironment, { text: name });
  if (fromFile.has(key)) return convert(each, fromFile.get(key), { text: `${file}: ${key}` });
  return convert(each, each.default, { text: key });
}

/** Under which an adapter's options are found: `redis` of `redis://HOST` or `@some/redis`, `mine` of `./mine.mjs`. */
export function adapterName(value: string): string {
  const [reference = ''] = value.split('://');
  return (reference.split('/').at(-1) ?? '').replace(/\.[cm]?[jt]s$/, '');
}

export interface AdapterSources extends ConfigSources {
  /** Keys of the file that belong to an adapter, whole. */
  values: ReadonlyMap<string, unknown>;
}

/** Where a configuration came from, for the options of adapters that are known only once they are loaded. */
const adapterSources = new WeakMap<object, AdapterSources>();

export function adapterSourcesOf(config: object): AdapterSources {
  return adapterSources.get(config) ?? { values: new Map() };
}

/** One option of an adapter, by the same rules. Throws CONFIG_INVALID. */
export function convertOption(spec: KeySpec, value: unknown, origin: string): unknown {
  return convert(spec, value, { text: origin });
}

/** A configuration and every sentence about what is wrong with it. */
interface Inspected<S extends ConfigSpec> {
  /** With the default where a value is not valid. */
  config: ConfigOf<S>;
  problems: readonly HeadwaterError[];
}

/** Reads and checks all of it, and stops at nothing but a file that cannot be read: that throws CONFIG_INVALID. */
export function inspectConfig<S extends ConfigSpec>(spec: S, sources: ConfigSources): Inspected<S> {
  const known = Object.keys(spec);
  const fromFile =
    sources.file === undefined ? new Map<string, unknown>() : readFile(sources.file, sources);
  const problems: HeadwaterError[] = [];
  const given = (key: string, each: KeySpec): unknown => {
    try {
      return valueOf(key, each, sources, fromFile);
    } catch (error) {
      if (!(error instanceof HeadwaterError)) throw error;
      problems.push(error);
      return convert(each, each.default, { text: key });
    }
  };
  const result = Object.fromEntries(
    Object.entries(spec).map(([key, each]) => [key, given(key, each)]),
  );
  const adapters = Object.entries(spec)
    .filter(([, each]) => 'adapter' in each && each.adapter === true)
    .flatMap(([key]) => result[key] as string | string[]) // As the kinds that have `adapter` are.
    .map((value) => `${adapterName(value)}.`);
  const left = new Map<string, unknown>();
  for (const [key, value] of fromFile) {
    if (key in spec) continue;
    if (adapters.some((name) => key.startsWith(name))) left.set(key, value);
    else
      problems.push(
        new HeadwaterError(
          'CONFIG_UNKNOWN_KEY',
          `${sources.file}: unknown key '${key}'${suggestion(key, known)}`,
        ),
      );
  }
  Object.freeze(result);
  adapterSources.set(result, { ...sources, values: left });
  return { config: result as ConfigOf<S>, problems };
}

/** Reads, checks and freezes. Throws CONFIG_INVALID and CONFIG_UNKNOWN_KEY, naming the place. */
export function loadConfig<S extends ConfigSpec>(spec: S, sources: ConfigSources): ConfigOf<S> {
  const { config, problems } = inspectConfig(spec, sources);
  const [first] = problems;
  if (first !== undefined) throw first;
  return config;
}

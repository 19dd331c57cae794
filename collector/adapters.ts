/**
 * Adapters that someone else wrote: found by what the configuration names, checked for the contract's version, with
 * options from the address, the environment, the file and private files for secrets.
 *
 * `NAME://ADDRESS?option=value` or `NAME` names the package `@headwater/NAME`, `headwater-NAME` or `NAME`, the first that
 * is installed and has one; a scoped name and a path are taken as they are. All of it as seen from where the command was
 * started.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { definitionsOf, type AnyDefinition, type Kind } from '../contracts/define.ts';
import type { OptionSpec, OptionsOf, OptionsSpec } from '../contracts/options.ts';
import { readSecretFile } from '../shared/config/secrets.ts';
import {
  adapterName,
  adapterSourcesOf,
  convertOption,
  environmentName,
  type AdapterSources,
} from '../shared/config/spec.ts';
import { HeadwaterError, codeOf, messageOf } from '../shared/errors.ts';

export interface Adapter<D> {
  definition: D;
  address: string;
  options: OptionsOf<OptionsSpec>;
}

const ABSENT = new Set(['MODULE_NOT_FOUND', 'ERR_MODULE_NOT_FOUND']);

/** What is built in under another flag. */
const BUILT_IN: Readonly<Record<string, string>> = {
  ...{ kafka: '--log kafka://HOST:PORT', influxdb: '--store influxdb://HOST:PORT/ORG/BUCKET' },
  ...{ s3: '--lake s3://BUCKET/PREFIX', webhdfs: '--lake webhdfs://HOST:PORT/PATH' },
  mqtt: '--collector mqtt://HOST:PORT, of a gateway',
};

function swapped(name: string, flag: string): string {
  const [scheme = ''] = /[a-z0-9]+/.exec(name.replace(/^@headwater\/|^headwater-/, '')) ?? [];
  const meant = BUILT_IN[scheme];
  if (meant === undefined) return '';
  return meant.startsWith(`${flag} `)
    ? `: it is written ${meant}`
    : `: ${scheme} is given as ${meant}`;
}

/** File of a package's `import` entry, where it has none for `require`. */
function importEntry(from: NodeJS.Require, name: string): string | undefined {
  for (const folder of from.resolve.paths(name) ?? []) {
    try {
      const file = join(folder, name, 'package.json');
      const { exports } = JSON.parse(readFileSync(file, 'utf8')) as { exports?: unknown };
      const main = (exports as Record<string, unknown> | undefined)?.['.'] ?? exports;
      const entry = typeof main === 'string' ? main : (main as Record<string, unknown>)['import'];
      if (typeof entry === 'string') return join(dirname(file), entry);
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

/** Imports a package by name, or a file, from where the command was started. Throws ADAPTER_MISSING. */
export async function loadPackage(name: string, flag: string): Promise<unknown> {
  const from = createRequire(join(process.cwd(), 'package.json'));
  try {
    let file: string | undefined;
    try {
      file = from.resolve(name);
    } catch (error) {
      if (codeOf(error) !== 'ERR_PACKAGE_PATH_NOT_EXPORTED') throw error;
      file = importEntry(from, name);
    }
    return (await import(pathToFileURL(file ?? name).href)) as unknown;
  } catch (error) {
    const isAbsent = ABSENT.has(codeOf(error)) && messageOf(error).includes(`'${name}'`);
    throw new HeadwaterError(
      'ADAPTER_MISSING',
      isAbsent
        ? `${flag} ${name} is neither built in nor an installed package${swapped(name, flag)}`
        : `${flag} ${name}: the package does not load: ${messageOf(error)}`,
      { cause: error },
    );
  }
}

/** Every definition of a package or file. Throws ADAPTER_MISSING, ADAPTER_CONTRACT. */
export async function definitions(reference: string, flag: string): Promise<AnyDefinition[]> {
  const isName = /^[a-z0-9][a-z0-9.-]*$/.test(reference);
  const names = isName
    ? [`@headwater/${reference}`, `headwater-${reference}`, reference]
    : [reference];
  let failure: unknown;
  for (const name of names) {
    try {
      const found = definitionsOf(await loadPackage(name, flag));
      if (found.length > 0) return found;
      failure = new HeadwaterError(
        'ADAPTER_CONTRACT',
        `${flag} ${name}: the package exports no adapter made by one of @headwater/contracts' define functions`,
      );
    } catch (error) {
      // What does not load is told before what is not there.
      if (failure === undefined || !messageOf(error).includes('neither built in')) failure = error;
    }
  }
  throw failure;
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/**
 * Options by the definition's table; a package's other adapters read the same keys of the file. Throws CONFIG_INVALID
 * and CONFIG_UNKNOWN_KEY.
 */
export function optionsOf(
  name: string,
  spec: Readonly<Record<string, OptionSpec>>,
  query: URLSearchParams,
  sources: AdapterSources,
  others: readonly OptionsSpec[] = [],
): OptionsOf<OptionsSpec> {
  const options: Record<string, unknown> = {};
  const known = new Set<string>();
  for (const other of others)
    for (const option of Object.keys(other))
      known.add(`${name}.${option}`).add(`${name}.${option}File`);
  for (const [option, each] of Object.entries(spec)) {
    const key = `${name}.${option}`;
    const isSecret = each.type === 'string' && each.secret === true;
    known.add(key);
    const variable = environmentName(key.replaceAll('-', '_'));
    const { environment, file, values } = sources;
    const path = isSecret ? values.get(`${key}File`) : undefined;
    if (isSecret) known.add(`${key}File`);
    if (isSecret && (query.has(option) || values.has(key)))
      throw new HeadwaterError(
        'CONFIG_INVALID',
        `${key} is a secret: give it by ${variable}, or as ${key}File, the path of a private file`,
      );
    const given = query.get(option) ?? environment?.[variable];
    if (given !== undefined && given !== null) options[option] = convertOption(each, given, key);
    else if (path !== undefined) options[option] = readSecretFile(text(path), `${key}File`);
    else if (values.has(key))
      options[option] = convertOption(each, values.get(key), `${file}: ${key}`);
    else options[option] = convertOption(each, each.default, key);
  }
  const unknown =
    [...sources.values.keys()].find((key) => key.startsWith(`${name}.`) && !known.has(key)) ??
    [...query.keys()].find((option) => !(option in spec));
  if (unknown !== undefined)
    throw new HeadwaterError(
      'CONFIG_UNKNOWN_KEY',
      `'${unknown}' is no option of the adapter ${name}; it has ${Object.keys(spec).join(', ') || 'none'}`,
    );
  // Each was converted to what its row says.
  return options as OptionsOf<OptionsSpec>;
}

/** The adapter of one kind that a setting names. Throws ADAPTER_MISSING, ADAPTER_CONTRACT, CONFIG_INVALID. */
export async function loadAdapter<D extends AnyDefinition>(
  kind: Kind,
  version: number,
  value: string,
  flag: string,
  config: object,
): Promise<Adapter<D>> {
  const [reference = '', ...rest] = value.split('://');
  const [address = '', query = ''] = rest.join('://').split('?');
  const all = await definitions(reference, flag);
  const found = all.find((each) => each.kind === kind);
  if (found === undefined || found.contract !== version)
    throw new HeadwaterError(
      'ADAPTER_CONTRACT',
      `${flag} ${reference}: the package provides no ${kind} of contract version ${version}${found === undefined ? '' : `, but one of version ${found.contract}`}`,
    );
  const options = optionsOf(
    adapterName(value),
    found.options,
    new URLSearchParams(query),
    adapterSourcesOf(config),
    all.filter((each) => each !== found).map((each) => each.options),
  );
  // `kind` says what it is: the package's own types are checked where it is compiled.
  return { definition: found as unknown as D, address, options };
}

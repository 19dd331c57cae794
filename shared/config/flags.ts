/** Command lines and their help, from the same tables as the configuration. */
import { parseArgs } from 'node:util';
import { HeadwaterError, messageOf } from '../errors.ts';
import { didYouMean } from './nearest.ts';
import type { ConfigSpec } from './spec.ts';

export interface FlagSpec {
  /** How its value is called in the help; a flag without one is a switch. */
  value?: string;
  about: string;
  default?: string;
  /** May be given more than once. */
  multiple?: boolean;
}

export type Flags = Record<string, FlagSpec>;

/** Flags of every configuration key that has one. */
export function configFlags(...specs: ConfigSpec[]): Flags {
  const flags: Flags = {};
  for (const spec of specs) {
    for (const key of Object.values(spec)) {
      if (key.flag === undefined) continue;
      const value = key.type === 'boolean' ? {} : { value: valueName(key.type) };
      const usual = Array.isArray(key.default) ? key.default.join(',') : String(key.default);
      flags[key.flag] = {
        about: key.about,
        ...value,
        ...(usual === '' || usual === 'false' ? {} : { default: usual }),
      };
    }
  }
  return flags;
}

function valueName(type: string): string {
  return { address: 'HOST:PORT', integer: 'N', list: 'A[,B]', string: 'TEXT' }[type] ?? 'VALUE';
}

export interface Parsed {
  values: Record<string, string | boolean | undefined>;
  lists: Record<string, string[]>;
  positionals: string[];
  help: boolean;
}

/** Throws USAGE for an unknown flag, a missing value or a word too many. */
export function parseFlags(
  command: string,
  args: string[],
  flags: Flags,
  positionals: number,
): Parsed {
  const options: Record<
    string,
    { type: 'string' | 'boolean'; multiple?: boolean; short?: string }
  > = {
    help: { type: 'boolean', short: 'h' },
  };
  for (const [name, { value, multiple }] of Object.entries(flags)) {
    options[name] = {
      type: value === undefined ? 'boolean' : 'string',
      multiple: multiple ?? false,
    };
  }
  try {
    const { values, positionals: rest } = parseArgs({
      args,
      options,
      allowPositionals: true,
      strict: true,
    });
    if (rest.length > positionals) throw new Error(`unexpected '${rest[positionals]}'`);
    const single: Parsed['values'] = {};
    const lists: Parsed['lists'] = {};
    for (const [name, value] of Object.entries(values)) {
      if (Array.isArray(value)) lists[name] = value.map(String);
      else single[name] = value;
    }
    return { values: single, lists, positionals: rest, help: values['help'] === true };
  } catch (error) {
    const text = messageOf(error).split(/\. |\.?\n/)[0] ?? '';
    const wrong = /^Unknown option '--([^']+)'/.exec(text)?.[1];
    const meant = wrong === undefined ? '' : didYouMean(wrong, Object.keys(options), '--');
    throw new HeadwaterError('USAGE', `${text}${meant}: see headwater ${command} --help`, {
      cause: error,
    });
  }
}

export function helpText(usage: string, about: string, flags: Flags, more = ''): string {
  const rows = Object.entries(flags).map(([name, { value, about, default: usual }]) => [
    `  --${name}${value === undefined ? '' : ` ${value}`}`,
    usual === undefined ? about : `${about} (default ${usual})`,
  ]);
  rows.push(['  --help', 'Shows this.']);
  const width = Math.max(...rows.map(([left]) => left?.length ?? 0));
  const lines = rows.map(([left, right]) => `${(left ?? '').padEnd(width)}  ${right}`);
  return `Usage: headwater ${usage}\n\n${about}\n\n${lines.join('\n')}\n${more === '' ? '' : `\n${more}\n`}`;
}

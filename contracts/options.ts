/**
 * An adapter's own options: one table, from which come the check, the reference and the types. Headwater reads them from
 * the address (`--log NAME://HOST:PORT?option=value`), the environment (`HEADWATER_NAME_OPTION`), the configuration file
 * (`NAME.option`) and, a secret, from a private file (`NAME.optionFile`); the first of these that names one counts.
 */
interface Option<T extends string, V> {
  type: T;
  default: V;
  about: string;
}

export type OptionSpec =
  /** A secret comes from the environment or from a private file, and never from an address. */
  | (Option<'string', string> & { choices?: readonly string[]; secret?: boolean })
  | Option<'boolean', boolean>
  | Option<'list', readonly string[]>
  | (Option<'integer', number> & { min: number; max: number; unit: string });

export type OptionsSpec = Record<string, OptionSpec>;

type ValueOf<O extends OptionSpec> = O extends { type: 'string' }
  ? string
  : O extends { type: 'boolean' }
    ? boolean
    : O extends { type: 'list' }
      ? string[]
      : number;

export type OptionsOf<S extends OptionsSpec> = { readonly [K in keyof S]: ValueOf<S[K]> };

export interface Flag {
  type: 'boolean' | 'string' | 'integer' | 'number';
  /** Of a value that is left out; without it that is undefined. */
  default?: string | number | readonly (string | number)[];
  /** Of a number; 0 when left out. */
  min?: number;
  choices?: readonly string[];
  /** Several values with commas between. */
  list?: true;
  short?: string;
  /** What the help says of it. */
  about?: string;
}

type One<F extends Flag> = F extends { type: 'integer' | 'number' }
  ? number
  : F extends { choices: readonly (infer Choice)[] }
    ? Choice
    : string;
type Value<F extends Flag> = F extends { type: 'boolean' }
  ? boolean
  : F extends { list: true }
    ? One<F>[]
    : One<F>;
export type Values<Options extends Record<string, Flag>> = {
  [Name in keyof Options]: Options[Name] extends { type: 'boolean' } | { default: unknown }
    ? Value<Options[Name]>
    : Value<Options[Name]> | undefined;
};

/** The comment that a file begins with, as text. */
export function headOf(url: string): string;
export function helpOf(url: string, options?: Record<string, Flag>): string;
/** One sentence on standard error, and exit code 2. */
export function refuse(url: string, why: string): never;
/**
 * What a command was given. `--help` prints the head comment of the file and its flags and ends with 0; an unknown flag, a word
 * too many, a value that is none end with 2 and one sentence. `words`: those without dashes; none are taken when it is left out.
 */
export function flagsOf<const Options extends Record<string, Flag>>(
  url: string,
  asked?: {
    options?: Options;
    words?: { choices?: readonly string[]; max?: number };
    args?: readonly string[];
  },
): { values: Values<Options>; words: string[] };

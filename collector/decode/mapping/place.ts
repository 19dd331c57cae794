/** One place of a mapping file, read with errors that name it. */
import { HeadwaterError } from '../../../shared/errors.ts';
import { compilePath, type Path } from './path.ts';

export class Place {
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

  number(): number {
    const { value } = this;
    if (typeof value !== 'number' || !Number.isFinite(value)) return this.wrong('is not a number');
    return value;
  }

  flag(usual: boolean): boolean {
    if (!this.isThere) return usual;
    return typeof this.value === 'boolean' ? this.value : this.wrong('is neither true nor false');
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

  choice<T extends string>(choices: readonly T[]): T | undefined {
    const text = this.optionalText();
    if (text !== undefined && !(choices as readonly string[]).includes(text))
      this.wrong(`'${text}' is not one of ${choices.join(', ')}`);
    return text as T | undefined;
  }
}

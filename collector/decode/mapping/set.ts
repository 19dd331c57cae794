/**
 * The mappings in force: the user's file first, then what the command brings, then the shipped ones. The file and its
 * scripts are looked at every two seconds and taken when they are valid; what is not valid is reported and changes
 * nothing. Each version is kept in the ledger topic as text, so that a replay knows where older ones wrote.
 */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { checkZone } from '../../../shared/codecs/time.ts';
import { HeadwaterError, messageOf } from '../../../shared/errors.ts';
import type { Notify } from '../../../shared/telemetry/log.ts';
import { loadEngine } from '../../sandbox/sandbox.ts';
import { loadMappings, parseMappings, type Mapping } from './mapping.ts';
import { Mappings } from './mappings.ts';
import { shippedMappings } from './shipped.ts';

export interface MappingOptions {
  /** '' for none. */
  file: string;
  extra: readonly { file: string; text: string }[];
  shipped: boolean;
  /** IANA zone, '' when nobody has said. */
  localZone: string;
  /** How old a device's time may be. */
  pastDays: number;
}

/** What decides all names and values, as text. */
export interface MappingVersion {
  hash: string;
  main: string;
  files: Record<string, string>;
  /** In this order after the main file. */
  others: { file: string; text: string }[];
  localZone: string;
  /** Not in versions that were kept before there was such a limit. */
  pastDays?: number;
}

/** As the ledger topic has it. */
export interface KeptVersion extends MappingVersion {
  /** When a process took it last, epoch milliseconds. */
  at: number;
  /** When it took the place of another one, in order. Not in versions that were kept before 0.2. */
  inForce?: number[];
}

/** Changes of one version that are remembered. */
const CHANGES_MAX = 100;

/** When a version that is taken now came in force: once more, where the newest of those kept is another one. */
export function inForceOf(kept: readonly KeptVersion[], hash: string, nowMs: number): number[] {
  const newest = kept.toSorted((a, b) => b.at - a.at)[0];
  const own = kept.find((each) => each.hash === hash);
  const before = own?.inForce ?? (own === undefined ? [] : [own.at]);
  return newest?.hash === hash ? before : [...before, nowMs].slice(-CHANGES_MAX);
}

export const MAPPING_PREFIX = 'mapping/';
const WATCH_MS = 2000;

function assemble(
  mappings: readonly Mapping[],
  localZone: string,
  pastDays: number | undefined,
): Mappings {
  for (const { script } of mappings) script?.script.check();
  return new Mappings(mappings, localZone === '' ? undefined : localZone, pastDays);
}

/** Mappings of a version, as they were. */
export async function mappingsOf(version: MappingVersion): Promise<Mappings> {
  const { main, files, others, localZone, pastDays } = version;
  const read = (file: string): string => {
    const text = files[file];
    if (text === undefined) throw new Error(`${file} was not kept`);
    return text;
  };
  const all = [
    ...(main === '' ? [] : parseMappings(read(main), main, read)),
    ...others.flatMap(({ file, text }) => parseMappings(text, file)),
  ];
  if (all.some(({ script }) => script !== undefined)) await loadEngine();
  return assemble(all, localZone, pastDays);
}

export class MappingSet {
  private readonly options: MappingOptions;
  private readonly notify: Notify;
  private current: { mappings: Mappings; version: MappingVersion } | undefined;
  private stamp = '';
  private timer: NodeJS.Timeout | undefined;
  private said = '';

  constructor(options: MappingOptions, notify: Notify) {
    this.options = options;
    this.notify = notify;
  }

  /** Throws MAPPING_INVALID or CONFIG_INVALID. */
  async load(): Promise<{ mappings: Mappings; version: MappingVersion }> {
    const { file, extra, shipped, localZone, pastDays } = this.options;
    if (localZone !== '') {
      try {
        checkZone(localZone);
      } catch (error) {
        throw new HeadwaterError(
          'CONFIG_INVALID',
          `decode.localZone: '${localZone}' is no time zone such as Europe/Berlin`,
          { cause: error },
        );
      }
    }
    const source = { files: {} as Record<string, string> };
    const own = file === '' ? [] : loadMappings(file, source);
    const others = [...extra, ...(shipped ? shippedMappings() : [])];
    const all = [...own, ...others.flatMap((each) => parseMappings(each.text, each.file))];
    if (all.some(({ script }) => script !== undefined)) await loadEngine();
    const mappings = assemble(all, localZone, pastDays);
    const content = { main: file, files: source.files, others, localZone, pastDays };
    const hash = createHash('sha256').update(JSON.stringify(content)).digest('hex').slice(0, 16);
    this.current = { mappings, version: { hash, ...content } };
    this.stamp = await this.look();
    return this.current;
  }

  /** Sizes and times of the files that were read. */
  private async look(): Promise<string> {
    const { file } = this.options;
    const names = Object.keys(this.current?.version.files ?? {});
    const parts = await Promise.all(
      names.map(async (name) => {
        const path = name === file || isAbsolute(name) ? name : join(dirname(file), name);
        const { mtimeMs, size, ino } = await stat(path);
        return `${name} ${mtimeMs} ${size} ${ino}`;
      }),
    );
    return parts.join('\n');
  }

  /** Calls back with every new version that is valid. */
  watch(onChange: (mappings: Mappings, version: MappingVersion) => void): void {
    if (this.options.file === '') return;
    this.timer = setInterval(() => void this.check(onChange), WATCH_MS);
    this.timer.unref();
  }

  private async check(
    onChange: (mappings: Mappings, version: MappingVersion) => void,
  ): Promise<void> {
    const before = this.current;
    try {
      const stamp = await this.look();
      if (stamp === this.stamp) return;
      const { mappings, version } = await this.load();
      this.said = '';
      if (version.hash === before?.version.hash) return;
      onChange(mappings, version);
      this.notify({
        level: 'info',
        event: 'mappings_loaded',
        text: `${this.options.file} has changed and is in force; headwater quarantine replay decodes again what it was too late for`,
      });
    } catch (error) {
      this.current = before;
      const text = `${messageOf(error)}; the mappings before stay in force`;
      if (text !== this.said) this.notify({ level: 'error', event: 'mappings_invalid', text });
      this.said = text;
    }
  }

  close(): void {
    clearInterval(this.timer);
  }
}

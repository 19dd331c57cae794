/**
 * The declared settings of the fleet, and what gateways have said of them: in the ledger topic under `config/TARGET` and
 * `told/GATEWAY`, so that every process of a collector has them and a restart loses none. A declaration is answered once it
 * is on stable storage. A gateway is told what counts for it as long as its status says otherwise; it decides for itself.
 */
import { remoteValues } from '../../shared/config/remote.ts';
import {
  BACK_AFTER_SECONDS,
  isRemoteReport,
  type RemoteConfig,
  type RemoteReport,
  type RemoteValues,
} from '../../shared/model/remote.ts';
import type { Timers } from '../../shared/env/timers.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import type { About, Status } from '../../shared/frame/notes.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { Member } from '../enroll/registry.ts';
import { TOPIC_LEDGER, type Log, type LogRecord } from '../log/log.ts';
import { Noting } from '../log/noting.ts';
import { View } from '../log/view.ts';
import { configFor, isFor, targetOf, type Declaration } from './declared.ts';

export const CONFIG_PREFIX = 'config/';
export const TOLD_PREFIX = 'told/';
const TARGETS_MAX = 5000;
const BYTES_MAX = 16_384;
const WHY_CHARS_MAX = 300;

export interface Told {
  about?: About;
  /** Left out by a gateway of a version without settings from afar. */
  config?: RemoteReport;
  atMs: number;
}

export interface ConfigState {
  state: 'applied' | 'waiting' | 'trying' | 'refused' | 'rolled back';
  revision: string;
  why?: string;
}

export interface Wished {
  target: string;
  settings: RemoteValues;
  /** So many first; 0: all at once. */
  first: number;
  backAfterSeconds: number;
}

export interface Known {
  members: () => ReadonlyMap<string, Member>;
  /** Gateways that are connected now, as far as is known. */
  connected: () => readonly string[];
  nowMs: () => number;
}

function refuse(why: string): never {
  throw new HeadwaterError('QUERY_INVALID', why);
}

export class Declarations {
  /** Called with what was declared, for those that it concerns. */
  onChange: () => void = () => undefined;
  private readonly log: Log;
  private readonly known: Known;
  private readonly notify: Notify;
  private readonly declared = new Map<string, Declaration>();
  private readonly told = new Map<string, Told>();
  private readonly view: View;
  private readonly noting: Noting;

  constructor(log: Log, known: Known, timers: Timers, notify: Notify) {
    this.log = log;
    this.view = new View(log, TOPIC_LEDGER, 'what is declared for gateways');
    this.known = known;
    this.notify = notify;
    this.noting = new Noting(timers, (error) => {
      const text = `what gateways say of their settings cannot be noted now: ${messageOf(error)}`;
      notify({ level: 'warn', event: 'remote_config', text });
    });
  }

  async start(): Promise<void> {
    await this.view.start((records) => {
      let isDeclared = false;
      for (const record of records) isDeclared = this.take(record) || isDeclared;
      if (isDeclared) this.onChange();
    });
  }

  private take({ key, value }: LogRecord): boolean {
    const isDeclaration = key.startsWith(CONFIG_PREFIX);
    if (!isDeclaration && !key.startsWith(TOLD_PREFIX)) return false;
    try {
      const parsed = JSON.parse(value.toString('utf8')) as unknown;
      if (isDeclaration) this.declared.set(key.slice(CONFIG_PREFIX.length), parsed as Declaration);
      else this.told.set(key.slice(TOLD_PREFIX.length), parsed as Told);
    } catch {
      // An empty value takes it away.
      if (isDeclaration) this.declared.delete(key.slice(CONFIG_PREFIX.length));
      else this.told.delete(key.slice(TOLD_PREFIX.length));
    }
    return isDeclaration;
  }

  private async write(key: string, value: object): Promise<void> {
    const record = { key, headers: {}, value: Buffer.from(JSON.stringify(value)) };
    await this.log.append(TOPIC_LEDGER, [record]);
    if (this.take(record)) this.onChange();
  }

  get isRead(): boolean {
    return this.view.isRead;
  }

  get whenRead(): Promise<void> {
    return this.view.whenRead;
  }

  /** Throws LOG_UNAVAILABLE until they have been read. */
  list(): readonly Declaration[] {
    this.view.check();
    return [...this.declared.values()].sort((a, b) => (a.target < b.target ? -1 : 1));
  }

  /** Resolves once it is on stable storage. Throws QUERY_INVALID, LOG_UNAVAILABLE. */
  async declare({ target, settings, first, backAfterSeconds }: Wished): Promise<Declaration> {
    this.view.check();
    if (targetOf(target) === undefined)
      refuse(
        `'${target.slice(0, 100)}' is no target: all, site:NAME, label:KEY=VALUE or gateway:NAME`,
      );
    try {
      remoteValues(settings);
    } catch (error) {
      refuse(messageOf(error));
    }
    if (JSON.stringify(settings).length > BYTES_MAX)
      refuse(`settings have at most ${BYTES_MAX} bytes`);
    const { min, max } = BACK_AFTER_SECONDS;
    if (!Number.isInteger(backAfterSeconds) || backAfterSeconds < min || backAfterSeconds > max)
      refuse(`backAfterSeconds is a whole number from ${min} to ${max}`);
    const present = this.declared.get(target);
    if (present === undefined && this.declared.size >= TARGETS_MAX)
      refuse(`there are at most ${TARGETS_MAX} targets`);
    const generation = (present?.next.generation ?? 0) + 1;
    const before = present?.released === false ? present.before : present?.next;
    const declaration: Declaration = {
      target,
      next: { settings, generation },
      // Without anything before, the rest has nothing declared.
      ...(first === 0 || before === undefined ? {} : { before }),
      first: first === 0 ? [] : this.firstOf(target, first),
      released: first === 0,
      backAfterSeconds,
      atMs: Math.round(this.known.nowMs()),
    };
    await this.write(CONFIG_PREFIX + target, declaration);
    return declaration;
  }

  /** Those that can be watched: connected now. */
  private firstOf(target: string, count: number): string[] {
    const members = this.known.members();
    const here = [...new Set(this.known.connected())]
      .sort()
      .filter((gateway) => isFor(target, gateway, members.get(gateway)));
    if (here.length < count)
      refuse(`${here.length} gateways of '${target}' are connected: ${count} first are too many`);
    return here.slice(0, count);
  }

  /** The rest gets it as well, whatever the first have said. Throws NOT_FOUND, LOG_UNAVAILABLE. */
  async release(target: string): Promise<Declaration> {
    this.view.check();
    const declaration = this.declared.get(target);
    if (declaration === undefined || declaration.released)
      throw new HeadwaterError('NOT_FOUND', `nothing waits for '${target.slice(0, 100)}'`);
    const { before: _, ...rest } = declaration;
    const released = { ...rest, released: true };
    await this.write(CONFIG_PREFIX + target, released);
    return released;
  }

  private configOf(gateway: string): RemoteConfig | undefined {
    return configFor(gateway, this.known.members().get(gateway), this.declared.values());
  }

  toldBy(gateway: string): Told | undefined {
    return this.told.get(gateway);
  }

  /** Of every gateway that has said something, or that something is declared for by name. */
  names(): string[] {
    const named = [...this.declared.keys()].flatMap((target) => {
      const { kind, of } = targetOf(target) ?? { kind: 'all', of: '' };
      return kind === 'gateway' ? [of] : [];
    });
    return [...this.told.keys(), ...named];
  }

  /** Undefined: nothing is declared for it. */
  stateOf(gateway: string): ConfigState | undefined {
    const config = this.configOf(gateway);
    if (config === undefined) return undefined;
    const { revision } = config;
    const told = this.told.get(gateway);
    const { applied, trying, failed } = told?.config ?? {};
    if (failed?.revision === revision) return { state: failed.state, revision, why: failed.why };
    if (trying === revision) return { state: 'trying', revision };
    if (applied === revision) return { state: 'applied', revision };
    const isOld = told !== undefined && told.config === undefined;
    const why = 'its version knows no settings from afar';
    return { state: 'waiting', revision, ...(isOld ? { why } : {}) };
  }

  /** What to say to it; undefined: it has heard it already. */
  toSay(gateway: string): RemoteConfig | undefined {
    const config = this.configOf(gateway);
    if (config === undefined) return undefined;
    const { applied, trying, failed } = this.told.get(gateway)?.config ?? {};
    const isStale = failed !== undefined && failed.revision !== config.revision;
    const isKnown = [applied, trying, failed?.revision].includes(config.revision);
    return isKnown && !(isStale && applied === config.revision) ? undefined : config;
  }

  /** A gateway's status: kept where it says something new. */
  heard(gateway: string, { about, config }: Status): void {
    const told = { ...(isAbout(about) ? { about: aboutOf(about) } : {}), ...reportOf(config) };
    const { atMs, ...present } = this.told.get(gateway) ?? { atMs: undefined };
    const isSame = atMs !== undefined && JSON.stringify(told) === JSON.stringify(present);
    if (isSame) return;
    const record: Told = { ...told, atMs: Math.round(this.known.nowMs()) };
    // At once: what is said next is said of it.
    this.told.set(gateway, record);
    void this.noting.note(gateway, async () => {
      await this.write(TOLD_PREFIX + gateway, record);
      await this.goOn(gateway);
    });
  }

  /** A staged change goes to the rest when all of the first run with it. */
  private async goOn(gateway: string): Promise<void> {
    const waiting = [...this.declared.values()].filter(
      ({ released, first }) => !released && first.includes(gateway),
    );
    for (const { target, first } of waiting) {
      if (!first.every((each) => this.stateOf(each)?.state === 'applied')) continue;
      await this.release(target);
      const text = `settings for '${target}' run on ${first.join(', ')}: they go to the rest`;
      this.notify({ level: 'info', event: 'remote_config', text });
    }
  }

  /** Of a staged change: why it does not go on. */
  heldBy({ released, first }: Declaration): string | undefined {
    if (released) return undefined;
    for (const gateway of first) {
      const { state, why = '' } = this.stateOf(gateway) ?? { state: 'waiting' };
      if (state === 'refused' || state === 'rolled back') return `${gateway}: ${state}: ${why}`;
    }
    return undefined;
  }

  async close(): Promise<void> {
    await this.noting.close();
    await this.view.close();
  }
}

const isAbout = (value: unknown): value is About =>
  typeof (value as Partial<About> | undefined)?.version === 'string';

/** A stranger to the truth may be a gateway: only what has its form and length is kept. */
function aboutOf({ version, location }: About): About {
  const [latitude, longitude] = Array.isArray(location) ? location : [];
  const isPlace =
    typeof latitude === 'number' &&
    typeof longitude === 'number' &&
    Math.abs(latitude) <= 90 &&
    Math.abs(longitude) <= 180;
  return { version: version.slice(0, 40), ...(isPlace ? { location: [latitude, longitude] } : {}) };
}

function reportOf(value: unknown): { config?: RemoteReport } {
  if (!isRemoteReport(value)) return {};
  const { applied, trying, failed } = value;
  return {
    config: {
      ...(applied === undefined ? {} : { applied }),
      ...(trying === undefined ? {} : { trying }),
      ...(failed === undefined
        ? {}
        : {
            failed: {
              revision: failed.revision,
              state: failed.state,
              why: failed.why.slice(0, WHY_CHARS_MAX),
            },
          }),
    },
  };
}

/**
 * What this gateway was told from afar, in `remote.json` of the data folder: what is in force and proven, what is on trial,
 * and what did not come to be. Every change is on stable storage, whole, before anything follows from it, so that a process
 * that is killed at any moment goes on from one of these states:
 *
 * - a trial is counted before each start with it, and given up after STARTS_MAX: one that ends the process is not for ever;
 * - it becomes what is in force when an uplink has come back with it and holds; else what was in force before counts again;
 * - what was refused or rolled back is remembered, so that the same revision is not tried again.
 *
 * The buffer is in none of this. A file that is damaged is set aside: the gateway's own settings count until it is told anew.
 */
import { accessSync, constants, readFileSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { remoteProblem, remoteValues } from '../shared/config/remote.ts';
import {
  BACK_AFTER_SECONDS,
  REVISION,
  type RemoteConfig,
  type RemoteReport,
  type RemoteValues,
} from '../shared/model/remote.ts';
import { writeWhole } from '../shared/config/whole-file.ts';
import { codeOf, messageOf } from '../shared/errors.ts';
import { isLoopback } from '../shared/net/address.ts';
import type { Notify } from '../shared/telemetry/log.ts';
import type { RemoteAcceptance } from './choices.ts';

const STARTS_MAX = 5;
const WHY_CHARS_MAX = 300;

interface Told {
  revision: string;
  settings: RemoteValues;
}

interface Trial extends Told {
  backAfterSeconds: number;
  /** Starts with it so far. */
  starts: number;
}

interface State {
  good?: Told;
  trial?: Trial;
  failed?: NonNullable<RemoteReport['failed']>;
}

const isTold = (value: unknown): boolean => {
  const { revision, settings } = (value ?? {}) as Partial<Told>;
  return REVISION.test(String(revision)) && typeof settings === 'object' && settings !== null;
};

/** Throws for what is not as it was written. */
function parseState(text: string): State {
  const value = JSON.parse(text) as State | null;
  if (typeof value !== 'object' || value === null) throw new Error('it is no object');
  const { good, trial } = value;
  const isWhole = (each: unknown): boolean => each === undefined || isTold(each);
  if (!isWhole(good) || !isWhole(trial)) throw new Error('it lacks revision or settings');
  if (trial !== undefined && !Number.isInteger(trial.starts)) throw new Error('it lacks starts');
  return value;
}

function isUsable(folder: string): boolean {
  try {
    accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

export class Remote {
  private readonly path: string;
  private readonly gateway: string;
  private readonly acceptance: RemoteAcceptance;
  private readonly notify: Notify;
  private state: State;
  private turn: Promise<unknown> = Promise.resolve();

  constructor(
    folder: string,
    gateway: string,
    acceptance: RemoteAcceptance,
    nowMs: () => number,
    notify: Notify,
  ) {
    this.path = join(folder, 'remote.json');
    this.gateway = gateway;
    this.acceptance = acceptance;
    this.notify = notify;
    this.state = acceptance === 'never' ? {} : this.read(nowMs);
  }

  private read(nowMs: () => number): State {
    try {
      return parseState(readFileSync(this.path, 'utf8'));
    } catch (error) {
      // Of a folder that cannot be used, whoever takes it has the better sentence.
      if (codeOf(error) === 'ENOENT' || !isUsable(dirname(this.path))) return {};
      const aside = `${this.path}.damaged-${Math.round(nowMs())}`;
      let what = 'and was set aside';
      try {
        renameSync(this.path, aside);
      } catch {
        what = 'and the next write replaces it';
      }
      this.say(
        'error',
        `${this.path} cannot be read (${messageOf(error)}) ${what}: this gateway's own settings count until a collector declares others`,
      );
      return {};
    }
  }

  private say(level: 'info' | 'warn' | 'error', text: string): void {
    this.notify({ level, event: 'remote_config', text });
  }

  /** One change after the other; in force once it is on stable storage. */
  private async become(next: State): Promise<void> {
    const before = this.turn;
    const write = (async () => {
      await before.catch(() => undefined);
      await writeWhole(this.path, `${JSON.stringify(next)}\n`);
    })();
    this.turn = write;
    await write;
    this.state = next;
  }

  /** Seconds within which the uplink has to be back; undefined: nothing is on trial. */
  get backAfterSeconds(): number | undefined {
    return this.state.trial?.backAfterSeconds;
  }

  /** Counts a start, and says what counts in it beside the gateway's own settings. */
  async begin(): Promise<Record<string, unknown>> {
    const { trial } = this.state;
    if (trial !== undefined) {
      if (trial.starts >= STARTS_MAX)
        await this.back(
          `the gateway was started ${trial.starts} times with it, and no uplink held`,
        );
      else await this.become({ ...this.state, trial: { ...trial, starts: trial.starts + 1 } });
    }
    return await this.values();
  }

  /** Another version may not know, or not allow, what an earlier one took. */
  private async values(): Promise<Record<string, unknown>> {
    const { good, trial } = this.state;
    const told = trial ?? good;
    if (told === undefined) return {};
    const why = remoteProblem(told.settings);
    if (why === undefined) return remoteValues(told.settings);
    this.say('error', `settings that were declared from afar do not count any more: ${why}`);
    const failed = { revision: told.revision, state: 'refused' as const, why: cut(why) };
    await this.become(trial === undefined || good === undefined ? { failed } : { good, failed });
    return trial === undefined ? {} : await this.values();
  }

  /** What a collector has declared. True: it is on trial from now on, and the gateway has to begin anew with it. */
  async offer(config: RemoteConfig, collector: string): Promise<boolean> {
    const { revision, settings, gateway } = config;
    const { good, trial, failed } = this.state;
    if (gateway !== this.gateway) {
      this.say(
        'error',
        `settings for another gateway ('${gateway.slice(0, 64)}') came from ${collector}, and were not taken`,
      );
      return false;
    }
    if ([good?.revision, trial?.revision, failed?.revision].includes(revision)) {
      // What failed is declared no more.
      const isStale = trial === undefined && good?.revision === revision && failed !== undefined;
      if (isStale) await this.become({ good });
      return false;
    }
    const why = this.refusal(config, collector);
    if (why !== undefined) {
      this.say('warn', `settings ${revision} from ${collector} were refused: ${why}`);
      // What is being tried goes on.
      await this.become({ ...this.state, failed: { revision, state: 'refused', why: cut(why) } });
      return false;
    }
    const { failed: _, ...rest } = this.state;
    const isSame =
      JSON.stringify(sorted(settings)) === JSON.stringify(sorted(good?.settings ?? {}));
    if (isSame && trial === undefined) {
      await this.become({ ...rest, good: { revision, settings } });
      return false;
    }
    const { min, max } = BACK_AFTER_SECONDS;
    const backAfterSeconds = Math.min(max, Math.max(min, config.backAfterSeconds));
    await this.become({ ...rest, trial: { revision, settings, backAfterSeconds, starts: 0 } });
    this.say(
      'info',
      `settings ${revision} came from ${collector}: the uplink has ${backAfterSeconds} s to come back with them`,
    );
    return true;
  }

  private refusal({ settings }: RemoteConfig, collector: string): string | undefined {
    if (this.acceptance === 'never')
      return 'this gateway takes no settings from afar (remote.accept)';
    if (this.acceptance === 'secure' && !isSecure(collector))
      return `it came over ${collector}, which does not prove who it is: mqtts:// does, or set remote.accept to any on the gateway`;
    const why = remoteProblem(settings);
    if (why !== undefined) return why;
    const { collectors } = remoteValues(settings);
    const clear = Array.isArray(collectors)
      ? collectors.find((url) => !isSecure(String(url)))
      : undefined;
    if (clear === undefined || this.acceptance === 'any') return undefined;
    return `collectors: ${String(clear)} would take the uplink off TLS, which is not done from afar`;
  }

  /** The uplink is back, and holds. */
  async prove(): Promise<void> {
    const { trial } = this.state;
    if (trial === undefined) return;
    const { revision, settings } = trial;
    await this.become({ good: { revision, settings } });
    this.say('info', `settings ${revision} are in force: the uplink is back with them`);
  }

  /** What was in force before counts again. */
  async back(why: string): Promise<void> {
    const { trial, good } = this.state;
    if (trial === undefined) return;
    const { revision } = trial;
    const failed = { revision, state: 'rolled back' as const, why: cut(why) };
    await this.become(good === undefined ? { failed } : { good, failed });
    this.say('error', `settings ${revision} were rolled back: ${why}`);
  }

  /** For the status, which tells the collector. */
  report(): RemoteReport {
    const { good, trial, failed } = this.state;
    return {
      ...(good === undefined ? {} : { applied: good.revision }),
      ...(trial === undefined ? {} : { trying: trial.revision }),
      ...(failed === undefined ? {} : { failed }),
    };
  }
}

const cut = (text: string): string => text.slice(0, WHY_CHARS_MAX);
const sorted = (settings: RemoteValues): unknown =>
  Object.entries(settings).sort(([a], [b]) => (a < b ? -1 : 1));

/** Its certificate was checked, or it is this machine. */
function isSecure(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  return protocol === 'mqtts:' || isLoopback(hostname.replaceAll(/[[\]]/g, ''));
}

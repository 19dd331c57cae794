/**
 * The user's file of rules, and the functions that it names. It is looked at every two seconds and taken when it is
 * valid; what is not valid is reported and changes nothing.
 */
import { stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { readUserFile } from '../../shared/config/user-file.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { loadEngine } from '../sandbox/sandbox.ts';
import { parseDelivery, type Delivery } from './delivery/targets.ts';
import { parseRules, type Rule } from './rules.ts';

const WATCH_MS = 2000;

export interface RuleSet {
  rules: readonly Rule[];
  delivery: Delivery;
}

function read(path: string, who: string): string {
  try {
    return readUserFile(path).toString('utf8');
  } catch (error) {
    throw new HeadwaterError('RULE_INVALID', `${who} cannot be read: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

export class RuleFile {
  private readonly file: string;
  private readonly notify: Notify;
  private files: string[] = [];
  private stamp = '';
  /** Why the file as it is now is not in force; '' while it is. */
  said = '';
  private timer: NodeJS.Timeout | undefined;

  /** '' for no rules. */
  constructor(file: string, notify: Notify) {
    this.file = file;
    this.notify = notify;
  }

  /** Throws RULE_INVALID. */
  async load(): Promise<RuleSet> {
    const { file } = this;
    if (file === '') return { rules: [], delivery: { targets: [] } };
    const files = [file];
    await loadEngine();
    const text = read(file, `the rules ${file}`);
    const rules = parseRules(text, file, (name) => {
      const path = resolve(dirname(file), name);
      files.push(path);
      return read(path, `${file}: the function ${name}`);
    });
    for (const rule of rules) if (rule.kind === 'function') rule.run.check();
    const delivery = parseDelivery(text, file);
    this.files = files;
    this.stamp = await this.look();
    return { rules, delivery };
  }

  private async look(): Promise<string> {
    const parts = await Promise.all(
      this.files.map(async (path) => {
        const { mtimeMs, size, ino } = await stat(path);
        return `${path} ${mtimeMs} ${size} ${ino}`;
      }),
    );
    return parts.join('\n');
  }

  /** Calls back with every valid new version; one after the other. */
  watch(onChange: (rules: RuleSet) => Promise<void>): void {
    if (this.file === '') return;
    let busy = false;
    this.timer = setInterval(() => {
      if (busy) return;
      busy = true;
      void this.check(onChange).finally(() => {
        busy = false;
      });
    }, WATCH_MS);
    this.timer.unref();
  }

  private async check(onChange: (rules: RuleSet) => Promise<void>): Promise<void> {
    try {
      if ((await this.look()) === this.stamp) return;
      const rules = await this.load();
      this.said = '';
      await onChange(rules);
      this.notify({
        level: 'info',
        event: 'rules_loaded',
        text: `${this.file} has changed and is in force`,
      });
    } catch (error) {
      const text = `${messageOf(error)}; the rules before stay in force`;
      if (text !== this.said) this.notify({ level: 'error', event: 'rules_invalid', text });
      this.said = text;
    }
  }

  close(): void {
    clearInterval(this.timer);
  }
}

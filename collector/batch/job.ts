/**
 * A batch job: a SQL file whose first comments say when it runs and what becomes of its rows. `docs/batch.md` describes it.
 */
import { readdirSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { basename, join } from 'node:path';
import { CronExpressionParser } from 'cron-parser';
import { fileOfPackage } from '../../shared/config/root.ts';
import { readUserFile } from '../../shared/config/user-file.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';

export interface Job {
  name: string;
  file: string;
  about: string;
  /** Five fields of cron, UTC; undefined: only when somebody asks. */
  schedule: string | undefined;
  /** Days before today that each scheduled run looks at: those whose input has changed run again. */
  lookbackDays: number;
  /** Days of the lake that a day's run reads, itself included. */
  inputDays: number;
  /** Of the results. */
  measurement: string;
  sql: string;
  /** Of all of it. */
  hash: string;
}

const KEYS = ['about', 'schedule', 'lookback', 'input', 'measurement'];
const NAME = /^[a-z][a-z0-9_]{0,63}$/;
const PLACEHOLDERS = ['from', 'to', 'input_from', 'date'];
const DAYS_MAX = 3660;

function fail(file: string, why: string): never {
  throw new HeadwaterError('BATCH_INVALID', `${file}: ${why}`);
}

function days(file: string, key: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > DAYS_MAX)
    fail(file, `'${key}: ${text}' is not a number of days from 1 to ${DAYS_MAX}`);
  return value;
}

/** When a schedule is due next after a time, epoch milliseconds. Throws for what is no cron expression. */
export function dueAfter(schedule: string, ms: number): number {
  const options = { tz: 'UTC', currentDate: new Date(ms) };
  return CronExpressionParser.parse(schedule, options).next().getTime();
}

/** Throws BATCH_INVALID, naming the file. */
export function parseJob(file: string, text: string): Job {
  const name = basename(file, '.sql');
  if (!NAME.test(name))
    fail(file, `'${name}' is not a name for a job: small letters, digits and _`);
  const heads = new Map<string, string>();
  for (const line of text.split('\n')) {
    if (!line.startsWith('--')) break;
    const [, key = '', value = ''] = /^--\s*(\w+):\s*(.*?)\s*$/.exec(line) ?? [];
    if (key === '') continue;
    if (!KEYS.includes(key)) fail(file, `'${key}' is not known; known are ${KEYS.join(', ')}`);
    heads.set(key, value);
  }
  const schedule = heads.get('schedule');
  if (schedule !== undefined) {
    try {
      dueAfter(schedule, 0);
      if (schedule.split(/\s+/).length !== 5) throw new Error('it has not five fields');
    } catch (error) {
      fail(file, `'schedule: ${schedule}' is not a cron expression: ${messageOf(error)}`);
    }
  }
  for (const [, placeholder = ''] of text.matchAll(/\{\{(.*?)\}\}/g))
    if (!PLACEHOLDERS.includes(placeholder))
      fail(file, `{{${placeholder}}} is not known; known are ${PLACEHOLDERS.join(', ')}`);
  const sql = text
    .replaceAll(/^\s*--.*$/gm, '')
    .trim()
    .replace(/;$/, '');
  if (sql === '') fail(file, 'has no SQL');
  if (!/^(select|with)\b/i.test(sql)) fail(file, 'is not a SELECT: its rows are its results');
  return {
    name,
    file,
    about: heads.get('about') ?? '',
    schedule,
    lookbackDays: days(file, 'lookback', heads.get('lookback'), 7),
    inputDays: days(file, 'input', heads.get('input'), 1),
    measurement: heads.get('measurement') ?? name,
    sql,
    hash: createHash('sha256').update(text).digest('hex').slice(0, 16),
  };
}

function jobText(path: string): string {
  try {
    return readUserFile(path).toString('utf8');
  } catch (error) {
    throw new HeadwaterError('BATCH_INVALID', `the job cannot be read: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

function jobsIn(folder: string): Job[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    throw new HeadwaterError(
      'BATCH_INVALID',
      `the jobs in ${folder} cannot be read: ${messageOf(error)}`,
      { cause: error },
    );
  }
  return names
    .filter((name) => name.endsWith('.sql'))
    .sort()
    .map((name) => parseJob(join(folder, name), jobText(join(folder, name))));
}

/** Throws BATCH_INVALID. A job of the user's replaces a shipped one of the same name. */
export function loadJobs(folder: string, withShipped: boolean): Job[] {
  const shipped = withShipped ? jobsIn(fileOfPackage('collector/batch/jobs')) : [];
  const own = folder === '' ? [] : jobsIn(folder);
  const names = new Set(own.map(({ name }) => name));
  const all = [...shipped.filter(({ name }) => !names.has(name)), ...own];
  const writers = new Map<string, string>();
  for (const { name, measurement, file } of all) {
    const other = writers.get(measurement);
    if (other !== undefined)
      fail(file, `'${name}' and '${other}' both write the measurement '${measurement}'`);
    writers.set(measurement, name);
  }
  return all;
}

const literal = (ms: number): string =>
  `TIMESTAMP '${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')}'`;

export const DAY_MS = 86_400_000;

/** Midnight of a day, epoch milliseconds. Throws BATCH_INVALID. */
export function dayMs(date: string): number {
  const ms = Date.parse(`${date}T00:00:00Z`);
  if (!/^\d{4}-\d\d-\d\d$/.test(date) || Number.isNaN(ms))
    throw new HeadwaterError('BATCH_INVALID', `'${date}' is not a date such as 2019-03-10`);
  return ms;
}

/** The SQL of a day. */
export function sqlOf({ sql, inputDays }: Job, date: string): string {
  const from = dayMs(date);
  const values: Record<string, string> = {
    from: literal(from),
    to: literal(from + DAY_MS),
    input_from: literal(from - (inputDays - 1) * DAY_MS),
    date: `'${date}'`,
  };
  return sql.replaceAll(/\{\{(\w+)\}\}/g, (_whole, name: string) => values[name] ?? '');
}

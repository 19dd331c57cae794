/**
 * The bucket or database that is written to: made where it may be, asked how long it keeps, and told from another one of
 * the same name, so that one that was dropped and made again is filled anew.
 *
 * A bucket of version 2 has an id. A database of 1.8 has none: a retention policy `headwater-ID` without any points is
 * its mark, and goes with it. Who may not see or make these has a store that is known by its address alone.
 */
import { randomBytes } from 'node:crypto';
import { HeadwaterError } from '../../shared/errors.ts';
import type { Answer, InfluxHttp } from './influxdb-http.ts';
import { ident } from './influxdb-lines.ts';
import { isOfInflux, sentenceOf } from './influxdb-words.ts';
import { durationMs } from './influxdb-refusals.ts';

export interface Target {
  url: string;
  /** Empty for 1.8. */
  org: string;
  /** Bucket, or database of 1.8. */
  bucket: string;
}

export interface Found {
  /** Tells this bucket from another one of its name; '' where nobody may know. */
  instance: string;
  /** 0: for ever. */
  retentionMs: number;
  dateMs: number | undefined;
  /** Its answers name InfluxDB. */
  isMarked: boolean;
}

const MARK = 'headwater-';

/** Throws STORE_UNAVAILABLE. */
export function setUp(http: InfluxHttp, target: Target): Promise<Found> {
  return target.org === '' ? database(http, target) : bucket(http, target);
}

/** Statuses by which InfluxDB says that it will not tell, or has not what is asked for. */
const UNTOLD = new Set([400, 401, 403, 404]);

/** Throws STORE_UNAVAILABLE for an answer that may be another one later, or is none of InfluxDB's. */
function check({ url, bucket }: Target, answer: Answer): void {
  if (UNTOLD.has(answer.status) || (answer.status === 200 && isOfInflux(answer))) return;
  throw new HeadwaterError('STORE_UNAVAILABLE', sentenceOf(answer, url, bucket));
}

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // Of a status that says why, in whatever words.
  }
};

interface Bucket {
  id: string;
  name: string;
  retentionRules?: { everySeconds?: number }[];
}

async function bucket(http: InfluxHttp, target: Target): Promise<Found> {
  const { org, bucket: name, url } = target;
  const ask = async (query: Record<string, string>): Promise<[Answer, Bucket[]]> => {
    const path = `/api/v2/buckets?${new URLSearchParams({ org, ...query }).toString()}`;
    const answer = await http.ask('GET', path);
    check(target, answer);
    const { buckets = [] } = (parsed(answer.text) ?? {}) as { buckets?: Bucket[] };
    return [answer, buckets];
  };
  const [answer, buckets] = await ask({ name });
  const own = buckets.find((each) => each.name === name);
  // Who sees others would see this one: what is written would be nowhere. Who sees none may have a token for writing alone.
  if (own === undefined && (await ask({ limit: '1' }))[1].length > 0)
    throw new HeadwaterError(
      'STORE_UNAVAILABLE',
      `InfluxDB at ${url} has no bucket '${name}' in '${org}' that this token may see: make it, or give a token that may`,
    );
  const seconds = own?.retentionRules?.[0]?.everySeconds ?? 0;
  const { dateMs, isMarked } = answer;
  return { instance: own?.id ?? '', retentionMs: seconds * 1000, dateMs, isMarked };
}

interface Policy {
  name: string;
  durationMs: number;
  isDefault: boolean;
}

async function database(http: InfluxHttp, target: Target): Promise<Found> {
  const name = ident(target.bucket);
  let { policies, dateMs, isMarked } = await policiesOf(http, target);
  if (policies === undefined) {
    await statement(http, target, `CREATE DATABASE ${name}`);
    ({ policies, dateMs, isMarked } = await policiesOf(http, target));
  }
  const retentionMs = policies?.find(({ isDefault }) => isDefault)?.durationMs ?? 0;
  const mark = policies?.find((each) => each.name.startsWith(MARK))?.name;
  if (mark !== undefined || policies === undefined)
    return { instance: mark?.slice(MARK.length) ?? '', retentionMs, dateMs, isMarked };
  const instance = randomBytes(4).toString('hex');
  const made = await statement(
    http,
    target,
    `CREATE RETENTION POLICY ${ident(`${MARK}${instance}`)} ON ${name} DURATION INF REPLICATION 1`,
  );
  return { instance: made.error === undefined ? instance : '', retentionMs, dateMs, isMarked };
}

interface Result {
  error?: string;
  series?: { columns: string[]; values?: unknown[][] }[];
}

async function statement(
  http: InfluxHttp,
  target: Target,
  text: string,
): Promise<Result & Pick<Answer, 'dateMs' | 'isMarked'>> {
  const body = new URLSearchParams({ q: text }).toString();
  const answer = await http.ask('POST', '/query', body, 'application/x-www-form-urlencoded');
  check(target, answer);
  const { results = [], error } = (parsed(answer.text) ?? {}) as {
    results?: Result[];
    error?: string;
  };
  const result = results[0] ?? {};
  const failed = error ?? result.error;
  const { dateMs, isMarked } = answer;
  return { ...result, ...(failed === undefined ? {} : { error: failed }), dateMs, isMarked };
}

/** Undefined when there is no such database, or nobody may know. */
async function policiesOf(
  http: InfluxHttp,
  target: Target,
): Promise<{ policies: Policy[] | undefined } & Pick<Answer, 'dateMs' | 'isMarked'>> {
  const { error, series, dateMs, isMarked } = await statement(
    http,
    target,
    `SHOW RETENTION POLICIES ON ${ident(target.bucket)}`,
  );
  if (error !== undefined) return { policies: undefined, dateMs, isMarked };
  const { columns = [], values = [] } = series?.[0] ?? {};
  const [name, duration, isDefault] = ['name', 'duration', 'default'].map((column) =>
    columns.indexOf(column),
  ) as [number, number, number];
  const policies = values.map((row) => ({
    name: String(row[name]),
    durationMs: durationMs(String(row[duration])),
    isDefault: row[isDefault] === true,
  }));
  return { policies, dateMs, isMarked };
}

/**
 * InfluxDB 1.8 and 2, over HTTP.
 *
 * A batch of ours is one request of at most 5,000 lines, awaited; the offset is committed after it. Idempotent, because
 * series and nanosecond are a pure function of the identity. What InfluxDB says it dropped for one cause goes at once (see
 * `influxdb-refusals.ts`); only where its words say nothing a request is cut in halves until the refused points stand
 * alone, within 200 requests and 20 seconds a call: the next call goes on from there.
 *
 * Reading is InfluxQL on `/query`, which both versions speak (in 2, a bucket's name stands for a database).
 */
import { createHash } from 'node:crypto';
import { monotonicMs, processTime, type Time } from '../../shared/env/env.ts';
import { within } from '../../shared/env/timers.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import type { Reading } from '../../shared/model/reading.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { folded } from './changes.ts';
import { InfluxHttp, REQUESTS_MAX, type Answer } from './influxdb-http.ts';
import { Prefixes, digits, ident, lineOf, literal, tagTerms } from './influxdb-lines.ts';
import { InfluxReader, STATEMENTS_MAX } from './influxdb-read.ts';
import { MARGIN_MS, Refusals, type Line } from './influxdb-refusals.ts';
import { setUp, type Target } from './influxdb-setup.ts';
import { isOfInflux, isWritten, sentenceOf, wordsOf } from './influxdb-words.ts';
import { paged } from './pages.ts';
import {
  seriesName,
  type Change,
  type LatestPoint,
  type PointsPart,
  type Refused,
  type SeriesFilter,
  type SeriesKey,
  type StoreQuery,
  type StoredPoint,
  type TimeSeriesStore,
} from './store.ts';

export interface InfluxOptions extends Target {
  /** Asked before each request; '' for none. */
  token: () => string;
  /** Certificates of authorities that are trusted beside the usual ones; '' for none. */
  caFile: string;
  time?: Time;
}

/** `influxdb://HOST:PORT/ORG/BUCKET` or, for 1.8, `influxdb://HOST:PORT/DB`. Throws CONFIG_INVALID. */
export function parseInfluxAddress(text: string): Target {
  const match = /^influxdb(s?):\/\/([^/@]+)\/([^/]+)(?:\/([^/]+))?$/.exec(text);
  if (match === null) {
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `--store '${text}' is not of the form influxdb://HOST:PORT/ORG/BUCKET (1.8: influxdb://HOST:PORT/DB; the token goes into HEADWATER_INFLUXDB_TOKEN or store.tokenFile)`,
    );
  }
  const [, secure, host, first = '', second] = match;
  const decoded = [first, second ?? ''].map(decodeURIComponent) as [string, string];
  const url = `http${secure}://${host}`;
  return second === undefined
    ? { url, org: '', bucket: decoded[0] }
    : { url, org: decoded[0], bucket: decoded[1] };
}

/** Lines in one request: InfluxDB's own advice. */
const LINES_MAX = 5000;
/** What one call may take where points have to be looked for one by one. */
const CALL = { requests: 200, ms: 20_000 };
/** A request of one line that is smaller than this is too large for nobody but a proxy that lets nothing pass. */
const LARGE_LINE = 64 * 1024;
/** A start waits for it no longer. */
const OPEN_MS = 3000;
/** The bucket is looked at again, and a cause told again, after so long. */
const LOOK_MS = 600_000;
export class InfluxStore implements TimeSeriesStore {
  readonly kind = 'influxdb';
  readonly supports = { progress: false, remove: 'tombstone', aggregates: true } as const;
  private readonly options: InfluxOptions;
  private readonly notify: Notify;
  private readonly time: Time;
  private readonly http: InfluxHttp;
  private readonly prefixes = new Prefixes();
  private readonly refusals: Refusals;
  private readonly reader: InfluxReader;
  /** Of the bucket as it was found last; undefined until then. */
  private instance: string | undefined;
  /** The one that `identity` told last. */
  private given: string | undefined;
  private lookAt = Number.NEGATIVE_INFINITY;
  /** Its answers name InfluxDB: one that does not is somebody else's. */
  private isMarked = false;
  /** Of one request; fewer where something in between takes no larger ones. */
  private linesMax = LINES_MAX;
  private isClosed = false;
  private readonly toldAt = new Map<string, number>();

  /** Throws CONFIG_INVALID. */
  constructor(options: InfluxOptions, notify: Notify) {
    const { url, caFile, token, time = processTime } = options;
    this.options = options;
    this.notify = notify;
    this.time = time;
    this.http = new InfluxHttp({ url, caFile, token, time });
    this.refusals = new Refusals(time);
    this.reader = new InfluxReader(this.http, options, (answer) => this.unavailable(answer));
  }

  /** Does not wait for the server: readings wait in the log while it is away. */
  async open(): Promise<void> {
    try {
      const asked = this.ensure().then(async () => {
        await this.reader.ask(['SHOW MEASUREMENTS LIMIT 1']);
        return true;
      });
      if ((await within(this.time.timers, OPEN_MS, asked)) !== true)
        this.away(`InfluxDB at ${this.options.url} has not answered for ${OPEN_MS / 1000} s`);
    } catch (error) {
      if (!(error instanceof HeadwaterError)) throw error;
      this.away(error.message);
    }
  }

  private away(why: string): void {
    this.notify({ level: 'warn', event: 'store_away', text: `${why}; readings wait in the log` });
  }

  /** Made, if it may be, and looked at now and then. Throws STORE_UNAVAILABLE. */
  private async ensure(): Promise<void> {
    const now = monotonicMs(this.time);
    if (this.instance !== undefined && now < this.lookAt) return;
    const { instance, retentionMs, dateMs, isMarked } = await setUp(this.http, this.options);
    if (instance !== this.instance) this.refusals.forget();
    this.refusals.heard(dateMs);
    this.refusals.retentionMs = retentionMs;
    this.instance = instance;
    this.isMarked = isMarked;
    this.linesMax = LINES_MAX;
    this.lookAt = now + LOOK_MS;
  }

  async identity(): Promise<string> {
    await this.ensure();
    this.given = this.instance ?? '';
    const { url, org, bucket } = this.options;
    const name = JSON.stringify([url, org, bucket, this.given]);
    return `influxdb-${createHash('sha256').update(name).digest('hex').slice(0, 16)}`;
  }

  marks(): Promise<Map<string, string>> {
    return Promise.resolve(new Map());
  }

  // ---- writing ----

  async apply(changes: readonly Change[]): Promise<Refused[]> {
    if (this.isClosed) throw new HeadwaterError('STORE_UNAVAILABLE', 'InfluxDB is not open');
    await this.ensure();
    if (this.given !== undefined && this.instance !== this.given)
      throw new HeadwaterError(
        'STORE_RESET',
        `InfluxDB at ${this.options.url}: ${this.options.bucket} was made anew; it is filled again`,
      );
    const list = folded(changes);
    await this.remove(leaving(list));
    const refused: Refused[] = [];
    const lines = this.linesOf(list, refused);
    const call = new Call(this.time);
    try {
      await this.writeAll(lines, refused, call);
    } catch (error) {
      this.refusals.keep(refused);
      throw error;
    }
    this.refusals.done();
    const merged = mergedBy(refused);
    for (const each of merged) this.tell(each);
    return merged;
  }

  private linesOf(changes: readonly Change[], refused: Refused[]): Line[] {
    const unwritable: Change[] = [];
    const lines: Line[] = [];
    for (const change of changes) {
      const { put } = change;
      if (put === undefined) continue;
      const prefix = this.prefixes.of(put.measurement, put.tags);
      const text = prefix === undefined ? undefined : lineOf(put, prefix);
      if (text === undefined) unwritable.push(change);
      else lines.push({ text, change });
    }
    if (unwritable.length > 0)
      refused.push({
        reason:
          'line protocol cannot write this name: a line break, a backslash at the end, nothing, or one that InfluxDB keeps for itself',
        changes: unwritable,
      });
    return lines;
  }

  private async writeAll(lines: readonly Line[], refused: Refused[], call: Call): Promise<void> {
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < lines.length) {
        const part = lines.slice(next, next + this.linesMax);
        next += part.length;
        await this.writeLines(part, refused, call);
      }
    };
    const done = await Promise.allSettled(Array.from({ length: REQUESTS_MAX }, worker));
    const failed = done.find(({ status }) => status === 'rejected');
    if (failed !== undefined) throw (failed as PromiseRejectedResult).reason;
  }

  /** Writes what may be written; the rest is refused, all of a cause at once where InfluxDB says what it is. */
  private async writeLines(given: readonly Line[], refused: Refused[], call: Call): Promise<void> {
    let lines = given;
    while (lines.length > 0) {
      const { left, causes } = this.refusals.known(lines);
      for (const cause of causes) refused.push(refusalOf(cause.reason, cause.lines));
      lines = left;
      if (lines.length === 0) return;
      const answer = await this.send(lines);
      if (isWritten(answer) && (answer.isMarked || !this.isMarked)) return;
      if (!this.isOfPoints(answer, lines)) throw this.unavailable(answer);
      call.count();
      const words = wordsOf(answer);
      const cause = this.refusals.read(words, lines);
      if (cause !== undefined) {
        refused.push(refusalOf(cause.reason, cause.lines));
        const gone = new Set(cause.lines);
        lines = lines.filter((line) => !gone.has(line));
        continue;
      }
      if (lines.length === 1) {
        refused.push(refusalOf(`InfluxDB refuses the point: ${words.slice(0, 300)}`, lines));
        return;
      }
      const half = Math.ceil(lines.length / 2);
      await this.writeLines(lines.slice(0, half), refused, call);
      lines = lines.slice(half);
    }
  }

  /** The answer is about these points, and not about whoever asks, or a proxy's about the request. */
  private isOfPoints(answer: Answer, lines: readonly Line[]): boolean {
    if (answer.status === 413) {
      // Whoever finds a request too large will find the next one so.
      this.linesMax = Math.max(1, lines.length >> 1);
      return lines.length > 1 || (lines[0]?.text.length ?? 0) >= LARGE_LINE;
    }
    return [400, 422].includes(answer.status) && isOfInflux(answer);
  }

  private async send(lines: readonly Line[]): Promise<Answer> {
    const { org, bucket } = this.options;
    const to = org === '' ? { bucket: `${bucket}/` } : { org, bucket };
    const query = new URLSearchParams({ ...to, precision: 'ns' }).toString();
    const body = lines.map(({ text }) => text).join('\n');
    const answer = await this.http.ask('POST', `/api/v2/write?${query}`, body);
    this.refusals.heard(answer.dateMs);
    return answer;
  }

  /** Once, and again when it still goes on after a while. */
  private tell({ reason, changes }: Refused): void {
    const now = monotonicMs(this.time);
    if (now < (this.toldAt.get(reason) ?? Number.NEGATIVE_INFINITY) + LOOK_MS) return;
    this.toldAt.set(reason, now);
    this.notify({
      level: 'warn',
      event: 'store_refused',
      text: `${reason}; ${changes.length} readings, and more of this cause to come, are in quarantine`,
    });
  }

  private unavailable(answer: Answer): HeadwaterError {
    const { url, bucket } = this.options;
    // It may have been dropped: it is looked at, and made where it may be, before the next attempt.
    if (answer.status === 404 || answer.status < 400) this.lookAt = Number.NEGATIVE_INFINITY;
    return new HeadwaterError('STORE_UNAVAILABLE', sentenceOf(answer, url, bucket));
  }

  /** All of these addresses. */
  private async remove(readings: readonly Reading[]): Promise<void> {
    if (readings.length === 0) return;
    if (this.options.org === '') {
      const statements = readings.map(({ measurement, tags, timeMs, ns }) => {
        const where = tagTerms(tags).map(
          ([key, value]) => ` AND ${ident(key)} = ${literal(value)}`,
        );
        return `DELETE FROM ${ident(measurement)} WHERE time = ${timeMs}${digits(ns)}${where.join('')}`;
      });
      for (let i = 0; i < statements.length; i += STATEMENTS_MAX)
        await this.reader.ask(statements.slice(i, i + STATEMENTS_MAX));
      return;
    }
    // InfluxQL of version 2 does not delete; its own call takes one range and one predicate.
    let next = 0;
    const worker = async (): Promise<void> => {
      for (let reading = readings[next++]; reading !== undefined; reading = readings[next++])
        await this.removeOne(reading);
    };
    await Promise.all(Array.from({ length: REQUESTS_MAX }, worker));
  }

  private async removeOne({ measurement, tags, timeMs, ns }: Reading): Promise<void> {
    const { org, bucket } = this.options;
    const seconds = new Date(timeMs).toISOString().slice(0, 19);
    const at = `${seconds}.${String(timeMs % 1000).padStart(3, '0')}${digits(ns)}Z`;
    const terms = [['_measurement', measurement] as const, ...tagTerms(tags)].map(
      ([key, value]) => `${ident(key)}=${ident(value)}`,
    );
    const answer = await this.http.ask(
      'POST',
      `/api/v2/delete?${new URLSearchParams({ org, bucket }).toString()}`,
      JSON.stringify({ start: at, stop: at, predicate: terms.join(' AND ') }),
      'application/json',
    );
    if (answer.status >= 300) throw this.unavailable(answer);
  }

  series(): Promise<SeriesKey[]> {
    return this.reader.series();
  }

  latest(filter: SeriesFilter): Promise<LatestPoint[]> {
    return this.reader.latest(filter);
  }

  query(query: StoreQuery): AsyncIterable<PointsPart> {
    return paged(query, this.reader.parts(query));
  }

  scan(fromMs: number, toMs: number): AsyncIterable<StoredPoint[]> {
    return this.reader.scan(fromMs, toMs);
  }

  keepsFromMs(): number | undefined {
    const bound = this.refusals.bound();
    return bound === undefined ? undefined : bound + MARGIN_MS;
  }

  warnings(): string[] {
    return [];
  }

  close(): Promise<void> {
    this.isClosed = true;
    this.http.close();
    return Promise.resolve();
  }
}

/** What the refusals of one call have taken. */
class Call {
  private readonly time: Time;
  private until: number | undefined;
  private requests = 0;

  constructor(time: Time) {
    this.time = time;
  }

  /** Throws STORE_UNAVAILABLE when it is enough: the next call goes on from what is known then. */
  count(): void {
    const now = monotonicMs(this.time);
    this.until ??= now + CALL.ms;
    if (++this.requests <= CALL.requests && now < this.until) return;
    throw new HeadwaterError(
      'STORE_UNAVAILABLE',
      `InfluxDB refuses points that have to be looked for: ${this.requests} requests so far, and it goes on`,
    );
  }
}

const refusalOf = (reason: string, lines: readonly Line[]): Refused => ({
  reason,
  changes: lines.map(({ change }) => change),
});

/** One of each cause, whatever request it came from. */
function mergedBy(refused: readonly Refused[]): Refused[] {
  const byReason = new Map<string, Change[]>();
  for (const { reason, changes } of refused) {
    const list = byReason.get(reason);
    if (list === undefined) byReason.set(reason, [...changes]);
    else for (const change of changes) list.push(change);
  }
  return [...byReason].map(([reason, changes]) => ({ reason, changes }));
}

/** Addresses at which nothing, or another point, shall be: each once. */
function leaving(changes: readonly Change[]): Reading[] {
  const addresses = new Map<string, Reading>();
  for (const { was } of changes)
    for (const reading of was ?? []) {
      const { timeMs, ns } = reading;
      addresses.set(`${seriesName({ ...reading, field: '' })} ${timeMs} ${ns}`, reading);
    }
  return [...addresses.values()];
}

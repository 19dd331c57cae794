/**
 * A collector with everything that writes files (embedded log, store, lake with corrections, results, batches, quarantine, an
 * authority with members, settings declared), a gateway that still has all that it sent, and what a stranger can ask of it: to be
 * damaged. The folder of a kill -9 after that load, and an older copy, are kept; each trial begins with the first.
 */
import { createHash } from 'node:crypto';
import { cpSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectAsync } from 'mqtt';
import { enroll } from '../../gateway/uplink/enroll.ts';
import { standingOf } from '../../gateway/standing.ts';
import { freePort } from './free-port.ts';
import { ingest, pointsOf } from './lake.ts';
import {
  start,
  startGateway,
  crowding,
  temporaryFolder,
  until,
  ready,
  type Child,
  type Headwater,
} from './process.ts';
import { fetchOnce, getJson, settled } from './reconcile.ts';

const ROOM = 'room';
const RULES = `rules:
  - { name: hourly, from: { measurement: ${ROOM} }, window: 1h, compute: [count, sum] }
  - { name: twice, from: { measurement: ${ROOM} }, derive: { twice: "n * 2" } }
`;
const MAPPING = (by: number): string =>
  `mappings:\n  - topic: press/{machine}/values\n    measurement: press\n    scale: { force: ${by} }\n    types: { force: number }\n`;
const DAYS = 3;
const FIRST_DAY = Date.UTC(2026, 4, 1);
/** What is asked after every trial. */
const MEASUREMENTS = [ROOM, 'hourly', 'twice', 'press', 'daily_summary'];

/** Of the lake, to be told where they differ. */
const ROWS = {
  'of the lake, results':
    'SELECT gateway, epoch, sequence, "index", series, fields, revision FROM results',
  'of the lake, readings':
    'SELECT epoch, sequence, "index", time_ns, series, fields, log, log_offset FROM readings WHERE gateway = \'gw-files\'',
};

export type Print = Readonly<Record<string, string>>;

export class FileSite {
  readonly folder: string;
  readonly kept: string;
  readonly older: string;
  private readonly base = temporaryFolder();
  private readonly environment: Record<string, string>;
  private flags: string[] = [];
  private gateway: Headwater | undefined;
  collector: Headwater | undefined;
  child: Child | undefined;
  print: Print = {};
  /** Of the store, by measurement: at first, and as they were looked at last. */
  private firstPoints: ReadonlyMap<string, string[]> = new Map();
  private points: ReadonlyMap<string, string[]> = new Map();
  /** How the process that was started last has ended. */
  ended: number | undefined;
  private fresh = 0;

  constructor(environment: Record<string, string> = {}) {
    this.environment = environment;
    this.folder = join(this.base, 'collector');
    this.kept = join(this.base, 'kept');
    this.older = join(this.base, 'older');
  }

  get http(): string {
    return this.collector?.address['http'] ?? '';
  }

  private get mappings(): string {
    return join(this.base, 'mappings.yaml');
  }

  /** Undefined: it serves. Else what it ended with. */
  async start(): Promise<string | undefined> {
    const child = start(
      process.execPath,
      ['cli/bin.mjs', 'collector', ...this.flags],
      this.environment,
    );
    this.child = child;
    this.ended = undefined;
    void child.exited.then((code) => {
      if (this.child === child) this.ended = code;
    });
    try {
      this.collector = await ready(child, 'collector');
      return undefined;
    } catch (error) {
      this.collector = undefined;
      const code = await child.kill('SIGKILL');
      if (code === 137) throw new Error(`it hangs: ${child.output()}`, { cause: error });
      return child.output();
    }
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number> {
    const code = (await this.child?.kill(signal)) ?? 0;
    this.collector = undefined;
    return code;
  }

  private async post(path: string, fields: object): Promise<Record<string, unknown>> {
    const response = await fetchOnce(`http://${this.http}/api/v1/${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(fields),
    });
    const answer = (await response.json()) as Record<string, unknown>;
    if (!response.ok) throw new Error(`${path}: ${JSON.stringify(answer)}`);
    return answer;
  }

  private async say(from: number, to: number): Promise<void> {
    const client = await connectAsync(`mqtt://127.0.0.1:${this.gateway?.port('mqtt')}`);
    const sent: Promise<unknown>[] = [];
    const say = (topic: string, payload: string): void =>
      void sent.push(client.publishAsync(topic, payload, { qos: 1 }));
    for (let n = from; n < to; n++) {
      const time = FIRST_DAY + (n % DAYS) * 86_400_000 + n * 1000;
      say(`hall/${n % 4}/${ROOM}`, JSON.stringify({ n, time }));
      if (n % 10 === 0) say(`press/${n % 3}/values`, JSON.stringify({ force: n / 4, time }));
      if (n % 50 === 0) say('press/1/values', `{"force":`);
    }
    await Promise.all(sent);
    await client.endAsync();
    await settled(this.gateway?.address['http'] ?? '', this.http);
  }

  /** Everything that writes a file has written. */
  async open(): Promise<void> {
    const rules = join(this.base, 'rules.yaml');
    const settings = join(this.base, 'settings.yaml');
    writeFileSync(rules, RULES);
    writeFileSync(this.mappings, MAPPING(1));
    writeFileSync(
      settings,
      ['lake.flushSeconds: 1', `stream.rules: ${rules}`, `mappings: ${this.mappings}`, ''].join(
        '\n',
      ),
    );
    const uplink = `127.0.0.1:${await freePort()}`;
    const at = {
      data: this.folder,
      config: settings,
      uplink,
      http: '127.0.0.1:0',
      uplinks: '127.0.0.1:0',
      enroll: '127.0.0.1:0',
    };
    this.flags = Object.entries(at).flatMap(([name, value]) => [`--${name}`, value]);
    await this.start();
    this.gateway = await startGateway(uplink, ['--id', 'gw-files'], {
      HEADWATER_UPLINK_RECONNECT_MS_MAX: '300',
    });
    await this.say(0, 400);
    await this.members();
    await this.declare('nowhere', 30);
    await this.quiet();
    await this.stop();
    cpSync(this.folder, this.older, { recursive: true });
    writeFileSync(this.mappings, MAPPING(2));
    await this.start();
    await this.say(400, 600);
    await this.replayed();
    await this.post('enroll/tokens', { gateways: 'c' });
    await this.declare('elsewhere', 40);
    await this.post('batch/run', { job: 'daily_summary', from: '2026-05-01', to: '2026-05-03' });
    await this.whole();
    await ingest(this.collector as Headwater, 'hall/9/last', { n: 1 });
    await this.stop('SIGKILL');
    cpSync(this.folder, this.kept, { recursive: true });
    await this.start();
    await this.whole();
    this.print = await this.look();
    this.firstPoints = this.points;
    await this.stop();
  }

  private async declare(where: string, seconds: number): Promise<void> {
    const settings = { 'uplink.keepAliveSeconds': seconds };
    await this.post('config', { target: `site:${where}`, settings });
  }

  private async replayed(): Promise<void> {
    await this.post('replay', { which: 'all' });
    await until('the replay', async () => {
      const { jobs } = await getJson<{ jobs: { finished: boolean }[] }>(
        `http://${this.http}/api/v1/replay`,
      );
      return jobs.every(({ finished }) => finished) || undefined;
    });
  }

  /** Two enrolled, one of them revoked, one token not used. */
  private async members(): Promise<void> {
    const { tokens } = await this.post('enroll/tokens', { gateways: 'a,b,unused' });
    for (const { gateway, token } of tokens as { gateway: string; token: string }[]) {
      if (gateway === 'unused') continue;
      const path = join(this.base, `${gateway}.token`);
      writeFileSync(path, `${token}\n`, { mode: 0o600 });
      const standing = standingOf(join(this.base, gateway), path, '');
      if (standing !== undefined) await enroll(standing, () => undefined);
    }
    await this.post('enroll/revoke', { gateway: 'b' });
  }

  /** Lake and audit have looked at everything, and what was lost is there again or given up. */
  async whole(ms = 60_000): Promise<void> {
    const get = <T>(path: string): Promise<T> => getJson<T>(`http://${this.http}/api/v1/${path}`);
    await this.quiet();
    for (const path of ['lake/check', 'audit']) {
      await this.post(path, path === 'audit' ? { full: 'true' } : {});
      await until(
        path,
        async () => {
          const { running, failure } = await get<{ running: boolean; failure?: string }>(path);
          if (failure !== undefined) throw new Error(failure);
          return running ? undefined : true;
        },
        ms,
      );
    }
    await this.quiet();
  }

  /** Nothing waits anywhere. */
  private async quiet(ms = 90_000 * crowding()): Promise<void> {
    let times = 0;
    let why = '';
    await until(
      'nothing to wait',
      async () => {
        why = await this.busy();
        times = why === '' ? times + 1 : 0;
        return times >= 3 || undefined;
      },
      ms,
    ).catch((error: unknown) => {
      throw new Error(`${String(error)}: ${why}\n${this.child?.output().slice(-3000)}`);
    });
  }

  private async busy(): Promise<string> {
    if (this.ended !== undefined)
      throw Object.assign(new Error(`it ended with ${this.ended}`), { fatal: true });
    const base = `http://${this.http}`;
    const { stages } = await getJson<{ stages: { group: string; lagRecords: number | null }[] }>(
      `${base}/api/v1/status`,
    );
    const { lake, incomplete = [] } = await getJson<{
      lake: { final: boolean }[];
      incomplete?: unknown[];
    }>(`${base}/api/v1/ledger`);
    const metrics = await (await fetchOnce(`${base}/metrics`)).text();
    const windows = Number(/^headwater_stream_waiting_corrections (\d+)/m.exec(metrics)?.[1] ?? 0);
    const waiting = [
      ...stages.filter(({ lagRecords }) => lagRecords !== 0),
      ...lake.filter(({ final }) => !final),
      ...incomplete,
      ...(windows > 0 ? [`${windows} windows`] : []),
    ];
    return waiting.length === 0 ? '' : JSON.stringify(waiting);
  }

  private async sql(sql: string): Promise<string> {
    return (await this.lines(sql)).join(' ');
  }

  /** Rows of the answer, one after the other. */
  private async lines(sql: string): Promise<string[]> {
    const headers = { 'content-type': 'application/json' };
    const response = await fetchOnce(`http://${this.http}/api/v1/sql`, {
      method: 'POST',
      headers,
      body: JSON.stringify({ sql }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(text);
    return text.split('\n').slice(1, -2);
  }

  /** What anybody can ask of what was there before: each answer as a short text. */
  async look(): Promise<Print> {
    const get = <T>(path: string): Promise<T> => getJson<T>(`http://${this.http}/api/v1/${path}`);
    const seen: Record<string, string> = {};
    const all = new Map<string, string[]>();
    for (const measurement of MEASUREMENTS) {
      const points = await pointsOf(this.http, measurement);
      all.set(measurement, points);
      seen[`store, ${measurement}`] = `${points.length} ${digest(points.join('\n'))}`;
    }
    seen['lake, raw'] = await this.sql(
      "SELECT count(*), sum(hash(epoch, first_sequence, md5(frame)) % 1000003) FROM raw WHERE gateway = 'gw-files' AND kind = 0",
    );
    seen['lake, readings'] = await this.sql(
      'SELECT count(*), sum(hash(epoch, sequence, "index", time_ns, series, fields, texts) % 1000003) FROM readings WHERE gateway = \'gw-files\'',
    );
    seen['lake, results'] = await this.sql(
      'SELECT count(*), sum(hash(gateway, epoch, sequence, "index", time_ns, series, fields) % 1000003) FROM results',
    );
    const { missing, gateways } = await get<Ledger>('ledger?gateway=gw-files');
    const epochs = gateways.flatMap(({ epochs: own }) => own);
    seen['ledger'] = JSON.stringify([
      missing,
      epochs.map(({ epoch, received }) => [epoch, received]),
    ]);
    seen['quarantine'] = String((await get<{ count: number }>('quarantine')).count);
    const { tokens } = await get<{ tokens: Token[] }>('enroll/tokens');
    seen['tokens'] = JSON.stringify(
      tokens.map(({ gateway, usedMs, expiresMs }) => [gateway, usedMs, expiresMs]).sort(),
    );
    const fleet = await get<{ gateways: Fleet[] }>('gateways');
    seen['members'] = JSON.stringify(
      fleet.gateways.flatMap(({ gateway, enrolled }) =>
        enrolled === undefined ? [] : [[gateway, enrolled]],
      ),
    );
    for (const [name, sql] of Object.entries(ROWS)) all.set(name, await this.lines(sql));
    this.points = all;
    const { declared } = await get<{ declared: { target: string; settings: object }[] }>('config');
    seen['settings'] = JSON.stringify(declared.map(({ target, settings }) => [target, settings]));
    return seen;
  }

  /** What of store and lake is gone and what is new since the first look, so many of each measurement and zone. */
  changed(most = 5): string[] {
    return [...MEASUREMENTS, ...Object.keys(ROWS)].flatMap((name) => {
      const [before, now] = [this.firstPoints.get(name) ?? [], this.points.get(name) ?? []];
      const beyond = (a: string[], b: string[]): string[] => {
        const others = new Set(b);
        return a.filter((point) => !others.has(point)).slice(0, most);
      };
      const [gone, come] = [beyond(before, now), beyond(now, before)];
      return [
        ...gone.map((point) => `  gone: ${name} ${point}`),
        ...come.map((point) => `  new: ${name} ${point}`),
      ];
    });
  }

  /** Every stage does something: what comes by HTTP reaches log, store and lake, and somebody asks. */
  async touch(): Promise<void> {
    const child = this.collector as Headwater;
    for (let at = 0; at < 3; at++) {
      await ingest(child, 'hall/9/fresh', { n: ++this.fresh }).catch(() => undefined);
      await fetchOnce(`http://${this.http}/api/v1/lake`).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
  }

  /** New readings come through to the store. */
  async goesOn(): Promise<void> {
    const n = ++this.fresh;
    await ingest(this.collector as Headwater, `hall/9/fresh`, { n });
    await until(
      'a new reading',
      async () =>
        (await pointsOf(this.http, 'fresh')).some((point) => point.endsWith(` ${n}`)) || undefined,
    );
  }

  /** As it was killed. */
  restore(): void {
    rmSync(this.folder, { recursive: true, force: true });
    cpSync(this.kept, this.folder, { recursive: true });
  }

  async close(): Promise<void> {
    await this.stop('SIGKILL');
    await this.gateway?.kill('SIGKILL');
  }
}

interface Ledger {
  missing: boolean;
  gateways: { epochs: { epoch: string; received: unknown }[] }[];
}

interface Token {
  gateway: string;
  usedMs?: number;
  expiresMs: number;
}

interface Fleet {
  gateway: string;
  enrolled?: unknown;
}

const digest = (text: string): string =>
  createHash('sha256').update(text).digest('hex').slice(0, 16);

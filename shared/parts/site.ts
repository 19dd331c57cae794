/**
 * A process is a list of parts, and a site is such a list at work. Parts open in the order of the list, each on what those
 * before it have made; then they start, which is when the outside may come in; they close in reverse. What a part counts
 * (its metrics), says of itself (its health) and answers (its routes) stands beside its code, and nowhere else.
 */
import { assert } from '../errors.ts';
import type { Endpoint, Route } from '../http/route.ts';
import { exposition, type MetricTable } from '../telemetry/metrics.ts';
import type { Health } from '../telemetry/health.ts';

export interface Part<Context, Running> {
  readonly name: string;
  /** Runs where one of them does; left out: everywhere. */
  readonly roles?: readonly string[];
  /** What it is of another machine, for whoever waits for it: `the log at kafka://…`. */
  where?(context: Context): string;
  /** What to tell who asks for its routes where it does not run. */
  readonly absent?: string;
  /** Does the I/O. Undefined: nothing of it was asked for here. Rejects with one clear sentence. */
  open(site: Site<Context>): Promise<Running | undefined> | Running | undefined;
  /** Lets the outside in, or goes out; everything is open by then. */
  start?(running: Running, site: Site<Context>): Promise<void>;
  readonly metrics?: MetricTable<Running>;
  readonly routes?: readonly Route<Running>[];
  health?(running: Running, site: Site<Context>): Health[];
  /** Idempotent. */
  close?(running: Running): Promise<void> | void;
}

const absentText = ({ name, absent, roles }: Part<never, unknown>): string =>
  absent ??
  `this process does not run '${name}'${roles === undefined ? '' : ` (it is of role ${roles.join(' or ')})`}`;

export class Site<Context> {
  readonly context: Context;
  private readonly parts: readonly Part<Context, unknown>[];
  private readonly roles: ReadonlySet<string>;
  private readonly standIns: ReadonlyMap<unknown, unknown>;
  private readonly running = new Map<Part<Context, unknown>, unknown>();
  private closing: Promise<void> | undefined;
  private part: Part<Context, unknown> | undefined;

  constructor(
    context: Context,
    parts: readonly Part<Context, unknown>[],
    roles: ReadonlySet<string> = new Set(),
    /** Part → what runs instead of what it would open: for tests. */
    standIns: ReadonlyMap<unknown, unknown> = new Map(),
  ) {
    this.standIns = standIns;
    this.context = context;
    this.parts = parts;
    this.roles = roles;
  }

  /** Opens and starts everything. What one of them rejects with closes all. Rejects when it is closed meanwhile. */
  async start(): Promise<void> {
    try {
      for (const part of this.parts) {
        if (part.roles?.some((role) => this.roles.has(role)) === false) continue;
        this.part = part;
        const running = this.standIns.get(part) ?? (await part.open(this));
        if (running !== undefined) this.running.set(part, running);
        if (this.closing !== undefined) {
          if (running !== undefined) await part.close?.(running);
          throw new Error('it was stopped while it started');
        }
      }
      for (const [part, running] of this.running) {
        this.part = part;
        await part.start?.(running, this);
      }
      this.part = undefined;
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  hasRole(role: string): boolean {
    return this.roles.has(role);
  }

  /** Undefined where it does not run, or before it does. */
  find<Running>(part: Part<Context, Running>): Running | undefined {
    return this.running.get(part) as Running | undefined; // What was put under a part is what it opened.
  }

  /** Of a part that runs wherever the asking one does, and stands before it in the list. */
  get<Running>(part: Part<Context, Running>): Running {
    const running = this.find(part);
    assert(running !== undefined, `'${part.name}' is asked for and does not run`);
    return running;
  }

  endpoints(): Endpoint[] {
    return endpointsOf(this.parts, this.running);
  }

  health(): Health[] {
    return [...this.running].flatMap(([part, running]) => part.health?.(running, this) ?? []);
  }

  metrics(): string {
    return [...this.running]
      .flatMap(([{ metrics = {} }, running]) =>
        Object.entries(metrics).map(([name, metric]) => exposition(name, metric, running)),
      )
      .join('');
  }

  /** In reverse: who uses a part is closed before it. Idempotent. */
  close(): Promise<void> {
    this.closing ??= this.shut();
    return this.closing;
  }

  /** The part that it waits for while it starts or closes, and why; undefined at other times. */
  get waitsFor(): string | undefined {
    const { part, context } = this;
    if (part === undefined) return undefined;
    const waits = this.health().flatMap(({ why }) => why ?? []);
    const because = waits.length === 0 ? '' : ` (${waits.join('; ')})`;
    return `${part.where?.(context) ?? `'${part.name}'`}${because}`;
  }

  private async shut(): Promise<void> {
    const failures: unknown[] = [];
    for (const [part, running] of [...this.running].toReversed())
      try {
        this.part = part;
        await part.close?.(running);
      } catch (error) {
        failures.push(error); // The others are closed all the same.
      }
    this.part = undefined;
    if (failures.length > 0) throw failures[0];
  }
}

/** The table of routes of a list of parts, for a server, and for those that describe it. */
export function endpointsOf(
  parts: readonly Part<never, unknown>[],
  running: ReadonlyMap<unknown, unknown> = new Map(),
): Endpoint[] {
  return parts.flatMap((part) =>
    (part.routes ?? []).map((route) => ({
      route,
      running: running.get(part),
      absent: absentText(part),
    })),
  );
}

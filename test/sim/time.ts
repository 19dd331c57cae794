/**
 * Virtual time for one process: timers fire in order of their due time, and between two of them every promise that can
 * go on does. What a simulated process has started dies with it.
 */
import { AsyncLocalStorage } from 'node:async_hooks';

export interface Owner {
  alive: boolean;
}

interface Entry {
  at: number;
  order: number;
  owner: Owner;
  every: number | undefined;
  run: () => void;
  cancelled: boolean;
}

const realImmediate = globalThis.setImmediate;
const owners = new AsyncLocalStorage<Owner>();
const world: Owner = { alive: true };

/** A binary heap by due time, then order of scheduling. */
class Heap {
  private readonly list: Entry[] = [];

  private static before(a: Entry, b: Entry): boolean {
    return a.at < b.at || (a.at === b.at && a.order < b.order);
  }

  push(entry: Entry): void {
    const { list } = this;
    list.push(entry);
    for (let at = list.length - 1; at > 0; ) {
      const parent = (at - 1) >> 1;
      if (!Heap.before(list[at] as Entry, list[parent] as Entry)) break;
      [list[at], list[parent]] = [list[parent] as Entry, list[at] as Entry];
      at = parent;
    }
  }

  pop(): Entry | undefined {
    const { list } = this;
    const top = list[0];
    const last = list.pop();
    if (top === undefined || last === undefined || list.length === 0) return top;
    list[0] = last;
    for (let at = 0; ; ) {
      let least = at;
      for (const child of [at * 2 + 1, at * 2 + 2])
        if (child < list.length && Heap.before(list[child] as Entry, list[least] as Entry))
          least = child;
      if (least === at) return top;
      [list[at], list[least]] = [list[least] as Entry, list[at] as Entry];
      at = least;
    }
  }
}

export class VirtualTime {
  /** Milliseconds since the beginning of the run. */
  now = 0;
  events = 0;
  private heap = new Heap();
  private order = 0;

  private add(run: () => void, ms: number, every: number | undefined): object {
    const entry: Entry = {
      at: this.now + Math.max(0, ms),
      order: this.order++,
      owner: owners.getStore() ?? world,
      every,
      run,
      cancelled: false,
    };
    this.heap.push(entry);
    return Object.assign(entry, { unref: () => entry, ref: () => entry, hasRef: () => true });
  }

  /** Puts this clock in the place of the process's timers and clocks; `startMs` is the wall time at 0. */
  install(startMs: number): void {
    Object.defineProperty(performance, 'timeOrigin', { value: startMs });
    Object.assign(performance, { now: () => this.now });
    Object.assign(Date, { now: () => Math.floor(startMs + this.now) });
    Object.assign(process.hrtime, { bigint: () => BigInt(Math.round(this.now * 1e6)) });
    const clear = (entry: unknown): void => {
      if (entry !== undefined && entry !== null) (entry as Entry).cancelled = true;
    };
    Object.assign(globalThis, {
      setTimeout: (run: () => void, ms = 0) => this.add(run, ms, undefined),
      setInterval: (run: () => void, ms = 0) => this.add(run, ms, Math.max(1, ms)),
      setImmediate: (run: () => void) => this.add(run, 0, undefined),
      clearTimeout: clear,
      clearInterval: clear,
      clearImmediate: clear,
    });
  }

  /** Starts something as a process of its own. */
  as<T>(owner: Owner, work: () => T): T {
    return owners.run(owner, work);
  }

  /** Runs to a moment, or until `done`. */
  async run(until: number, done: () => boolean = () => false): Promise<void> {
    while (!done()) {
      const next = this.heap.pop();
      if (next === undefined || next.at > until) {
        if (next !== undefined) this.heap.push(next);
        this.now = until;
        return;
      }
      if (next.cancelled || !next.owner.alive) continue;
      this.now = next.at;
      this.events++;
      if (next.every !== undefined)
        this.heap.push(Object.assign(next, { at: this.now + next.every, order: this.order++ }));
      owners.run(next.owner, next.run);
      // Every promise that can go on does so before the next event.
      await new Promise<void>((resolve) => realImmediate(resolve));
    }
  }

  /** Forgets everything that is scheduled. */
  reset(): void {
    this.heap = new Heap();
    this.now = 0;
    this.order = 0;
    this.events = 0;
  }
}

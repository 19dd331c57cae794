/**
 * Who is connected, as entries of the ledger topic (`link/GATEWAY`), so that every process can tell a silent sensor from
 * a gateway that is out of reach, and each of several collectors answers for all gateways. What cannot be written now is
 * tried again as it is by then. On a log that several share it is said again while it lasts, since a collector
 * that is killed says nothing more of its gateways: a connection that was not said for `LINK_FRESH_MS` counts as none.
 */
import type { Timer, Timers } from '../../shared/env/timers.ts';
import { messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { LINK_FRESH_MS, LINK_PREFIX, isShared, type Link } from '../ledger/view.ts';
import { TOPIC_LEDGER, type Log } from '../log/log.ts';
import { Noting } from '../log/noting.ts';

const SAY_AGAIN_MS = LINK_FRESH_MS / 3;

export class Links {
  private readonly log: Log;
  private readonly timers: Timers;
  private readonly nowMs: () => number;
  /** Gateway → what is said of it. */
  private readonly connected = new Map<string, Pick<Link, 'epoch' | 'from'>>();
  private readonly noting: Noting;
  private again: Timer | undefined;

  constructor(log: Log, timers: Timers, notify: Notify, nowMs: () => number) {
    this.log = log;
    this.timers = timers;
    this.nowMs = nowMs;
    this.noting = new Noting(timers, (error) => {
      const text = `which gateways are connected cannot be noted: ${messageOf(error)}`;
      notify({ level: 'warn', event: 'link', text });
    });
  }

  /** What a process that was killed could not say: where the log is this process's own, nobody is connected yet. */
  async start(): Promise<void> {
    if (isShared(this.log)) {
      this.again = this.timers.every(SAY_AGAIN_MS, () => {
        for (const gateway of this.connected.keys()) this.note(gateway);
      });
      return;
    }
    const links = await this.log.state(TOPIC_LEDGER, 0, LINK_PREFIX);
    const stale = links.filter(
      ({ value }) => value.length > 0 && (JSON.parse(value.toString('utf8')) as Link).connected,
    );
    await Promise.all(stale.map(({ key }) => this.write(key.slice(LINK_PREFIX.length))));
  }

  /** A status says in which epoch it runs. */
  spoke(gateway: string, epoch: string, from: string): void {
    const known = this.connected.get(gateway);
    if (known === undefined || (known.epoch === epoch && known.from === from)) return;
    this.connected.set(gateway, { epoch, from });
    this.note(gateway);
  }

  say(gateway: string, connected: boolean): void {
    if (!connected) this.connected.delete(gateway);
    else if (!this.connected.has(gateway)) this.connected.set(gateway, {});
    this.note(gateway);
  }

  private note(gateway: string): void {
    void this.write(gateway);
  }

  private async write(gateway: string): Promise<void> {
    await this.noting.note(gateway, async () => {
      const known = this.connected.get(gateway);
      const link: Link = {
        connected: known !== undefined,
        at: Math.round(this.nowMs()),
        ...known,
      };
      const value = Buffer.from(JSON.stringify(link));
      const record = { key: `${LINK_PREFIX}${gateway}`, headers: {}, value };
      await this.log.append(TOPIC_LEDGER, [record]);
    });
  }

  /** When what was said is written, or could not be. */
  async close(): Promise<void> {
    this.again?.cancel();
    await this.noting.close();
  }
}

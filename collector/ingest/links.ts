/**
 * Who is connected, as entries of the ledger topic (`link/GATEWAY`), so that every process can tell a silent sensor from
 * a gateway that is out of reach, and each of several collectors answers for all gateways. What cannot be written now is
 * tried again as it is by then. On a log that several share it is said again while it lasts, since a collector
 * that is killed says nothing more of its gateways: a connection that was not said for `LINK_FRESH_MS` counts as none.
 */
import { messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { LINK_FRESH_MS, LINK_PREFIX, isShared, type Link } from '../ledger/view.ts';
import { TOPIC_LEDGER, type Log } from '../log/log.ts';

const SAY_AGAIN_MS = LINK_FRESH_MS / 3;
const RETRY_MS = 2000;

export class Links {
  private readonly log: Log;
  private readonly notify: Notify;
  private readonly nowMs: () => number;
  /** Gateway → what is said of it. */
  private readonly connected = new Map<string, Pick<Link, 'epoch' | 'from'>>();
  private again: NodeJS.Timeout | undefined;
  /** Gateways of which it could not be written how they are. */
  private readonly unwritten = new Set<string>();
  private retry: NodeJS.Timeout | undefined;
  private turn: Promise<void> = Promise.resolve();

  constructor(log: Log, notify: Notify, nowMs: () => number) {
    this.log = log;
    this.notify = notify;
    this.nowMs = nowMs;
  }

  /** What a process that was killed could not say: where the log is this process's own, nobody is connected yet. */
  async start(): Promise<void> {
    if (isShared(this.log)) {
      this.again = setInterval(() => {
        for (const gateway of this.connected.keys()) this.say(gateway, true);
      }, SAY_AGAIN_MS);
      this.again.unref();
      return;
    }
    for (const { key, value } of await this.log.state(TOPIC_LEDGER, 0, LINK_PREFIX)) {
      if (value.length > 0 && (JSON.parse(value.toString('utf8')) as Link).connected)
        this.say(key.slice(LINK_PREFIX.length), false);
    }
    await this.turn;
  }

  /** A status says in which epoch it runs. */
  spoke(gateway: string, epoch: string, from: string): void {
    const known = this.connected.get(gateway);
    if (known === undefined || (known.epoch === epoch && known.from === from)) return;
    this.connected.set(gateway, { epoch, from });
    this.say(gateway, true);
  }

  say(gateway: string, connected: boolean): void {
    const known = connected ? (this.connected.get(gateway) ?? {}) : undefined;
    if (known === undefined) this.connected.delete(gateway);
    else this.connected.set(gateway, known);
    const link: Link = { connected, at: Math.round(this.nowMs()), ...known };
    const record = {
      key: `${LINK_PREFIX}${gateway}`,
      headers: {},
      value: Buffer.from(JSON.stringify(link)),
    };
    this.turn = this.turn
      .then(() => this.log.append(TOPIC_LEDGER, [record]))
      .then(
        () => void this.unwritten.delete(gateway),
        (error: unknown) => this.failed(gateway, error),
      );
  }

  /** One line speaks for all that cannot be written meanwhile. */
  private failed(gateway: string, error: unknown): void {
    const isFirst = this.unwritten.size === 0;
    this.unwritten.add(gateway);
    if (isFirst)
      this.notify({
        level: 'warn',
        event: 'link',
        text: `which gateways are connected cannot be noted: ${messageOf(error)}`,
      });
    this.retry ??= setTimeout(() => {
      this.retry = undefined;
      for (const each of this.unwritten) this.say(each, this.connected.has(each));
    }, RETRY_MS).unref();
  }

  /** When what was said is written. */
  async close(): Promise<void> {
    clearInterval(this.again);
    await this.turn;
    clearTimeout(this.retry);
  }
}

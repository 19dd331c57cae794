/**
 * Who is connected, as entries of the ledger topic (`link/GATEWAY`), so that every process can tell a silent sensor from
 * a gateway that is out of reach. Best effort: what cannot be written now is said with the next change.
 */
import { messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { LINK_PREFIX, type Link } from '../ledger/view.ts';
import { TOPIC_LEDGER, type Log } from '../log/log.ts';

export class Links {
  private readonly log: Log;
  private readonly notify: Notify;
  private readonly nowMs: () => number;
  private turn: Promise<void> = Promise.resolve();

  constructor(log: Log, notify: Notify, nowMs: () => number) {
    this.log = log;
    this.notify = notify;
    this.nowMs = nowMs;
  }

  /** What a process that was killed could not say: where the log is this process's own, nobody is connected yet. */
  async start(): Promise<void> {
    if (this.log.partitions > 1) return;
    for (const { key, value } of await this.log.state(TOPIC_LEDGER, 0, LINK_PREFIX)) {
      if (value.length > 0 && (JSON.parse(value.toString('utf8')) as Link).connected)
        this.say(key.slice(LINK_PREFIX.length), false);
    }
    await this.turn;
  }

  say(gateway: string, connected: boolean): void {
    const link: Link = { connected, at: Math.round(this.nowMs()) };
    const record = {
      key: `${LINK_PREFIX}${gateway}`,
      headers: {},
      value: Buffer.from(JSON.stringify(link)),
    };
    this.turn = this.turn
      .then(() => this.log.append(TOPIC_LEDGER, [record]))
      .catch((error: unknown) =>
        this.notify({
          level: 'warn',
          event: 'link',
          text: `that gateway ${gateway} is ${connected ? '' : 'not '}connected could not be noted: ${messageOf(error)}`,
        }),
      );
  }

  /** When what was said is written. */
  async close(): Promise<void> {
    await this.turn;
  }
}

/** Gateways that wait for a person's yes. What is said yes to is a key, not a name: two machines may ask with one token. */
import { HeadwaterError } from '../../shared/errors.ts';
import { Share, addressGroup } from '../../shared/access/shares.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { refuse } from './refuse.ts';
import type { Asked, Registry, TokenRecord } from './registry.ts';

/** Machines that may wait with one token; those of one address half of what others leave of it, so that nobody shuts the right one out. */
const ASKED_MAX = 8;
/** So much of a key is shown and typed. */
const SHOWN = 12;

const shownKey = (key: string): string => key.slice(0, SHOWN);

const about = ({ key, atMs, address }: Asked): string =>
  `key ${shownKey(key)} from ${address} since ${new Date(atMs).toISOString().slice(0, 16)}Z`;

export class Approvals {
  private readonly registry: Registry;
  private readonly notify: Notify;

  constructor(registry: Registry, notify: Notify) {
    this.registry = registry;
    this.notify = notify;
  }

  /** Notes who asks, and says what is waited for. Throws ENROLL_REFUSED. */
  async ask(token: TokenRecord, machine: Asked): Promise<string> {
    const { gateway, approval } = token;
    if (approval?.key !== undefined)
      refuse(
        `another machine was let in as '${gateway}': make a token of its own with 'headwater enroll'`,
      );
    const asked = approval?.asked ?? [];
    const known = shownKey(machine.key);
    if (!asked.some(({ key }) => key === machine.key)) {
      const share = new Share('waiting_machines', ASKED_MAX);
      for (const { address } of asked) share.add(addressGroup(address), 1);
      const from = addressGroup(machine.address);
      if (share.room(from) <= 0)
        refuse(
          `${share.of(from)} machines of this address wait to be let in as '${gateway}' already, of ${asked.length}: let one in, or take the token back with 'headwater enroll --revoke ${gateway}'`,
        );
      await this.registry.addTokens([{ ...token, approval: { asked: [...asked, machine] } }]);
      this.notify({
        level: 'warn',
        event: 'gateway_waits',
        text: `a machine waits to be let in as gateway '${gateway}' (${about(machine)}): 'headwater enroll --approve ${gateway}' lets it in, 'headwater enroll --revoke ${gateway}' does not`,
      });
    }
    return `'${gateway}' waits to be let in at the collector, with 'headwater enroll --approve ${gateway}'; its key is ${known}`;
  }

  /** Throws NOT_FOUND, QUERY_INVALID. */
  async letIn(gateway: string, begin: string): Promise<Asked> {
    const waiting = this.waiting()
      .filter((each) => each.token.gateway === gateway)
      .filter(({ machine }) => machine.key.startsWith(begin.toLowerCase()));
    const [first, ...others] = waiting;
    if (first === undefined)
      throw new HeadwaterError(
        'NOT_FOUND',
        `nobody waits to be let in as '${gateway}'${begin === '' ? '' : ` with a key that begins with ${begin}`}`,
      );
    if (others.length > 0)
      throw new HeadwaterError(
        'QUERY_INVALID',
        `${waiting.length} machines wait to be let in as '${gateway}': ${waiting.map(({ machine }) => about(machine)).join('; ')}. Say which with --key; each says its own key in its log`,
      );
    const { token, machine } = first;
    const asked = token.approval?.asked ?? [];
    await this.registry.addTokens([{ ...token, approval: { asked, key: machine.key } }]);
    return machine;
  }

  waiting(): { token: TokenRecord; machine: Asked }[] {
    return [...this.registry.tokens.values()]
      .filter(({ usedMs, approval }) => usedMs === undefined && approval?.key === undefined)
      .flatMap((token) => (token.approval?.asked ?? []).map((machine) => ({ token, machine })));
  }
}

/** Who may subscribe to what, and to how much. */
import type { Guard } from './guard.ts';
import { sharedFilter } from '../mqtt5/topics.ts';
import type { Subscriptions } from './subscriptions.ts';

export class Grants {
  denied = 0;
  private readonly guard: Guard;
  private readonly subscriptions: Subscriptions;
  /** Topic filters of one client, long ones counted as several: all of them are written down with each change of one. */
  private readonly perClientMax: number;

  constructor(guard: Guard, subscriptions: Subscriptions, perClientMax: number) {
    this.guard = guard;
    this.subscriptions = subscriptions;
    this.perClientMax = perClientMax;
  }

  /** Asks the rules and the limits, and counts it; says why not. `isThere`: its session has it from before a restart. */
  maySubscribe(
    clientId: string,
    filter: string,
    isThere = false,
  ): 'yes' | 'not granted' | 'too many' {
    const { subscriptions, guard, perClientMax } = this;
    const user = guard.identities.ownerOf(clientId);
    const principal = guard.identities.principalOf(clientId) ?? '';
    const heard = sharedFilter(filter) ?? filter;
    // The broker's own topics name every client: they are nobody's to read.
    const isGranted =
      !heard.startsWith('$SYS') &&
      (guard.rules?.maySubscribe({ user, client: clientId }, filter) ?? true);
    // Counted now: many more may be asked for before the broker says that this one is there.
    if (
      isGranted &&
      (isThere || subscriptions.wouldHave(clientId, filter) <= perClientMax) &&
      subscriptions.add(clientId, principal, filter, isThere)
    )
      return 'yes';
    this.denied++;
    const reason = isGranted ? 'too many subscriptions' : 'not granted';
    guard.audit.say({ event: 'subscribe_denied', user, client: clientId, about: filter, reason });
    return isGranted ? 'too many' : 'not granted';
  }

  /** Shared subscriptions are those of MQTT 5 [MQTT-4.8.2-1]: 3.1.1 does not know them, and a filter of that name would hear nothing. */
  maySubscribe311(client: { id: string } | null, filter: string): boolean {
    return (
      client !== null &&
      !filter.startsWith('$share/') &&
      this.maySubscribe(client.id, filter) === 'yes'
    );
  }
}

/**
 * What is retained for a session's new subscriptions, until all of it was given: which filters that is of is kept with the
 * session, so that a kill in the middle of it takes nothing from a client whose subscription stays. It begins anew then,
 * since what is retained is a state: one that the client has already comes again.
 */
import { RetainedOffers, type Place } from './offers.ts';
import type { Message } from './message.ts';
import type { Session } from './session.ts';

export interface RetainedSource {
  retainedTopics(filter: string): (after: number) => Place[];
  retainedOn(topic: string): Message | undefined;
}

interface Keeper {
  offer(session: Session, message: Message, qosMax: number, id: number | undefined): void;
  keep(session: Session): void;
}

/** Before the subscriptions are kept: for those of which something is retained. */
export function owe(session: Session, filters: readonly string[], from: RetainedSource): void {
  for (const filter of filters)
    if (from.retainedTopics(filter)(0).length > 0) session.owedRetained.add(filter);
}

export function giveOwed(
  session: Session,
  filters: Iterable<string>,
  from: RetainedSource,
  keeper: Keeper,
): void {
  for (const filter of filters) {
    const subscription = session.subscriptions.get(filter);
    if (subscription === undefined) {
      session.owedRetained.delete(filter);
      continue;
    }
    const { qos, id } = subscription;
    const isWanted = (): boolean => session.subscriptions.get(filter) === subscription;
    const offers = new RetainedOffers({
      more: from.retainedTopics(filter),
      retained: (topic) => from.retainedOn(topic),
      isWanted,
      qosMax: qos,
      give: (message) => keeper.offer(session, message, qos, id),
      end: () => {
        const isLast = isWanted() && session.owedRetained.delete(filter);
        if (isLast && session.expirySeconds > 0) keeper.keep(session);
      },
    });
    session.offer(offers);
  }
}

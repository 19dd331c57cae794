/**
 * What is retained for a new subscription, one by one as the client takes it: given at once, QoS 0 beyond what it may leave
 * unread would be dropped, and the rest be more than may be queued.
 */
import type { Message } from './message.ts';

/** What a session asks for when it could send more. */
export interface Offers {
  /** QoS at which the next one would go; undefined: there is none. */
  readonly qos: number | undefined;
  /** Sends it. */
  give(): void;
  /** There is none any more: it is not asked again. */
  end(): void;
}

/** A topic among all that have a retained message. */
export interface Place {
  topic: string;
  /** Grows from topic to topic. */
  order: number;
}

export interface RetainedOffersParts {
  /** The next few topics that match, after one; none: there are no more. */
  more: (after: number) => readonly Place[];
  /** What is retained now. */
  retained: (topic: string) => Message | undefined;
  /** The subscription is there, as it was. */
  isWanted: () => boolean;
  qosMax: number;
  give: (message: Message) => void;
  end: () => void;
}

export class RetainedOffers implements Offers {
  private readonly parts: RetainedOffersParts;
  /** Few at a time: who takes nothing is not to hold a list of all. */
  private places: readonly Place[] = [];
  private at = 0;
  private after = 0;

  constructor(parts: RetainedOffersParts) {
    this.parts = parts;
  }

  private next(): Message | undefined {
    const { more, retained, isWanted } = this.parts;
    if (!isWanted()) return undefined;
    for (;;) {
      for (; this.at < this.places.length; this.at++) {
        const message = retained(this.places[this.at]?.topic ?? '');
        if (message !== undefined) return message;
      }
      this.after = this.places.at(-1)?.order ?? this.after;
      this.places = more(this.after);
      this.at = 0;
      if (this.places.length === 0) return undefined;
    }
  }

  get qos(): number | undefined {
    const message = this.next();
    return message === undefined ? undefined : Math.min(message.qos, this.parts.qosMax);
  }

  end(): void {
    this.parts.end();
  }

  give(): void {
    const message = this.next();
    this.at++;
    if (message !== undefined) this.parts.give(message);
  }
}

/** What the ingress says in its own terms, in those of MQTT 5, and the other way about. */
import type { Connect } from '../mqtt5/packets.ts';
import { property } from '../mqtt5/properties.ts';
import { REASON, Refusal } from '../mqtt5/reasons.ts';
import type { PendingWill } from '../mqtt5/session-disk.ts';
import { IDENTIFIER_REJECTED, NOT_AUTHORIZED, type Refused } from './guard.ts';

/** Bytes of a message's properties as a frame's record keeps them. */
export function recordProperties(
  forwarded: Buffer | undefined,
  messageExpiry: number | undefined,
): Buffer | undefined {
  if (messageExpiry === undefined) return forwarded;
  const expiry = Buffer.from(property('messageExpiry', messageExpiry));
  return forwarded === undefined ? expiry : Buffer.concat([forwarded, expiry]);
}

/** A refusal that will pass is said by closing: clients that are told a reason do not come again. */
export function refusalOf({ refused, returnCode, elsewhere }: Refused): Refusal {
  if (elsewhere !== undefined)
    return new Refusal(
      elsewhere.isForGood ? REASON.serverMoved : REASON.useAnotherServer,
      refused,
      elsewhere.server,
    );
  if (returnCode === IDENTIFIER_REJECTED) return new Refusal(REASON.clientIdNotValid, refused);
  if (returnCode === NOT_AUTHORIZED) return new Refusal(REASON.notAuthorized, refused);
  return new Refusal(REASON.serverBusy, refused);
}

export function willOf({ will }: Connect): PendingWill | undefined {
  if (will === undefined) return undefined;
  const { topic, payload, qos, retain, properties } = will;
  return {
    topic,
    payload,
    qos,
    retain,
    forwarded: properties.forwarded,
    messageExpiry: properties.numbers.messageExpiry,
    delaySeconds: properties.numbers.willDelay ?? 0,
    dueMs: undefined,
  };
}

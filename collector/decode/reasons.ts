/**
 * What a reason of the quarantine says of its kind: without what the payload says in it, which would make a kind of each
 * message. Quoted words and numbers are left out; a limit as `2^53` is of the kind.
 */
const PARTICULARS = /(?<!\w)'[^']*'|0x[\da-f]+|(?<![\^\d])\d+(?![\d^])/gi;
/** What a library quotes may have quotes in it. */
const QUOTED = /".*"/s;

export const kindOfReason = (reason: string, charsMax: number): string =>
  reason.replace(QUOTED, '…').replaceAll(PARTICULARS, '…').slice(0, charsMax);

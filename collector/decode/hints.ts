/** What a sender says of its payload beside it: the content type, and user properties (MQTT 5, HTTP). */
import type { EpochUnit } from '../../shared/codecs/time.ts';
import type { FrameRecord } from '../../shared/frame/frame.ts';
import { IDEMPOTENCY_PROPERTY } from '../../shared/http/ingest.ts';
import { readProperties } from '../../shared/mqtt/properties.ts';
import { codecOfContentType, type CodecName } from './codecs/table.ts';
import { isCharset } from './codecs/text.ts';

/** What a message is read with, besides its bytes. */
export interface Hints {
  codec: CodecName | undefined;
  charset: string | undefined;
  precision: EpochUnit | undefined;
  /** Given by an HTTP client. */
  key: string | undefined;
  user: readonly (readonly [string, string])[];
}

const NO_HINTS: Hints = {
  codec: undefined,
  charset: undefined,
  precision: undefined,
  key: undefined,
  user: [],
};
const PRECISIONS: readonly string[] = ['s', 'ms', 'us', 'ns'];

function charsetOf(contentType: string): string | undefined {
  const name = /;\s*charset="?([\w.:-]+)/i.exec(contentType)?.[1]?.toLowerCase();
  return name === undefined || name === 'utf-8' || !isCharset(name) ? undefined : name;
}

/**
 * `curl --data` calls everything a form, unless it is told otherwise. A form has `=`, and its spaces and braces are encoded;
 * what has none of it is looked at as if nothing had been said.
 */
const isForm = (payload: Buffer): boolean =>
  /^[^\s{["<=]+=\S*\s*$/.test(payload.toString('latin1'));

function codecSaid(contentType: string, payload: Buffer): CodecName | undefined {
  const codec = codecOfContentType(contentType);
  return codec === 'query-string' && !isForm(payload) ? undefined : codec;
}

export function hintsOf({ properties, payload }: FrameRecord): Hints {
  if (properties === undefined) return NO_HINTS;
  const { contentType, user } = readProperties(properties);
  const precision = user.find(([name]) => name === 'precision')?.[1];
  return {
    key: user.find(([name]) => name === IDEMPOTENCY_PROPERTY)?.[1],
    codec: contentType === undefined ? undefined : codecSaid(contentType, payload),
    charset: contentType === undefined ? undefined : charsetOf(contentType),
    precision:
      precision !== undefined && PRECISIONS.includes(precision)
        ? (precision as EpochUnit)
        : undefined,
    user,
  };
}

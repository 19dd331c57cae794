/**
 * What InfluxDB's clients are told of a body of which some lines are bad: 400 with those lines, after the good ones are
 * durable. The bad ones are durable too, as all that comes is, and go to quarantine one by one when they are decoded.
 * Source: influxdata/influxdb 1.8, services/httpd/handler.go (serveWrite), tsdb.PartialWriteError; InfluxDB 2 API, /api/v2/write.
 */
import { isUtf8 } from 'node:buffer';
import { POINTS_MAX, Undecodable } from '../codecs/codec.ts';
import { decodeLines } from '../codecs/line-protocol.ts';
import { HeadwaterError } from '../errors.ts';
import type { Reply } from './route.ts';

/** Lines that are named. */
const NAMED_MAX = 20;
const LINE_CHARS_MAX = 200;

/** Version 1.8 or 2 of the answer. */
export type WriteApi = 1 | 2;

/** Undefined: all lines are good. Throws BODY_TOO_LARGE for more lines than one message may have. */
export function partialWrite(payload: Buffer, api: WriteApi): Reply | undefined {
  if (!isUtf8(payload)) return refused('the body is not UTF-8', 0, api);
  let found: ReturnType<typeof decodeLines>;
  try {
    // Whether a time is plausible is no question of its form.
    found = decodeLines(payload.toString('utf8'), 0);
  } catch (error) {
    if (!(error instanceof Undecodable)) throw error;
    throw new HeadwaterError(
      'BODY_TOO_LARGE',
      `more than ${POINTS_MAX} lines in one request: send them in several`,
      { cause: error },
    );
  }
  const { points, problems } = found;
  if (problems.length === 0) return undefined;
  const named = problems
    .slice(0, NAMED_MAX)
    .map(
      ({ reason, part }) =>
        `unable to parse '${(part?.payload.toString('utf8') ?? '').slice(0, LINE_CHARS_MAX)}': ${reason.replace('line protocol: ', '')}`,
    );
  if (problems.length > NAMED_MAX) named.push(`and ${problems.length - NAMED_MAX} more`);
  return refused(named.join('\n'), points.length, api);
}

function refused(why: string, written: number, api: WriteApi): Reply {
  const text = written > 0 ? `partial write: ${why} dropped=0` : why;
  const body = api === 1 ? { error: text } : { code: 'invalid', message: text };
  // A header has one line, and Latin-1.
  const header = text.replaceAll(/[^\x20-\x7e]+/g, ' ').slice(0, 1000);
  return {
    status: 400,
    type: 'application/json',
    body: `${JSON.stringify(body)}\n`,
    headers: { 'x-influxdb-error': header },
  };
}

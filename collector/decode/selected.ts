/** Which messages a replay means. */
import type { FrameHeader, FrameRecord } from '../../shared/frame/frame.ts';
import type { Summary } from '../../shared/frame/notes.ts';
import type { Reading } from '../../shared/model/reading.ts';
import { RangeSet } from '../../shared/model/ranges.ts';
import { filterMatches } from '../../shared/mqtt/packets.ts';
import type { ReplayJob } from './replay-jobs.ts';

/** Told from the header alone, so that most frames need not be unpacked. */
export function mayHold({ selection, ranges }: ReplayJob, header: FrameHeader): boolean {
  const { gateway, epoch, firstSequence, count } = header;
  if (selection.gateway !== undefined && selection.gateway !== gateway) return false;
  if (selection.which === 'all') return true;
  const own = ranges[`${gateway}/${epoch}`];
  return (
    own !== undefined &&
    new RangeSet(own).touches(firstSequence, firstSequence + Math.max(1, count) - 1)
  );
}

export function isWanted(
  { which, topic, fromMs, toMs }: ReplayJob['selection'],
  message: FrameRecord,
  offsetUs: number,
): boolean {
  // Of those in quarantine, as of named ones, the job has every single one.
  if (which !== 'all') return true;
  if (topic !== undefined && !filterMatches(topic, message.topic)) return false;
  const receivedMs = (message.receivedUs + offsetUs) / 1000;
  return (
    (fromMs === undefined || receivedMs >= fromMs) && (toMs === undefined || receivedMs < toMs)
  );
}

/** Of what is left of thinned messages: each series by its own topic, and the time that its reading has. */
export function isPartWanted(
  { which, topic, fromMs = -Infinity, toMs = Infinity }: ReplayJob['selection'],
  { series, from = 0 }: Summary,
  { index, timeMs }: Reading,
): boolean {
  if (which !== 'all') return true;
  if (topic !== undefined && !filterMatches(topic, series[index - from]?.topic ?? '')) return false;
  return timeMs >= fromMs && timeMs < toMs;
}

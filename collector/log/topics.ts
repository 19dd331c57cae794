/**
 * The topics between the stages: one table of what is kept, by which key, for how long. No log adapter knows one of them
 * by name: it is given this table. A topic's records stay in the partition of its key, and state in that of its data.
 */
import type { TopicSpec } from '../../contracts/log.ts';
import { splitCommand, splitFrame, splitQuarantined, splitReadings } from './fit.ts';

/** Frames as they came; key: the gateway. Nothing is thrown away: raw is the truth. */
export const TOPIC_RAW = 'raw';
/** What they decode to; key: the gateway. */
export const TOPIC_READINGS = 'readings';
/** What could not be decoded or stored; key: the gateway. It waits for a person. */
export const TOPIC_QUARANTINE = 'quarantine';
/** What arrived, is lost, is held: by gateway and epoch; beside it mappings, replays, metadata. */
export const TOPIC_LEDGER = 'ledger';
/** What streams and batches made of readings, in the same form as readings. */
export const TOPIC_RESULTS = 'results';
/** Readings again, keyed by what a stream rule groups by: where one gateway's partition is not enough. */
export const TOPIC_STREAM = 'stream';
/** State of stages: theirs alone, each keeps its own keys. */
export const TOPIC_STATE = 'state';
/** Messages for devices, to be published by their gateway; whoever is not connected does not get them. */
export const TOPIC_COMMANDS = 'commands';

/** What is on its way from one stage to the next, and nobody's only copy. */
const STREAM_RETENTION_MS = 30 * 86_400_000;
/** Old commands are of no use: a device that was not there then gets none of them. */
const COMMANDS_BYTES_MAX = 1024 * 1024;

/** `readingsBytesMax`: how much of readings and results a log that can trim keeps after everybody has read it. */
export function topics(readingsBytesMax: number): readonly TopicSpec[] {
  return [
    { name: TOPIC_RAW, compacted: false, split: splitFrame },
    {
      name: TOPIC_READINGS,
      compacted: false,
      trimBytes: readingsBytesMax,
      split: splitReadings,
    },
    { name: TOPIC_QUARANTINE, compacted: false, split: splitQuarantined },
    { name: TOPIC_LEDGER, compacted: true },
    {
      name: TOPIC_COMMANDS,
      compacted: false,
      trimBytes: COMMANDS_BYTES_MAX,
      live: true,
      split: splitCommand,
    },
    {
      name: TOPIC_RESULTS,
      compacted: false,
      trimBytes: readingsBytesMax,
      split: splitReadings,
    },
    {
      name: TOPIC_STREAM,
      compacted: false,
      retentionMs: STREAM_RETENTION_MS,
      split: splitReadings,
    },
    { name: TOPIC_STATE, compacted: true },
  ];
}

/** Header of readings and results that were said before, and are said again by a replay or a rebuild. */
export const HEADER_AGAIN = 'again';
/**
 * Header of readings that were found out after their frame had arrived, epoch ms: its clock became known or better known, or a
 * replay decoded it with other mappings. What was so before it is kept by the lake (`lake/past.ts`).
 */
export const HEADER_SAID = 'said';
/** Of results that the log says again for a lake that has lost them: when. What else reads them has read them before. */
export const HEADER_HEALED = 'healed';
/** Header of readings and results that nothing but the store had any more: alerts among them go to nobody. */
export const HEADER_STORED = 'from-store';
/** Header of raw frames that were put back into the log from the lake. */
export const HEADER_FROM_LAKE = 'from-lake';

/** Those that the lake keeps, each by a stage of its own: its zones have their names. */
export const LAKE_TOPICS = [TOPIC_RAW, TOPIC_READINGS, TOPIC_RESULTS] as const;

/** The consumer group that brings a topic into the lake. */
export const lakeGroup = (topic: (typeof LAKE_TOPICS)[number]): string => `headwater-lake-${topic}`;

/** Header of raw frames, and of readings that are said for the first time: when the frame reached the collector, epoch ms. */
export const HEADER_ARRIVED = 'arrived';
/** Header of raw frames that arrived while the collector's clock was not settled: it may yet be set. */
export const HEADER_UNSETTLED = 'unsettled';

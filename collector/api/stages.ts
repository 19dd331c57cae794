/** How each stage of this process is: works, or waits, for what, since when, why, and how much waits. */
import { READ_ALL, json } from '../../shared/http/route.ts';
import { INTEGER, TEXT, listOf, maybe, object, orNull } from '../../shared/http/schema.ts';
import { counter, gauge, histogram, type Sample } from '../../shared/telemetry/metrics.ts';
import { decodePart } from '../decode/part.ts';
import { lakeStagesPart } from '../lake/part.ts';
import type { CollectorPart, CollectorSite } from '../part.ts';
import type { Stage } from '../stage/options.ts';
import type { StageState } from '../stage/state.ts';
import { storeStagePart } from '../store/part.ts';
import { streamPart } from '../stream/part.ts';

interface Stages {
  stages(): Stage[];
  states(): StageState[];
  nowMs(): number;
  /** Records of the log that are here and have not come through yet; null where that is not known now. */
  waiting(): { notDecoded: number | null; notStored: number | null };
}

function stagesOf(site: CollectorSite): Stage[] {
  const streaming = site.find(streamPart);
  const holders = [
    site.find(decodePart)?.stage,
    site.find(storeStagePart),
    ...(site.find(lakeStagesPart) ?? []),
    streaming?.stream,
    streaming?.deliveries,
  ];
  return holders.flatMap((each) => [...(each?.running() ?? [])]);
}

export const statesOf = (site: CollectorSite): StageState[] =>
  stagesOf(site).map((stage) => stage.state());

/** A sample of each stage; of those of which it is known. */
const each =
  (read: (state: StageState, nowMs: number) => number | undefined) =>
  (stages: Stages): Sample[] =>
    stages.states().flatMap((state) => {
      const value = read(state, stages.nowMs());
      return value === undefined ? [] : [{ labels: { stage: state.name }, value }];
    });

/** One sentence, while it waits. */
function whyOf({ name, state, waitsFor, reason, waitingRecords }: StageState): string | undefined {
  if (state === 'works') return undefined;
  const count = waitingRecords === null ? '' : `; ${waitingRecords} records wait`;
  return `${name}: ${waitsFor ?? 'working'}: ${reason ?? ''}${count}`;
}

export const stagesPart: CollectorPart<Stages> = {
  name: 'stages',
  open: (site) => ({
    stages: () => stagesOf(site),
    states: () => statesOf(site),
    nowMs: site.context.nowMs,
    waiting: () => {
      const of = (name: string): number | null =>
        statesOf(site).find((state) => state.name === name)?.waitingRecords ?? null;
      return { notDecoded: of('decode'), notStored: of('store') };
    },
  }),
  health: (stages) =>
    stages.states().map((state) => ({ name: state.name, why: whyOf(state), isEssential: false })),
  metrics: {
    headwater_stage_stalled_seconds: gauge(
      'For how long the stage has been waiting for something that fails; 0 while it works.',
      each(({ sinceMs }, nowMs) =>
        sinceMs === undefined ? 0 : Math.max(0, nowMs - sinceMs) / 1000,
      ),
    ),
    headwater_stage_waiting_records: gauge(
      'Records of the log that wait for the stage; NaN while that is not known.',
      each(({ waitingRecords }) => waitingRecords ?? Number.NaN),
    ),
    headwater_stage_last_success_time_seconds: gauge(
      'When the stage last came forward or found nothing to do, seconds since 1970 UTC; 0: not since the start.',
      each(({ succeededMs }) => (succeededMs ?? 0) / 1000),
    ),
    headwater_stage_latency_seconds: histogram(
      "From the arrival of a frame, or of the frame that readings come from, to the stage's commit of it. Not of what is said again (replays, corrections, a rebuild), and not of results.",
      (stages) =>
        stages.stages().map((stage) => ({
          labels: { stage: stage.state().name },
          histogram: stage.latencySeconds,
        })),
    ),
    headwater_stage_set_aside_records_total: counter(
      'Records that the stage could not take and put into quarantine.',
      each(({ asideRecords }) => asideRecords),
    ),
    headwater_stage_lost_records_total: counter(
      'Records of the log that were deleted before the stage had read them (by offsets, so at most).',
      each(({ lostRecords }) => lostRecords),
    ),
  },
  routes: [
    {
      method: 'GET',
      path: '/api/v1/stages',
      about: 'How each stage of this process is, and what it waits for.',
      right: READ_ALL,
      replies: {
        200: {
          about: 'Stages.',
          schema: object({
            stages: listOf({
              name: TEXT,
              state: TEXT,
              waitsFor: maybe(TEXT),
              sinceMs: maybe(INTEGER),
              reason: maybe(TEXT),
              waitingRecords: orNull(INTEGER),
              succeededMs: maybe(INTEGER),
              asideRecords: INTEGER,
              lostRecords: INTEGER,
              warnings: { type: 'array', items: TEXT },
            }),
          }),
        },
      },
      handle: (stages) => json({ stages: stages.states() }),
    },
  ],
};

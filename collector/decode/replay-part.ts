/** Replays as parts of a collector: the jobs, which are asked for and shown by any process, and who works on them. */
import type { Audit } from '../../shared/access/audit.ts';
import { may } from '../../shared/access/may.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { parseTime } from '../../shared/http/parameters.ts';
import {
  ADMIN_EACH,
  READ_ALL,
  json,
  type Parameters,
  type Request,
} from '../../shared/http/route.ts';
import {
  BOOLEAN,
  INTEGER,
  NUMBER,
  TEXT,
  listOf,
  maybe,
  object,
  textsOf,
} from '../../shared/http/schema.ts';
import { logPart } from '../log/part.ts';
import { guardPart } from '../ops/parts.ts';
import type { CollectorPart } from '../part.ts';
import { decodePart, seriesLimits } from './part.ts';
import { ReplayJobs, type Selection } from './replay-jobs.ts';
import { Replayer } from './replay.ts';

/** Which messages of the quarantine, or to decode again. */
export const SELECTION: Parameters = {
  gateway: { about: 'Only of this gateway.' },
  topic: { about: 'Only topics that match this MQTT topic filter.' },
  reason: { about: 'Only reasons that hold this text.' },
  from: {
    about: 'Received by the gateway at or after: RFC 3339, epoch milliseconds, or now-1h.',
  },
  to: { about: 'Received before.' },
};

/** Throws QUERY_INVALID. */
export function selectionOf(query: URLSearchParams, nowMs: number): Omit<Selection, 'which'> {
  const selection: Omit<Selection, 'which'> = {};
  for (const name of ['gateway', 'topic', 'reason'] as const) {
    const value = query.get(name);
    if (value !== null && value !== '') selection[name] = value;
  }
  const [from, to] = [query.get('from'), query.get('to')];
  if (from !== null) selection.fromMs = parseTime(from, 'from', nowMs);
  if (to !== null) selection.toMs = parseTime(to, 'to', nowMs);
  return selection;
}

interface Replays {
  jobs: ReplayJobs;
  audit: Audit;
  nowMs: () => number;
}

async function begin({ jobs, audit, nowMs }: Replays, request: Request): Promise<string> {
  const { which = 'quarantined', ...rest } = request.fields;
  const selection: Selection = {
    which: which === 'all' ? 'all' : 'quarantined',
    ...selectionOf(new URLSearchParams(rest), nowMs()),
  };
  const { gateway } = selection;
  if (!may(request.identity, 'admin', gateway === undefined ? 'all' : { gateway }))
    throw new HeadwaterError('FORBIDDEN', 'this token has to name a gateway that it may see');
  const { id } = await jobs.create(selection);
  audit.say({
    event: 'replay',
    user: request.identity.name,
    address: request.address,
    about: JSON.stringify(selection),
  });
  return id;
}

export const replaysPart: CollectorPart<Replays> = {
  name: 'replays',
  roles: ['decode', 'query'],
  open: (site) => {
    const { nowMs, newId } = site.context;
    const jobs = new ReplayJobs(site.get(logPart), nowMs, newId);
    return { jobs, audit: site.get(guardPart).audit, nowMs };
  },
  // Once the replayer is there: it is called with what an earlier run has not finished.
  start: ({ jobs }) => jobs.start(),
  routes: [
    {
      method: 'GET',
      path: '/api/v1/replay',
      about: 'Replays, and how far each is.',
      right: READ_ALL,
      replies: {
        200: {
          about: 'Jobs.',
          schema: object({
            jobs: listOf({
              id: TEXT,
              createdMs: INTEGER,
              selection: object({
                which: textsOf('quarantined', 'all', 'named'),
                gateway: maybe(TEXT),
                topic: maybe(TEXT),
                reason: maybe(TEXT),
                fromMs: maybe(NUMBER),
                toMs: maybe(NUMBER),
              }),
              finished: BOOLEAN,
              messages: INTEGER,
              readings: INTEGER,
              quarantined: INTEGER,
            }),
          }),
        },
      },
      handle: ({ jobs }) => json({ jobs: jobs.list() }),
    },
    {
      method: 'POST',
      path: '/api/v1/replay',
      about: 'Decode raw messages again with the mappings now in force.',
      right: ADMIN_EACH,
      body: {
        fields: {
          which: {
            about: 'What is in quarantine (the usual), or everything.',
            choices: ['quarantined', 'all'],
          },
          ...SELECTION,
        },
      },
      replies: { 202: { about: 'Begun.', schema: object({ id: TEXT }) } },
      handle: async (replays, request) => json({ id: await begin(replays, request) }, 202),
    },
  ],
  close: ({ jobs }) => jobs.close(),
};

export const replayerPart: CollectorPart<Replayer> = {
  name: 'replaying',
  roles: ['decode'],
  open: (site) => {
    const { config, nowMs, notify } = site.context;
    const { decoder } = site.get(decodePart).stage;
    return new Replayer({
      log: site.get(logPart),
      jobs: site.get(replaysPart).jobs,
      mappings: () => decoder.mappings,
      limits: seriesLimits(config),
      nowMs,
      notify,
    });
  },
  close: (replayer) => replayer.close(),
};

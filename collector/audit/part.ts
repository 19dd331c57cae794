/** The audit as a part of a collector: where the store or the lake is filled. */
import type { Audit as AccessAudit } from '../../shared/access/audit.ts';
import { ADMIN_ALL, READ_ALL, json } from '../../shared/http/route.ts';
import {
  BOOLEAN,
  INTEGER,
  RANGES,
  TEXT,
  listOf,
  maybe,
  object,
  orNull,
  textsOf,
} from '../../shared/http/schema.ts';
import { counter, gauge } from '../../shared/telemetry/metrics.ts';
import { replaysPart } from '../decode/replay-part.ts';
import { lakePart } from '../lake/part.ts';
import { logPart } from '../log/part.ts';
import { guardPart } from '../ops/parts.ts';
import type { CollectorPart } from '../part.ts';
import { rebuildPart } from '../rebuild-part.ts';
import { storePart, storeStagePart } from '../store/part.ts';
import { Audit } from './audit.ts';

export const FINDING = {
  stage: TEXT,
  kind: TEXT,
  gateway: TEXT,
  epoch: TEXT,
  ranges: RANGES,
  readings: INTEGER,
  mended: textsOf('yes', 'no', 'waits', 'harmless'),
  source: maybe(TEXT),
};
const TOTAL = object({ points: INTEGER, digest: TEXT });
const REPORT = object({
  startedMs: INTEGER,
  endedMs: INTEGER,
  full: BOOLEAN,
  log: TEXT,
  lake: orNull(TEXT),
  store: orNull(TEXT),
  compared: TEXT,
  days: INTEGER,
  left: { type: 'array', items: TEXT },
  logReadings: INTEGER,
  lakePoints: INTEGER,
  storePoints: INTEGER,
  epochs: listOf({ gateway: TEXT, epoch: TEXT, lake: maybe(TOTAL), store: maybe(TOTAL) }),
  findings: listOf(FINDING),
  isCut: BOOLEAN,
  clean: BOOLEAN,
});
const ANSWER = object({
  running: BOOLEAN,
  report: orNull(REPORT),
  failure: maybe(TEXT),
  last: orNull(REPORT),
});

export const STANDING = object({
  last: orNull(
    object({
      startedMs: INTEGER,
      endedMs: INTEGER,
      full: BOOLEAN,
      clean: BOOLEAN,
      found: INTEGER,
      mended: INTEGER,
    }),
  ),
  next: orNull(INTEGER),
  why: orNull(TEXT),
  found: INTEGER,
  mended: INTEGER,
});

interface Auditing {
  audit: Audit;
  access: AccessAudit;
}

const answer = ({ audit }: Auditing): object => ({ ...audit.asked, last: audit.last ?? null });

export const auditPart: CollectorPart<Auditing> = {
  name: 'auditing',
  roles: ['store', 'lake'],
  open: (site) => {
    const { config, notify, nowMs, newId } = site.context;
    const storing = site.find(storeStagePart);
    const replays = site.find(replaysPart)?.jobs;
    const rebuild = site.find(rebuildPart)?.rebuild;
    const audit = new Audit({
      log: site.get(logPart),
      lake: site.find(lakePart),
      // What another process fills is audited there.
      store: storing === undefined ? undefined : site.find(storePart),
      storing,
      again: replays === undefined || rebuild === undefined ? undefined : { replays, rebuild },
      folder: config.data,
      notify,
      nowMs,
      newId,
    });
    if (storing !== undefined) storing.fill.isSame = audit.sameDay;
    return { audit, access: site.get(guardPart).audit };
  },
  start: async ({ audit }) => audit.start(),
  routes: [
    {
      method: 'GET',
      path: '/api/v1/audit',
      about: 'The audit that was asked for, and the last one that came to its end.',
      right: READ_ALL,
      replies: { 200: { about: 'Them.', schema: ANSWER } },
      handle: (auditing) => json(answer(auditing)),
    },
    {
      method: 'POST',
      path: '/api/v1/audit',
      about: 'Compares what log, lake and store have, names what differs, and puts it right.',
      right: ADMIN_ALL,
      body: {
        fields: {
          full: {
            about:
              'Every file of the lake is compared with its checksum, and every raw frame looked at.',
            choices: ['true', 'false'],
          },
        },
      },
      replies: { 202: { about: 'Begun.', schema: ANSWER } },
      handle: (auditing, { identity, address, fields }) => {
        auditing.audit.begin(fields['full'] === 'true');
        auditing.access.say({ event: 'audit', user: identity.name, address });
        return json(answer(auditing), 202);
      },
    },
  ],
  metrics: {
    headwater_audit_passed_seconds: gauge(
      'When the last audit of log, lake and store came to its end, epoch seconds; 0: none has.',
      ({ audit }) => Math.round((audit.last?.endedMs ?? 0) / 1000),
    ),
    headwater_audit_differing_readings_total: counter(
      'Readings that stages had differently.',
      ({ audit }) => audit.found,
    ),
    headwater_audit_next_seconds: gauge(
      'When the next audit begins of itself, epoch seconds; 0: one is under way.',
      ({ audit }) => Math.round((audit.standing().next ?? 0) / 1000),
    ),
    headwater_audit_last_differing_readings: gauge(
      'Readings that the last audit found differing.',
      ({ audit }) => audit.standing().last?.found ?? 0,
    ),
    headwater_audit_work_seconds_total: counter(
      'Time at work of all audits, without their rests, seconds.',
      ({ audit }) => audit.workMs / 1000,
    ),
    headwater_audit_mended_readings_total: counter(
      'Of these, readings that were put right.',
      ({ audit }) => audit.mended,
    ),
  },
  close: ({ audit }) => audit.close(),
};

/** What a collector says of itself as a whole. */
import { maySee } from '../../shared/access/may.ts';
import type { Identity } from '../../shared/access/tokens.ts';
import { READ_ALL, READ_EACH, json } from '../../shared/http/route.ts';
import { TEXT, INTEGER, listOf, object, orNull } from '../../shared/http/schema.ts';
import { blockedBy } from '../../shared/telemetry/health.ts';
import { standstill } from '../../shared/telemetry/standstill.ts';
import { auditPart, STANDING } from '../audit/part.ts';
import { enrollPart } from '../enroll/part.ts';
import { ingestPart } from '../ingest/part.ts';
import { ledgerPart } from '../ledger/part.ts';
import { logPart } from '../log/part.ts';
import { diskPart } from '../ops/parts.ts';
import type { CollectorPart, CollectorSite } from '../part.ts';
import { remotePart } from '../remote/part.ts';
import { storePart } from '../store/part.ts';
import { gauge } from '../../shared/telemetry/metrics.ts';
import { quarantinePart } from './quarantine.ts';
import { fleet, FLEET } from './fleet.ts';
import { statesOf } from './stages.ts';

/** What is not as it should be, though it works: a sentence each. */
function warningsOf(site: CollectorSite): string[] {
  const store = site.hasRole('query') ? site.find(storePart) : undefined;
  const { found, newFolder, others } = site.get(diskPart);
  return [
    ...[found, newFolder.doubt].filter((each) => each !== undefined),
    ...others,
    ...standstill.warnings(),
    ...site.get(logPart).warnings(),
    ...(store?.warnings() ?? []),
    ...(site.find(ingestPart)?.ingest.receiver.warnings() ?? []),
    ...(site.find(quarantinePart)?.view.warnings() ?? []),
    ...statesOf(site).flatMap(({ warnings }) => warnings),
  ];
}

function statusOf(site: CollectorSite): object {
  const log = site.get(logPart);
  const store = site.hasRole('query') ? site.find(storePart) : undefined;
  return {
    log: log.kind,
    store: store?.kind ?? null,
    stages: log.groups(),
    blocked: blockedBy(site.health()) ?? null,
    waiting: site.health().flatMap(({ name, why }) => (why === undefined ? [] : [{ name, why }])),
    audit: site.find(auditPart)?.audit.standing() ?? null,
    warnings: warningsOf(site),
  };
}

/** Gateways, those alone that the asker may see. */
export function gatewaysOf(site: CollectorSite, identity: Identity): ReturnType<typeof fleet> {
  const receiver = site.find(ingestPart)?.ingest.receiver;
  const members = site.find(enrollPart)?.enrolment.registry.members ?? new Map();
  const gateways = fleet(
    receiver?.gateways() ?? [],
    site.get(ledgerPart).known(site.context.nowMs()),
    members,
    (gateway) => receiver?.isDoubled(gateway) === true,
    // It opens after this part, and before the API listens.
    site.get(remotePart).declarations,
  );
  return gateways.filter(({ gateway }) => maySee(identity, gateway));
}

export const statusPart: CollectorPart<CollectorSite> = {
  name: 'status',
  open: (site) => site,
  metrics: {
    headwater_warnings: gauge(
      'Things that are not as they should be, though everything works; /api/v1/status and headwater doctor name them.',
      (site) => warningsOf(site).length,
    ),
  },
  routes: [
    {
      method: 'GET',
      path: '/api/v1/gateways',
      about: 'Gateways that any collector of this log has seen, or this one has enrolled.',
      right: READ_EACH,
      replies: {
        200: {
          about: 'Gateways.',
          schema: FLEET,
        },
      },
      handle: (site, { identity }) => {
        site.get(ledgerPart).check();
        return json({ gateways: gatewaysOf(site, identity) });
      },
    },
    {
      method: 'GET',
      path: '/api/v1/status',
      about: 'Lag of each stage, counts, and warnings.',
      right: READ_ALL,
      replies: {
        200: {
          about: 'Status.',
          schema: object({
            log: TEXT,
            store: orNull(TEXT),
            stages: listOf({ group: TEXT, topic: TEXT, lagRecords: orNull(INTEGER) }),
            blocked: orNull(TEXT),
            waiting: listOf({ name: TEXT, why: TEXT }),
            audit: orNull(STANDING),
            warnings: { type: 'array', items: TEXT },
          }),
        },
      },
      handle: (site) => json(statusOf(site)),
    },
  ],
};

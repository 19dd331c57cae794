/** The lake, and the stages that fill it, as parts of a collector. */
import { READ_ALL, json } from '../../shared/http/route.ts';
import { INTEGER, TEXT, listOf, maybe, object } from '../../shared/http/schema.ts';
import { processTimers, within } from '../../shared/env/timers.ts';
import { counter, gauge, type Sample } from '../../shared/telemetry/metrics.ts';
import { ledgerPart } from '../ledger/part.ts';
import { logPart } from '../log/part.ts';
import { diskPart } from '../ops/parts.ts';
import type { CollectorPart } from '../part.ts';
import type { Lake } from './lake.ts';
import { ZONES } from './layout.ts';
import { createLake } from './open.ts';
import { DAMAGES, PASS, orNull } from './schema.ts';
import { LakeStage } from './stage.ts';

export const NO_LAKE = 'this collector has no lake: see --lake';

/** A start waits for another machine no longer. */
const OTHER_MS = 3000;

/** Days that are there, in order. */
async function daysOf(lake: Lake): Promise<string[]> {
  const days = new Set<string>();
  for (const zone of ZONES)
    for (const { dates } of (await lake.catalog(zone).loadRoots()).values())
      for (const date of Object.keys(dates)) days.add(date);
  return [...days].sort();
}

export const lakePart: CollectorPart<Lake> = {
  name: 'lake',
  where: ({ config }) => `the lake at ${config.lake}`,
  roles: ['lake', 'stream', 'batch', 'query'],
  absent: NO_LAKE,
  open: async (site) => {
    const { config, notify, nowMs } = site.context;
    const lake = await createLake({ config, notify, nowMs });
    if (lake === undefined) return undefined;
    lake.check.notify = notify;
    site.get(ledgerPart).lake = () => lake.check.damages;
    const trouble = await lake.open();
    if (trouble !== undefined) notify({ level: 'warn', event: 'lake', text: trouble });
    const { newFolder } = site.get(diskPart);
    // One that is away now says nothing, and is not waited for.
    const days =
      newFolder.isNew && trouble === undefined
        ? await within(processTimers, OTHER_MS, daysOf(lake)).catch(() => [])
        : undefined;
    if (days !== undefined && days.length > 0)
      newFolder.remember(
        'lake',
        `the lake ${lake.store.address} has ${days.length} days already, ${days[0]} to ${days.at(-1)}`,
      );
    if (lake.store.kind === 'local' && site.get(logPart).kind !== 'embedded')
      notify({
        level: 'warn',
        event: 'lake',
        text: `the lake is a folder of this machine (${lake.store.address}): several collectors need one that all reach, such as s3://BUCKET/PREFIX`,
      });
    return lake;
  },
  routes: [
    {
      method: 'GET',
      path: '/api/v1/lake',
      isCostly: true,
      about: 'Where the lake is, and what each zone has.',
      right: READ_ALL,
      replies: {
        200: {
          about: 'The lake.',
          schema: object({
            kind: TEXT,
            address: TEXT,
            zones: listOf({
              zone: TEXT,
              files: INTEGER,
              bytes: INTEGER,
              rows: INTEGER,
              gateways: INTEGER,
              from: maybe(TEXT),
              to: maybe(TEXT),
            }),
            damages: DAMAGES,
            checked: orNull(PASS),
          }),
        },
      },
      handle: async (lake) => {
        const { kind, address } = lake.store;
        const [zones, checked] = [await lake.summary(), lake.check.last ?? null];
        return json({ kind, address, zones, damages: lake.check.damages, checked });
      },
    },
  ],
  metrics: {
    headwater_lake_checked_seconds: gauge(
      'When the last check of the whole lake came to its end, epoch seconds; 0: none has.',
      (lake) => Math.round((lake.check.last?.endedMs ?? 0) / 1000),
    ),
    headwater_lake_damaged_files_total: counter(
      'Files of the lake found damaged or missing.',
      (lake) => lake.check.found,
    ),
    headwater_lake_lost_files: gauge(
      'Files of the lake whose rows are not all there again.',
      (lake) => lake.check.lost.size,
    ),
  },
  close: (lake) => lake.close(),
};

const perZone =
  (read: (stage: LakeStage) => number) =>
  (stages: readonly LakeStage[]): Sample[] =>
    stages.map((stage) => ({ labels: { zone: stage.zone }, value: read(stage) }));

export const lakeStagesPart: CollectorPart<readonly LakeStage[]> = {
  name: 'filling the lake',
  roles: ['lake'],
  open: (site) => {
    const { config, notify } = site.context;
    const lake = site.find(lakePart);
    if (lake === undefined) return undefined;
    return ZONES.map((zone) => {
      const stage = new LakeStage({
        zone,
        log: site.get(logPart),
        lake,
        flushMs: config['lake.flushSeconds'] * 1000,
        flushBytes: config['lake.flushBytes'],
        notify,
      });
      stage.start();
      return stage;
    });
  },
  metrics: {
    headwater_lake_rows_total: counter(
      'Rows written to the lake, by zone.',
      perZone(({ writtenRows }) => writtenRows),
    ),
    headwater_lake_rewritten_files_total: counter(
      'Files rewritten because readings in them were moved or decoded again, by zone.',
      perZone(({ rewrittenFiles }) => rewrittenFiles),
    ),
    headwater_lake_merged_files_total: counter(
      'Small files merged into larger ones, by zone.',
      perZone(({ mergedFiles }) => mergedFiles),
    ),
  },
  close: async (stages) => {
    await Promise.all(stages.map((stage) => stage.close()));
  },
};

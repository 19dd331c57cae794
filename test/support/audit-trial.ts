/** Edits, removals and doublings of readings in log, lake and store, and whether an audit names them, and only them. */
import type { Report } from '../../collector/audit/report.ts';
import { until } from './process.ts';
import { AuditSite, nameOf, type Damaged, type LogDocument } from './audit-site.ts';

type Chance = () => number;
type Target = Pick<Damaged, 'gateway' | 'epoch' | 'sequence'>;

const HOW = ['edit', 'remove', 'double'] as const;
const STAGES = ['log', 'lake', 'store'] as const;

const place = ({ gateway, epoch, sequence }: Target): string => `${gateway}/${epoch}/${sequence}`;

/** Every reading that there is. */
async function targets(site: AuditSite): Promise<Target[]> {
  const rows: Target[] = [];
  await site.inStore(async (connection) => {
    const sql =
      "SELECT DISTINCT gateway, epoch, seq FROM points JOIN origins ON origins.id = origin WHERE NOT starts_with(gateway, '~') ORDER BY ALL";
    for (const [gateway, epoch, seq] of (await connection.runAndReadAll(sql)).getRows())
      rows.push({ gateway: String(gateway), epoch: String(epoch), sequence: Number(seq) });
  });
  return rows;
}

async function inStore(site: AuditSite, { how, ...target }: Damaged, next: Chance): Promise<void> {
  await site.inStore(async (connection) => {
    const where = `origin = (SELECT id FROM origins WHERE gateway = '${target.gateway}' AND epoch = '${target.epoch}') AND seq = ${target.sequence}`;
    const edits = ['num = num + 1', 'time = time + 1', 'series = series + 1'];
    const edit = edits[Math.floor(next() * edits.length)] ?? '';
    // One field of several, or all of them.
    const some =
      next() < 0.5 ? ` AND series = (SELECT min(series) FROM points WHERE ${where})` : '';
    if (how === 'edit') await connection.run(`UPDATE points SET ${edit} WHERE ${where}${some}`);
    else if (how === 'remove') await connection.run(`DELETE FROM points WHERE ${where}${some}`);
    else await connection.run(`INSERT INTO points SELECT * FROM points WHERE ${where}${some}`);
  });
}

async function inLake(site: AuditSite, damages: readonly Damaged[], next: Chance): Promise<void> {
  for (const { key } of await site.lake.files('readings')) {
    const own = damages.filter(({ gateway }) =>
      key.includes(`/gw=${encodeURIComponent(gateway)}/`),
    );
    const of = (how: string): string =>
      own
        .filter((each) => each.how === how)
        .map(({ epoch, sequence }) => `(epoch = '${epoch}' AND sequence = ${sequence})`)
        .join(' OR ') || 'false';
    const edits = [
      'map_from_entries(list_transform(map_entries(fields), e -> {k: e.key, v: e.value + 1})) AS fields',
      'time_ns + 1 AS time_ns',
      "series || 'x' AS series",
    ];
    const edit = edits[Math.floor(next() * edits.length)] ?? '';
    await site.rewriteLake(key, (rows) => {
      const kept = `FROM (${rows}) WHERE NOT (${of('remove')})`;
      return `SELECT * ${kept} AND NOT (${of('edit')}) UNION ALL SELECT * REPLACE (${edit}) ${kept} AND (${of('edit')}) UNION ALL SELECT * ${kept} AND (${of('double')})`;
    });
  }
}

async function inLog(site: AuditSite, damages: readonly Damaged[], next: Chance): Promise<void> {
  const at = new Map(damages.map((each) => [place(each), each]));
  const done = new Set<string>();
  // The last word of each counts: what an earlier round has had said again stands behind.
  const last = new Map<string, number>();
  await site.rewriteLog((document, number) => {
    const { gateway, epoch } = document;
    for (const { sequence } of document.readings)
      last.set(place({ gateway, epoch, sequence }), number);
    return document;
  });
  await site.rewriteLog((document, number): LogDocument => {
    const { gateway, epoch } = document;
    const readings = document.readings.flatMap((reading) => {
      const name = place({ gateway, epoch, sequence: reading.sequence });
      const damage = at.get(name);
      if (damage === undefined || done.has(name) || last.get(name) !== number) return [reading];
      done.add(name);
      if (damage.how === 'remove') return [];
      if (damage.how === 'double') return [reading, reading];
      if (next() < 0.5) return [{ ...reading, time: reading.time + 1 }];
      return [{ ...reading, fields: { ...reading.fields, n: -1 - next() } }];
    });
    return { ...document, readings };
  });
}

/** Until nothing is there to be merged: a file would be gone while it is being damaged. */
async function merged(site: AuditSite): Promise<void> {
  let quiet = 0;
  await until('small files to be merged', async () => {
    const folders = new Map<string, number>();
    for (const { key } of await site.lake.files('readings')) {
      const folder = key.slice(0, key.lastIndexOf('/'));
      folders.set(folder, (folders.get(folder) ?? 0) + 1);
    }
    quiet = [...folders.values()].some((count) => count >= 16) ? 0 : quiet + 1;
    return quiet >= 3 || undefined;
  });
}

export interface AuditTrial {
  damages: number;
  missed: string[];
  /** Named, and nothing was done to them. */
  wrongly: string[];
  unmended: string[];
}

export const namesOf = ({ findings }: Report): Set<string> =>
  new Set(
    findings.flatMap(({ stage, gateway, epoch, ranges }) =>
      ranges.flatMap(([from, to]) =>
        Array.from({ length: to - from + 1 }, (_, at) =>
          nameOf({ stage: stage === 'raw' ? 'lake' : stage, gateway, epoch, sequence: from + at }),
        ),
      ),
    ),
  );

/** `count` damages at once, of as many readings; then an audit, which names and mends them. */
export async function trial(site: AuditSite, count: number, next: Chance): Promise<AuditTrial> {
  const all = await targets(site);
  // What the log says once more is told as long as the log says it.
  const already = namesOf(await site.audit.pass(false));
  const damages: Damaged[] = [];
  while (damages.length < count && all.length > 0) {
    const [target] = all.splice(Math.floor(next() * all.length), 1);
    if (target === undefined) break;
    const how = HOW[Math.floor(next() * HOW.length)] ?? 'edit';
    const stage = STAGES[Math.floor(next() * STAGES.length)] ?? 'store';
    if (!already.has(nameOf({ stage: 'log', ...target }))) damages.push({ ...target, how, stage });
  }
  await merged(site);
  const of = (stage: string): Damaged[] => damages.filter((each) => each.stage === stage);
  for (const each of of('store')) await inStore(site, each, next);
  await inLake(site, of('lake'), next);
  await inLog(site, of('log'), next);
  const report = await site.audit.pass(false);
  await site.caughtUp();
  const found = namesOf(report);
  const expected = new Set(damages.map(nameOf));
  return {
    damages: damages.length,
    missed: damages
      .filter((each) => !found.has(nameOf(each)))
      .map((each) => `${each.how} ${nameOf(each)}`),
    wrongly: [...found].filter((name) => !expected.has(name) && !already.has(name)),
    unmended: report.findings
      .filter(({ mended }) => mended === 'no' || mended === 'waits')
      .map((finding) => JSON.stringify(finding)),
  };
}

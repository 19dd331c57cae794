/**
 * Every kind of file that a collector writes below its data folder, and what is said of it when it is damaged. A file
 * that no kind knows fails `collector-files.test.ts`: whoever adds one says here what makes it again, and docs/trust.md tells it.
 */
import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';

export interface FileKind {
  name: string;
  /** Of its path below the data folder. */
  path: RegExp;
  /** The same is there a second time, beside it. */
  isTwice?: true;
  /** What a log line says of it, beside its own path. */
  said?: RegExp;
}

const DAY = String.raw`date=\d{4}-\d\d-\d\d`;
const ZONES = 'raw|readings|results';
const SAID_OF_LOG =
  /log_set_aside|log_damaged|lake_ahead|store_other_log|another process has|ledger_rebuild/;
const SAID_OF_LAKE = /is not as this collector left it|lake_manifest|lake_adopt/;

export const COLLECTOR_FILES: readonly FileKind[] = [
  { name: 'note of the folder', path: /^headwater\.json(\.copy)?$/, isTwice: true },
  { name: 'log of who came', path: /^audit\.log(\.1)?$/ },
  { name: 'log, mark', path: /^log\.(opened|lost)$/ },
  { name: 'log, CURRENT', path: /^log\/CURRENT$/, said: SAID_OF_LOG },
  { name: 'log, manifest', path: /^log\/MANIFEST-\d+$/, said: SAID_OF_LOG },
  { name: 'log, newest', path: /^log\/\d+\.log$/, said: SAID_OF_LOG },
  { name: 'log, table', path: /^log\/\d+\.ldb$/, said: SAID_OF_LOG },
  { name: 'log, lock and notes', path: /^log\/(LOCK|LOG(\.old)?)$/ },
  {
    name: 'store',
    path: /^store\/readings\.duckdb$/,
    said: /store_set_aside|store_other_log|store_incomplete|store_disk/,
  },
  {
    name: 'store, newest',
    path: /^store\/readings\.duckdb\.wal$/,
    said: /store_set_aside|store_other_log|store_incomplete|store_disk/,
  },
  {
    name: 'lake, raw',
    path: new RegExp(String.raw`^lake/raw/${DAY}/gw=[^/]+/[^/]+\.parquet$`),
    said: SAID_OF_LAKE,
  },
  {
    name: 'lake, readings',
    path: new RegExp(String.raw`^lake/readings/${DAY}/gw=[^/]+/[^/]+\.parquet$`),
    said: SAID_OF_LAKE,
  },
  {
    name: 'lake, results',
    path: new RegExp(String.raw`^lake/results/${DAY}/gw=[^/]+/[^/]+\.parquet$`),
    said: SAID_OF_LAKE,
  },
  {
    name: 'lake, day of a manifest',
    path: new RegExp(String.raw`^lake/_manifest/(${ZONES})/${DAY}/[^/]+\.json$`),
    said: SAID_OF_LAKE,
  },
  {
    name: 'lake, root of a manifest',
    path: new RegExp(String.raw`^lake/_manifest/roots/(${ZONES})/[^/]+\.json$`),
    said: SAID_OF_LAKE,
  },
  { name: 'lake, what it lacks', path: new RegExp(`^lake/_manifest/less/(${ZONES})/[^/]+$`) },
  {
    name: 'lake, past',
    path: /^lake\/_past\/readings\/[^/]+\.parquet$/,
    said: /lake_past/,
  },
  {
    name: 'lake, since when',
    path: /^lake\/_past\/since\/\d+$/,
    said: /lake_past|_past\/since/,
  },
  { name: 'lake, forgotten', path: /^lake\/_past\/forgotten\/[^/]+\.json$/ },
  { name: 'lake, note of a batch', path: /^lake\/batch\/[^/]+\/[^/]+\.json$/ },
  { name: 'lake, set aside', path: /^lake\/_aside\// },
  {
    name: 'on its way',
    path: /^(lake-work|lake-cache|batch-work|log\.carried)\/|\.(part|new)$|^log\/\d+\.dbtmp$|^store\/readings\.duckdb\.tmp\//,
  },
  { name: 'authority', path: /^enroll\/ca\.(key|pem)(\.copy)?$/, isTwice: true },
  { name: 'certificate of its own', path: /^enroll\/server\.(key|pem)$/ },
  { name: 'members', path: /^enroll\/registry\.jsonl(\.copy)?$/, isTwice: true },
  { name: 'set aside', path: /^(damaged\/|enroll\/.*\.damaged-\d+$)/ },
];

export const kindOf = (path: string): FileKind | undefined =>
  COLLECTOR_FILES.find((each) => each.path.test(path));

/** Paths of all files below a data folder, as they stand in the table. */
export function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort();
}

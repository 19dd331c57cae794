/**
 * How the lake lies on its store, for everybody who reads it without us:
 *
 *   ZONE/date=YYYY-MM-DD/gw=GATEWAY/LOG-PARTITION-FROM-TO.parquet
 *
 * Zones: `raw` (a frame a row, the date is that of its arrival), `readings` (a reading a row) and `results` (a result of
 * a stream or batch rule a row, in every revision); there the date is that of the reading. Dates are UTC. GATEWAY is
 * percent-encoded; the column `gateway` has it as it is. LOG and PARTITION name the writer, and the rows are of its steps
 * from FROM up to and without TO (in files of versions before 0.2: offsets of the log).
 *
 * A file whose steps lie within those of another one of the same folder, LOG and PARTITION was merged into it: it is
 * about to be deleted and counts no more. This is all that a reader has to know; what must be there, and how it was
 * written, is beside it (`manifest.ts`).
 */
export const ZONES = ['raw', 'readings', 'results'] as const;
export type Zone = (typeof ZONES)[number];

export const isZone = (name: string): name is Zone => (ZONES as readonly string[]).includes(name);

interface Column {
  name: string;
  /** In the Parquet file, as DuckDB names it. */
  type: string;
  /** In the table that rows are appended to, where it differs, and how it becomes `type`. */
  staged?: [type: string, sql: string];
  about: string;
}

const text = (name: string, about: string): Column => ({ name, type: 'VARCHAR', about });
const bigint = (name: string, about: string): Column => ({ name, type: 'BIGINT', about });
const map = (name: string, value: string, about: string): Column => ({
  name,
  type: `MAP(VARCHAR, ${value})`,
  staged: ['VARCHAR', `from_json(${name}, '"MAP(VARCHAR,${value})"')`],
  about,
});
const instant = (name: string, about: string): Column => ({
  name,
  type: 'TIMESTAMP WITH TIME ZONE',
  staged: ['BIGINT', `CAST(make_timestamp(${name}) AS TIMESTAMPTZ)`],
  about,
});

const ORIGIN: Column[] = [
  text('log', 'Name of the writer that wrote the row.'),
  { name: 'log_partition', type: 'INTEGER', about: 'Partition of the log.' },
  bigint('log_offset', "Offset of the row's record in it."),
];

const RAW: Column[] = [
  text('gateway', 'Id of the gateway.'),
  text('epoch', "Epoch of the gateway's buffer."),
  { name: 'kind', type: 'INTEGER', about: 'Kind of the frame; -1: not a whole frame.' },
  bigint('first_sequence', 'Sequence of its first message.'),
  bigint('count', 'Messages in it.'),
  instant('arrived', 'When the collector had it.'),
  { name: 'frame', type: 'BLOB', about: 'Its bytes as the gateway had them on disk.' },
  map('headers', 'VARCHAR', 'What travelled beside it.'),
  ...ORIGIN,
];

const READINGS: Column[] = [
  text('gateway', 'Id of the gateway.'),
  text('epoch', 'Epoch; with sequence and index the identity of the reading.'),
  bigint('sequence', 'Sequence of its message.'),
  { name: 'index', type: 'INTEGER', about: 'Of several readings in one message.' },
  instant('time', 'Its time, to the microsecond.'),
  bigint('time_ns', 'Its time, epoch nanoseconds, with the digits that tell readings apart.'),
  instant('arrived', 'When the collector had it.'),
  { name: 'late', type: 'BOOLEAN', about: 'It came much later than the gateway had it.' },
  text('measurement', 'Measurement.'),
  text('series', 'Measurement and tags in order of their names, as in line protocol.'),
  map('tags', 'VARCHAR', 'Tags.'),
  map('fields', 'DOUBLE', 'Numbers by field.'),
  map('texts', 'VARCHAR', 'Texts by field (`…_text`).'),
  map('bools', 'BOOLEAN', 'Booleans by field (`…_bool`).'),
  ...ORIGIN,
];

const RESULTS: Column[] = [
  ...READINGS,
  bigint('revision', 'The highest of an identity counts.'),
  { name: 'removed', type: 'BOOLEAN', about: 'This revision takes the result back.' },
];

export const COLUMNS: Record<Zone, readonly Column[]> = {
  raw: RAW,
  readings: READINGS,
  results: RESULTS,
};

/** In order of which the rows of a file lie. */
export const ORDER: Record<Zone, string> = {
  raw: 'log_offset',
  readings: 'series, time_ns, sequence, "index"',
  results: 'series, time_ns, revision',
};

/** What every folder of a file and its name say. */
export interface LakeFile {
  key: string;
  zone: Zone;
  /** YYYY-MM-DD. */
  date: string;
  gateway: string;
  log: string;
  partition: number;
  from: number;
  /** Exclusive. */
  to: number;
  bytes: number;
  version: string;
}

/** Which files. Dates are inclusive. */
export interface FileFilter {
  from?: string;
  to?: string;
  gateway?: string;
  /** Views that a query needs; all when left out. `points` is of readings. */
  zones?: readonly Zone[];
  /** A file that was compared with its checksum so recently need not be again, milliseconds. */
  trustMs?: number;
  /** Of readings alone, only those of this gateway. */
  readingsOf?: string;
  /** The view `results` has every revision, and not only the newest. */
  allRevisions?: boolean;
  /** Goes on without files that are lost and being made again; else LAKE_UNAVAILABLE until they are there. */
  withoutLost?: boolean;
}

const DIGITS = 12;
const NAME = /^([0-9a-f]+)-(\d+)-(\d+)-(\d+)\.parquet$/;
const FOLDER = /^(\w+)\/date=(\d{4}-\d\d-\d\d)\/gw=([^/]+)\/$/;

export function encodeName(name: string): string {
  return [...Buffer.from(name)]
    .map((byte) => {
      const letter = String.fromCharCode(byte);
      return /[A-Za-z0-9_~-]/.test(letter)
        ? letter
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
    })
    .join('');
}

/** `epochMs` may be any time that a reading can have. */
export const dateOf = (epochMs: number): string => new Date(epochMs).toISOString().slice(0, 10);

export function folderOf(zone: Zone, date: string, gateway: string): string {
  return `${zone}/date=${date}/gw=${encodeName(gateway)}/`;
}

export function fileName(log: string, partition: number, from: number, to: number): string {
  const digits = (value: number): string => String(value).padStart(DIGITS, '0');
  return `${log}-${partition}-${digits(from)}-${digits(to)}.parquet`;
}

/** Undefined for what is not a file of the lake's: others may put theirs beside them. */
export function parseKey({
  key,
  bytes,
  version,
}: Pick<LakeFile, 'key' | 'bytes' | 'version'>): LakeFile | undefined {
  const cut = key.lastIndexOf('/') + 1;
  const folder = FOLDER.exec(key.slice(0, cut));
  const name = NAME.exec(key.slice(cut));
  const [, zone = '', date = '', gateway = ''] = folder ?? [];
  if (folder === null || name === null || !isZone(zone)) return undefined;
  const [, log = '', partition, from, to] = name;
  return {
    key,
    zone,
    date,
    gateway: decodeURIComponent(gateway),
    log,
    partition: Number(partition),
    from: Number(from),
    to: Number(to),
    bytes,
    version,
  };
}

/** What its key alone says of a file. */
export const fileOf = (key: string): LakeFile | undefined =>
  parseKey({ key, bytes: 0, version: '' });

/** Files in order, without those that were merged into another one. */
export function current(files: readonly LakeFile[]): { valid: LakeFile[]; merged: LakeFile[] } {
  const ordered = files.toSorted(
    (a, b) =>
      (a.zone < b.zone ? -1 : a.zone > b.zone ? 1 : 0) ||
      (a.date < b.date ? -1 : a.date > b.date ? 1 : 0) ||
      (a.gateway < b.gateway ? -1 : a.gateway > b.gateway ? 1 : 0) ||
      (a.log < b.log ? -1 : a.log > b.log ? 1 : 0) ||
      a.partition - b.partition ||
      a.from - b.from ||
      b.to - a.to,
  );
  const valid: LakeFile[] = [];
  const merged: LakeFile[] = [];
  for (const file of ordered) {
    const last = valid.at(-1);
    const isWithin =
      last !== undefined &&
      last.zone === file.zone &&
      last.date === file.date &&
      last.gateway === file.gateway &&
      last.log === file.log &&
      last.partition === file.partition &&
      file.to <= last.to;
    (isWithin ? merged : valid).push(file);
  }
  return { valid, merged };
}

const DATE = /\/date=(\d{4}-\d\d-\d\d)\//;
const GATEWAY = /\/gw=([^/]+)\//;

export const gatewayOf = (key: string): string => decodeURIComponent(GATEWAY.exec(key)?.[1] ?? '');
export const dateOfKey = (key: string): string => DATE.exec(key)?.[1] ?? '';

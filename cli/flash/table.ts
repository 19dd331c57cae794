/** The table of a batch: a card each row. The first line names the columns. */
import { readSettingFile } from '../../shared/config/user-file.ts';
import { csvRecords } from '../../collector/decode/codecs/csv.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { GATEWAY_ID } from '../../shared/wire/wire.ts';

export interface Row {
  name: string;
  ssid: string;
  password: string;
  country: string;
}

/** Octets: IEEE 802.11, 9.4.2.2 and J.4.1. */
const SSID_BYTES_MAX = 32;
const PASSPHRASE_BYTES = { least: 8, most: 63 };
/** A key that somebody has made of the two already. */
export const isWifiKey = (password: string): boolean => /^[0-9A-Fa-f]{64}$/.test(password);

/** Why a board could not come into this network, or not without somebody hearing of it. A network without a password is open. */
export function wifiProblem({ ssid, password, country }: Omit<Row, 'name'>): string | undefined {
  const bytes = (text: string): number => Buffer.byteLength(text);
  // Control characters; and what a table in another encoding than UTF-8 leaves of its letters.
  const isUnreadable = (text: string): boolean => /[\p{Cc}\ufffd]/u.test(text);
  if (ssid === '')
    return password === '' && country === '' ? undefined : 'there is a Wi-Fi without its name';
  if (isUnreadable(ssid) || isUnreadable(password))
    return 'name or password of the Wi-Fi cannot be read: UTF-8 is wanted';
  if (bytes(ssid) > SSID_BYTES_MAX)
    return `the Wi-Fi's name has ${bytes(ssid)} bytes, and none has more than ${SSID_BYTES_MAX}`;
  const { least, most } = PASSPHRASE_BYTES;
  const isRight = bytes(password) >= least && bytes(password) <= most;
  if (password !== '' && !isRight && !isWifiKey(password))
    return `the Wi-Fi's password has ${bytes(password)} bytes: WPA wants ${least} to ${most} (none at all is an open network)`;
  if (!/^[A-Z]{2}$/.test(country))
    return 'the country of a Wi-Fi is two capital letters (DE): without it some boards keep Wi-Fi off';
  return undefined;
}

const COLUMNS = ['name', 'wifi_ssid', 'wifi_password', 'wifi_country'] as const;

type Wrong = (line: number, why: string) => never;

/** Commas, or semicolons where spreadsheets of the country write them. Empty lines are passed over. */
function recordsOf(path: string, wrong: Wrong): { fields: string[]; line: number }[] {
  const text = readSettingFile(path, 'the table').toString('utf8');
  const head = /^.*/.exec(text)?.[0] ?? '';
  try {
    const records = csvRecords(text, head.includes(';') ? ';' : ',');
    return records.map(({ record, info }) => ({ fields: record, line: info.lines }));
  } catch (error) {
    const { lines = 1 } = error as { lines?: number };
    return wrong(lines, messageOf(error));
  }
}

/** Throws CONFIG_INVALID with the line. */
export function readTable(path: string): Row[] {
  const wrong: Wrong = (line, why) => {
    throw new HeadwaterError('CONFIG_INVALID', `${path}: line ${line}: ${why}`);
  };
  const [head, ...lines] = recordsOf(path, wrong);
  const columns = head?.fields ?? [];
  const unknown = columns.find((each) => !(COLUMNS as readonly string[]).includes(each));
  if (unknown !== undefined || !columns.includes('name'))
    wrong(
      1,
      unknown === undefined
        ? "there is no column 'name'"
        : `'${unknown}' is none of ${COLUMNS.join(', ')}`,
    );
  const seen = new Map<string, number>();
  return lines.map(({ fields, line: number }) => {
    if (fields.length !== columns.length)
      wrong(number, `it has ${fields.length} fields, and ${columns.length} columns are named`);
    const value = (column: (typeof COLUMNS)[number]): string =>
      fields[columns.indexOf(column)] ?? '';
    const name = value('name');
    if (!GATEWAY_ID.test(name)) wrong(number, `'${name}' cannot be a gateway's name`);
    const before = seen.get(name);
    if (before !== undefined)
      wrong(number, `'${name}' stands in line ${before} already: two cards would be one gateway`);
    seen.set(name, number);
    const row = {
      name,
      ssid: value('wifi_ssid'),
      password: value('wifi_password'),
      country: value('wifi_country'),
    };
    const problem = wifiProblem(row);
    if (problem !== undefined) wrong(number, problem);
    return row;
  });
}

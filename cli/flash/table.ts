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
    if (row.ssid !== '' && !/^[A-Z]{2}$/.test(row.country))
      wrong(
        number,
        'wifi_country is two capital letters (DE): without it some boards keep Wi-Fi off',
      );
    return row;
  });
}

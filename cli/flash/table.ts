/** The table of a batch: a card each row. Comma separated, the first line names the columns. */
import { readSettingFile } from '../../shared/config/user-file.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { GATEWAY_ID } from '../../shared/wire/wire.ts';

export interface Row {
  name: string;
  ssid: string;
  password: string;
  country: string;
}

const COLUMNS = ['name', 'wifi_ssid', 'wifi_password', 'wifi_country'] as const;

/** Fields of a line: quoted ones may hold commas and doubled quotes. */
function fieldsOf(line: string): string[] {
  const fields: string[] = [];
  for (const [, quoted, plain] of line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g))
    fields.push((quoted?.replaceAll('""', '"') ?? plain ?? '').trim());
  return fields;
}

/** Throws CONFIG_INVALID with the line. */
export function readTable(path: string): Row[] {
  const wrong = (line: number, why: string): never => {
    throw new HeadwaterError('CONFIG_INVALID', `${path}: line ${line}: ${why}`);
  };
  const text = readSettingFile(path, 'the table')
    .toString('utf8')
    .replace(/^\uFEFF/, '');
  const [head = '', ...lines] = text.split(/\r?\n/);
  const columns = fieldsOf(head);
  const unknown = columns.find((each) => !(COLUMNS as readonly string[]).includes(each));
  if (unknown !== undefined || !columns.includes('name'))
    wrong(
      1,
      unknown === undefined
        ? "there is no column 'name'"
        : `'${unknown}' is none of ${COLUMNS.join(', ')}`,
    );
  const seen = new Map<string, number>();
  return lines.flatMap((line, index) => {
    if (line.trim() === '') return [];
    const number = index + 2;
    const fields = fieldsOf(line);
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
    return [row];
  });
}

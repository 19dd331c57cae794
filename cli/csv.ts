/** Reads CSV (RFC 4180), gzipped too, row by row, without holding the file in memory. */
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { createGunzip } from 'node:zlib';
import { pipeline } from 'node:stream';
import { operatingError } from '../contracts/errors.ts';
import { HeadwaterError, messageOf } from '../shared/errors.ts';

/** Fields of one line. A quoted field may hold separators and doubled quotation marks, not line breaks. */
export function splitLine(line: string): string[] {
  if (!line.includes('"')) return line.split(',');
  const fields: string[] = [];
  let field = '';
  let quoted = false;
  for (let i = 0; i < line.length; i++) {
    const char = line[i] as string;
    if (quoted && char === '"' && line[i + 1] === '"') {
      field += '"';
      i++;
    } else if (char === '"') {
      quoted = !quoted;
    } else if (char === ',' && !quoted) {
      fields.push(field);
      field = '';
    } else {
      field += char;
    }
  }
  fields.push(field);
  return fields;
}

export interface Row {
  /** Counted from 1, the header not included. */
  number: number;
  values: Map<string, string>;
}

/** Throws INPUT_FILE, naming file and line. */
export async function* readCsv(file: string): AsyncGenerator<Row> {
  const raw = createReadStream(file);
  let failure: unknown;
  const input = file.endsWith('.gz')
    ? pipeline(raw, createGunzip(), (error: Error | null | undefined) => {
        failure = error ?? undefined;
      })
    : raw;
  raw.on('error', (error) => {
    failure = error;
    input.destroy(error);
  });
  input.on('error', (error: unknown) => {
    failure ??= error;
  });
  let header: string[] | undefined;
  let number = 0;
  try {
    for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      if (line === '') continue;
      const fields = splitLine(header === undefined ? line.replace(/^\uFEFF/, '') : line);
      if (header === undefined) {
        header = fields.map((name) => name.trim());
        continue;
      }
      number++;
      if (fields.length !== header.length) {
        throw new HeadwaterError(
          'INPUT_FILE',
          `${file}: row ${number} has ${fields.length} fields, the header has ${header.length}`,
        );
      }
      yield { number, values: new Map(header.map((name, index) => [name, fields[index] ?? ''])) };
    }
  } catch (error) {
    if (operatingError(error) !== undefined) throw error;
    failure ??= error;
  }
  if (failure !== undefined)
    throw new HeadwaterError('INPUT_FILE', `${file}: ${messageOf(failure)}`, { cause: failure });
  if (header === undefined)
    throw new HeadwaterError(
      'INPUT_FILE',
      `${file} is empty: a CSV file with a header line is needed`,
    );
}

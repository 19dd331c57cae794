/** `headwater try TOPIC PAYLOAD`: what a message would become, without a gateway, a collector, or anything written. */
import { readFileSync } from 'node:fs';
import { makeOf } from '../collector/decode/mapping/try.ts';
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { HeadwaterError, messageOf } from '../shared/errors.ts';
import { printable } from '../shared/telemetry/log.ts';
import { checkTopic } from './client.ts';
import { linesOf, mappingsOf } from './mapping.ts';

const FLAGS: Flags = {
  mappings: { value: 'FILE', about: 'A mapping file, before the shipped ones.' },
  'payload-file': { value: 'FILE', about: 'The payload from a file, bytes as they are.' },
  hex: { about: 'PAYLOAD is written in hexadecimal: CBOR, Sparkplug and other bytes.' },
  zone: { value: 'ZONE', about: 'As decode.localZone: of times that name no zone.' },
  json: { about: 'JSON instead of text.' },
};

export const TRY_HELP = helpText(
  'try TOPIC PAYLOAD [flags]',
  'Shows what a message would become: measurement, tags, fields, time, or why it would go to quarantine. It needs no server and writes nothing; PAYLOAD - reads standard input. Ends with 1 when a part would go to quarantine.',
  FLAGS,
  `Examples:
  headwater try home/kitchen/climate '{"temperature":21.5,"window":"open"}'
  headwater try tele/plug/SENSOR '{"ENERGY":{"Power":42}}' --json
  headwater try tank/t7/up '{"level":"239 mm"}' --mappings my.yaml`,
);

function fromHex(text: string): Buffer {
  const digits = text.replaceAll(/\s/g, '');
  if (!/^(?:[0-9a-fA-F]{2})*$/.test(digits))
    throw new HeadwaterError('USAGE', '--hex: the payload is not pairs of hexadecimal digits');
  return Buffer.from(digits, 'hex');
}

/** Throws USAGE and INPUT_FILE. */
function payloadOf(given: string | undefined, values: Record<string, unknown>): Buffer {
  const { 'payload-file': file } = values;
  if (typeof file === 'string' && given !== undefined)
    throw new HeadwaterError('USAGE', 'give a payload or --payload-file, not both');
  let bytes: Buffer;
  try {
    if (typeof file === 'string') bytes = readFileSync(file);
    else if (given === '-') bytes = readFileSync(0);
    else if (given === undefined)
      throw new HeadwaterError('USAGE', 'give a topic and a payload: headwater try TOPIC PAYLOAD');
    else bytes = Buffer.from(given);
  } catch (error) {
    if (error instanceof HeadwaterError) throw error;
    throw new HeadwaterError('INPUT_FILE', messageOf(error), { cause: error });
  }
  return values['hex'] === true ? fromHex(bytes.toString()) : bytes;
}

export async function tryMessage(args: string[]): Promise<void> {
  const { values, positionals, help } = parseFlags('try', args, FLAGS, 2);
  if (help) {
    process.stdout.write(TRY_HELP);
    return;
  }
  const [topic, given] = positionals;
  const { mappings, zone } = values;
  if (topic === undefined)
    throw new HeadwaterError('USAGE', 'give a topic and a payload: headwater try TOPIC PAYLOAD');
  checkTopic(topic);
  const payload = payloadOf(given, values);
  const text = (value: unknown): string | undefined =>
    typeof value === 'string' ? value : undefined;
  const receivedMs = Date.now();
  const made = makeOf({ topic, payload, receivedMs }, await mappingsOf(text(mappings), text(zone)));
  process.stdout.write(
    values['json'] === true
      ? `${JSON.stringify({ topic, ...made })}\n`
      : linesOf(made, receivedMs)
          .map((line) => `${printable(line)}\n`)
          .join(''),
  );
  if (made.told.some((line) => line.startsWith('quarantine'))) process.exitCode = 1;
}

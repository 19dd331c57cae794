/** `headwater replay FILE`: a real data file as devices over MQTT. */
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { untilSignal } from '../shared/config/process.ts';
import { HeadwaterError } from '../shared/errors.ts';
import { MQTT_FLAGS, MQTT_NOTE, connectWith } from './client.ts';
import { readCsv } from './csv.ts';
import { Progress } from './progress.ts';
import { replay } from './replayer.ts';

const FLAGS: Flags = {
  topic: { value: 'TEMPLATE', about: 'Topic of a row; {column} stands for its value.' },
  fields: {
    value: 'A,B',
    about: 'Columns in the payload; without it all that are not in the topic.',
  },
  time: { value: 'COLUMN', about: 'Column with the time of measurement, for --speed.' },
  speed: {
    value: 'N',
    about: '1 is true speed, 60 an hour a minute, 0 as fast as acknowledgements allow.',
    default: '0',
  },
  ...MQTT_FLAGS,
  window: { value: 'N', about: 'Rows sent and not yet acknowledged.', default: '1000' },
};

export const REPLAY_HELP = helpText(
  'replay FILE --topic TEMPLATE [flags]',
  'Publishes each row of a CSV file (also .gz) as the device that measured it: QoS 1, JSON payload. Ends non-zero unless every row was acknowledged.',
  FLAGS,
  `${MQTT_NOTE}\n\nExample: headwater replay data/aberdeen-fleet-2019-03-10_16.csv.gz --topic 'aberdeen/{sensor_id}/{sensor_type}'`,
);

async function countRows(file: string): Promise<number> {
  let rows = 0;
  for await (const _row of readCsv(file)) rows++;
  return rows;
}

export async function replayCommand(args: string[]): Promise<void> {
  const { values, positionals, help } = parseFlags('replay', args, FLAGS, 1);
  if (help) {
    process.stdout.write(REPLAY_HELP);
    return;
  }
  const [file] = positionals;
  const topic = values['topic'];
  if (file === undefined)
    throw new HeadwaterError('USAGE', 'give a file: headwater replay FILE --topic TEMPLATE');
  if (typeof topic !== 'string')
    throw new HeadwaterError('USAGE', "give a topic, such as --topic 'site/{sensor_id}'");
  const speed = Number(values['speed'] ?? '0');
  const window = Number(values['window'] ?? '1000');
  if (!(speed >= 0)) throw new HeadwaterError('USAGE', '--speed is a number, 0 or more');
  if (!(Number.isInteger(window) && window >= 1 && window <= 60_000))
    throw new HeadwaterError('USAGE', '--window is between 1 and 60000');
  if (speed > 0 && values['time'] === undefined)
    throw new HeadwaterError('USAGE', '--speed needs --time COLUMN');
  const total = await countRows(file);
  let stopped = false;
  void untilSignal().then(() => {
    stopped = true;
  });
  const client = await connectWith(values, `headwater-replay-${process.pid}`);
  const progress = new Progress('replay', total);
  try {
    const result = await replay(client, {
      file,
      topic,
      fields: typeof values['fields'] === 'string' ? values['fields'].split(',') : undefined,
      time: values['time'] as string | undefined, // A flag with a value is a string.
      speed,
      skip: 0,
      window,
      stopped: () => stopped,
      onProgress: (done) => progress.show(done),
    });
    progress.show(result.acknowledged, true);
    progress.end();
    if (result.acknowledged < total) {
      throw new HeadwaterError(
        'NOT_ACKNOWLEDGED',
        `stopped: ${result.acknowledged} of ${total} rows were acknowledged`,
      );
    }
    process.stdout.write(
      `${result.acknowledged} rows acknowledged in ${result.seconds.toFixed(1)} s (${Math.round(result.acknowledged / result.seconds)} rows/s)\n`,
    );
  } finally {
    client.end(true);
  }
  process.exit(0);
}

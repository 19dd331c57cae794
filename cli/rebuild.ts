/** `headwater rebuild`: readings, store and results again from raw. */
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { HeadwaterError } from '../shared/errors.ts';
import { ask, tell } from './api.ts';

const FLAGS: Flags = {
  http: { value: 'HOST:PORT', about: 'The collector.', default: '127.0.0.1:8080' },
  'no-wait': { about: 'Do not wait for its end.' },
  json: { about: "The API's JSON instead of text." },
};

export const REBUILD_HELP = helpText(
  'rebuild [flags]',
  'Makes readings, store and results again from the raw frames of log and lake, with the mappings now in force: after a store was lost, after a log was lost, or to give a new rule its past. It can be done again at any time; nothing is doubled by it.',
  FLAGS,
  `The API token comes from HEADWATER_TOKEN.

Example: headwater rebuild --json`,
);

const POLL_MS = 250;

export async function rebuild(args: string[]): Promise<void> {
  const { values, help } = parseFlags('rebuild', args, FLAGS, 0);
  if (help) {
    process.stdout.write(REBUILD_HELP);
    return;
  }
  const address = String(values['http'] ?? '127.0.0.1:8080');
  let status = await tell(address, '/api/v1/rebuild', {});
  if (values['no-wait'] === true) {
    process.stdout.write('the rebuild has begun\n');
    return;
  }
  while (status.running) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    status = await ask(address, '/api/v1/rebuild');
  }
  if (status.failure !== undefined) throw new HeadwaterError('LAKE_UNAVAILABLE', status.failure);
  const { jobs } = await ask(address, '/api/v1/replay');
  const {
    messages = 0,
    readings = 0,
    quarantined = 0,
  } = jobs.find(({ id }) => id === status.replay) ?? {};
  if (values['json'] === true) {
    process.stdout.write(`${JSON.stringify({ ...status, messages, readings, quarantined })}\n`);
    return;
  }
  process.stdout.write(
    `rebuilt: ${status.restoredFrames} frames put back into the log from the lake, ${messages} messages decoded to ${readings} readings, ${quarantined} in quarantine, ${status.results} results said again; stores and windows follow as the log is read\n`,
  );
}

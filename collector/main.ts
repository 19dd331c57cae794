/** The collector as a process: `headwater collector`. */
import { configFlags, helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { outlast, privateFiles, readyLine, serve } from '../shared/config/process.ts';
import { tellStrays } from '../shared/config/environment.ts';
import { loadConfig } from '../shared/config/spec.ts';
import { tellSystemd } from '../shared/config/systemd.ts';
import { realEnv } from '../shared/env/env.ts';
import { stderrNotify } from '../shared/telemetry/log.ts';
import { Collector } from './collector.ts';
import { COLLECTOR_CONFIG } from './config.ts';

const FLAGS: Flags = {
  config: { value: 'FILE', about: 'YAML file with settings; docs/configuration.md lists them.' },
  ...configFlags(COLLECTOR_CONFIG),
};

export const COLLECTOR_HELP = helpText(
  'collector [flags]',
  'Receives from gateways, writes the log, decodes, stores and answers queries.',
  FLAGS,
  `Example: headwater collector --data /var/lib/headwater --uplink 127.0.0.1:1884`,
);

/** Runs until a signal. */
export async function runCollector(args: string[]): Promise<void> {
  const { values, help } = parseFlags('collector', args, FLAGS, 0);
  if (help) {
    process.stdout.write(COLLECTOR_HELP);
    return;
  }
  const config = loadConfig(COLLECTOR_CONFIG, {
    flags: values,
    environment: process.env,
    file: values['config'] as string | undefined, // A flag with a value is a string.
  });
  const env = realEnv();
  const notify = stderrNotify('collector', () => env.clock.wallUs() / 1000, {
    format: config['logging.format'],
    level: config['logging.level'],
  });
  outlast(notify);
  tellStrays([{ spec: COLLECTOR_CONFIG, config }], 'a collector', process.env, notify);
  privateFiles();
  const collector = new Collector(env, config, notify);
  await serve({
    start: async () => {
      const token = process.env['HEADWATER_INFLUXDB_TOKEN'];
      const { http, uplink, uplinks, enroll } = await collector.start(token);
      process.stdout.write(readyLine({ http, uplink, uplinks, enroll }));
      tellSystemd(process.env);
    },
    close: () => collector.close(),
    waitsFor: () => collector.waitsFor,
    notify,
  });
}

/** The gateway as a process: `headwater gateway`, and the entry of a gateway that is installed alone. */
import { configFlags, helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { failFast, failProcess, privateFiles, readyLine, serve } from '../shared/config/process.ts';
import { tellStrays } from '../shared/config/environment.ts';
import { loadConfig } from '../shared/config/spec.ts';
import { tellSystemd } from '../shared/config/systemd.ts';
import { realEnv } from '../shared/env/env.ts';
import { stderrNotify } from '../shared/telemetry/log.ts';
import { GATEWAY_CONFIG } from './config.ts';
import { Gateway } from './gateway.ts';
import type { BufferOpener } from './buffer/part.ts';

const FLAGS: Flags = {
  config: { value: 'FILE', about: 'YAML file with settings; docs/configuration.md lists them.' },
  ...configFlags(GATEWAY_CONFIG),
  http: { value: 'HOST:PORT', about: 'The same as --gateway-http.' },
};

export const GATEWAY_HELP = helpText(
  'gateway [flags]',
  'Accepts MQTT from devices, makes every message durable before it is acknowledged, and forwards it to a collector.',
  FLAGS,
  `Example: headwater gateway --data /var/lib/headwater --id barn-1 --collector mqtt://192.0.2.10:1884`,
);

/** Runs until a signal. `open` stands in another buffer, for tests. */
export async function runGateway(args: string[], open?: BufferOpener): Promise<void> {
  const { values, help } = parseFlags('gateway', args, FLAGS, 0);
  if (help) {
    process.stdout.write(GATEWAY_HELP);
    return;
  }
  const flags = { ...values, 'gateway-http': values['http'] ?? values['gateway-http'] };
  const config = loadConfig(GATEWAY_CONFIG, {
    flags,
    environment: process.env,
    file: values['config'] as string | undefined, // A flag with a value is a string.
  });
  const env = realEnv();
  const notify = stderrNotify('gateway', () => env.clock.wallUs() / 1000, {
    format: config['logging.format'],
    level: config['logging.level'],
  });
  failFast(notify);
  tellStrays([{ spec: GATEWAY_CONFIG, config }], 'a gateway', process.env, notify);
  privateFiles();
  const gateway = new Gateway(env, config, notify, open);
  gateway.onFatal = (error) => {
    failProcess(error);
    process.exit();
  };
  await serve({
    start: async () => {
      const { mqtt, mqtts, ws, wss, http } = await gateway.start();
      process.stdout.write(readyLine({ mqtt, mqtts, ws, wss, http }));
      tellSystemd(process.env);
    },
    close: () => gateway.close(),
    waitsFor: () => gateway.waitsFor,
    notify,
  });
}

export async function main(args: string[]): Promise<void> {
  try {
    await runGateway(args);
  } catch (error) {
    failProcess(error);
    process.exit();
  }
}

/** The command `headwater`: finds the subcommand and loads only what it needs. */
import { failProcess } from '../shared/config/process.ts';
import { HeadwaterError } from '../shared/errors.ts';

export interface Command {
  about: string;
  run: (args: string[]) => Promise<void>;
}

export const COMMANDS: Record<string, Command> = {
  up: {
    about: 'Run both in one process with embedded defaults and sample data.',
    run: async (args) => await (await import('./up.ts')).up(args),
  },
  gateway: {
    about: 'Run a gateway: MQTT from devices, durable buffer, uplink.',
    run: async (args) => await (await import('../gateway/main.ts')).runGateway(args),
  },
  collector: {
    about: 'Run a collector: uplink, log, decode, store, API and page.',
    run: async (args) => await (await import('../collector/main.ts')).runCollector(args),
  },
  publish: {
    about: 'Publish one message and wait for its acknowledgement.',
    run: async (args) => await (await import('./publish.ts')).publish(args),
  },
  replay: {
    about: 'Publish a CSV file as its devices over MQTT.',
    run: async (args) => await (await import('./replay.ts')).replayCommand(args),
  },
  query: {
    about: 'Ask a collector for readings.',
    run: async (args) => await (await import('./query.ts')).query(args),
  },
  ledger: {
    about: 'Say whether anything is missing, and what.',
    run: async (args) => await (await import('./ledger.ts')).ledger(args),
  },
  quarantine: {
    about: 'See what could not be decoded, and decode it again.',
    run: async (args) => await (await import('./quarantine.ts')).quarantine(args),
  },
  lake: {
    about: 'Say what is in the lake.',
    run: async (args) => await (await import('./lake.ts')).lake(args),
  },
  batch: {
    about: 'List batch jobs, and run them for days.',
    run: async (args) => await (await import('./batch.ts')).batch(args),
  },
  rebuild: {
    about: 'Make readings, store and results again from raw.',
    run: async (args) => await (await import('./rebuild.ts')).rebuild(args),
  },
  doctor: {
    about: 'Check disk, clock, log, store and lake.',
    run: async (args) => await (await import('./doctor.ts')).doctor(args),
  },
  password: {
    about: 'Make a line for the password file.',
    run: async (args) => await (await import('./password.ts')).password(args),
  },
  token: {
    about: 'Make an API token with scopes.',
    run: async (args) => (await import('./token.ts')).token(args),
  },
};

export function overview(): string {
  const width = Math.max(...Object.keys(COMMANDS).map((name) => name.length));
  const rows = Object.entries(COMMANDS).map(
    ([name, { about }]) => `  ${name.padEnd(width)}  ${about}`,
  );
  return `Usage: headwater COMMAND [flags]\n\nSensor readings from devices to dashboards: an ack means fsync, nothing acknowledged is lost or counted twice.\n\n${rows.join('\n')}\n\nheadwater COMMAND --help says more.\n`;
}

export async function main(args: string[]): Promise<void> {
  const [name, ...rest] = args;
  try {
    if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
      process.stdout.write(overview());
      if (name === undefined) process.exitCode = 1;
      return;
    }
    const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
    if (command === undefined) {
      throw new HeadwaterError(
        'CONFIG_INVALID',
        `'${name}' is no command: headwater --help lists them`,
      );
    }
    await command.run(rest);
  } catch (error) {
    failProcess(error);
    // A server that failed to start may have opened handles: nothing of it is to go on.
    process.exit();
  }
}

/**
 * The commands, a row each: what it is for, and how its module is loaded when it is asked for. The overview, `help`,
 * the completion and docs/commands.md come from this table; a command is its own file and one row here.
 */
export interface CommandModule {
  /** What `--help` prints. */
  help: string;
  run: (args: string[]) => Promise<void> | void;
}

export interface Command {
  about: string;
  load: () => Promise<CommandModule>;
}

export const COMMANDS: Record<string, Command> = {
  up: {
    about: 'Run both in one process with embedded defaults and sample data.',
    load: async () => {
      const { UP_HELP: help, up: run } = await import('./up.ts');
      return { help, run };
    },
  },
  gateway: {
    about: 'Run a gateway: MQTT from devices, durable buffer, uplink.',
    load: async () => {
      const { GATEWAY_HELP: help, runGateway } = await import('../gateway/main.ts');
      return { help, run: (args) => runGateway(args) };
    },
  },
  collector: {
    about: 'Run a collector: uplink, log, decode, store, API and page.',
    load: async () => {
      const { COLLECTOR_HELP: help, runCollector: run } = await import('../collector/main.ts');
      return { help, run };
    },
  },
  publish: {
    about: 'Publish one message and wait for its acknowledgement.',
    load: async () => {
      const { PUBLISH_HELP: help, publish: run } = await import('./publish.ts');
      return { help, run };
    },
  },
  replay: {
    about: 'Publish a CSV file as its devices over MQTT.',
    load: async () => {
      const { REPLAY_HELP: help, replayCommand: run } = await import('./replay.ts');
      return { help, run };
    },
  },
  simulate: {
    about: 'Publish as a fleet of made-up sensors.',
    load: async () => {
      const { SIMULATE_HELP: help, simulateCommand: run } = await import('./simulate.ts');
      return { help, run };
    },
  },
  try: {
    about: 'Say what a message would become; needs no server.',
    load: async () => {
      const { TRY_HELP: help, tryMessage: run } = await import('./try.ts');
      return { help, run };
    },
  },
  query: {
    about: 'Ask a collector for readings.',
    load: async () => {
      const { QUERY_HELP: help, query: run } = await import('./query.ts');
      return { help, run };
    },
  },
  explain: {
    about: 'Say where a point comes from, and what was made of it.',
    load: async () => {
      const { EXPLAIN_HELP: help, explain: run } = await import('./explain.ts');
      return { help, run };
    },
  },
  tail: {
    about: 'Watch readings as they arrive.',
    load: async () => {
      const { TAIL_HELP: help, tail: run } = await import('./tail.ts');
      return { help, run };
    },
  },
  ledger: {
    about: 'Say whether anything is missing, and what.',
    load: async () => {
      const { LEDGER_HELP: help, ledger: run } = await import('./ledger.ts');
      return { help, run };
    },
  },
  audit: {
    about: 'Compare what log, lake and store have, and put right what differs.',
    load: async () => {
      const { AUDIT_HELP: help, audit: run } = await import('./audit.ts');
      return { help, run };
    },
  },
  quarantine: {
    about: 'See what could not be decoded, and decode it again.',
    load: async () => {
      const { QUARANTINE_HELP: help, quarantine: run } = await import('./quarantine.ts');
      return { help, run };
    },
  },
  mapping: {
    about: 'Try a mapping file on messages before it is in force.',
    load: async () => {
      const { MAPPING_HELP: help, mapping: run } = await import('./mapping.ts');
      return { help, run };
    },
  },
  lake: {
    about: 'Say what is in the lake.',
    load: async () => {
      const { LAKE_HELP: help, lake: run } = await import('./lake.ts');
      return { help, run };
    },
  },
  batch: {
    about: 'List batch jobs, and run them for days.',
    load: async () => {
      const { BATCH_HELP: help, batch: run } = await import('./batch.ts');
      return { help, run };
    },
  },
  rebuild: {
    about: 'Make readings, store and results again from raw.',
    load: async () => {
      const { REBUILD_HELP: help, rebuild: run } = await import('./rebuild.ts');
      return { help, run };
    },
  },
  doctor: {
    about: 'Check a configuration and all that it names, disk, clock, log, store and lake.',
    load: async () => {
      const { DOCTOR_HELP: help, doctor: run } = await import('./doctor.ts');
      return { help, run };
    },
  },
  prove: {
    about: 'Try this machine and its disk: kills, a full buffer, fsync, the years of the card.',
    load: async () => {
      const { PROVE_HELP: help, prove: run } = await import('./prove.ts');
      return { help, run };
    },
  },
  'contract-test': {
    about: 'Prove an adapter by the suites of its contract.',
    load: async () => {
      const { CONTRACT_TEST_HELP: help, contractTest: run } = await import('./contract-test.ts');
      return { help, run };
    },
  },
  flash: {
    about: 'Make cards of gateways from a stock image, one or many.',
    load: async () => {
      const { FLASH_HELP: help, flash: run } = await import('./flash.ts');
      return { help, run };
    },
  },
  enroll: {
    about: 'Make join tokens for gateways, list them, or revoke a gateway.',
    load: async () => {
      const { ENROLL_HELP: help, enroll: run } = await import('./enroll.ts');
      return { help, run };
    },
  },
  gateways: {
    about: 'List the gateways: connected, last seen, site, certificate.',
    load: async () => {
      const { GATEWAYS_HELP: help, gateways: run } = await import('./gateways.ts');
      return { help, run };
    },
  },
  config: {
    about: 'Declare settings of gateways from afar, and see how far they have come.',
    load: async () => {
      const { CONFIG_HELP: help, config: run } = await import('./config.ts');
      return { help, run };
    },
  },
  password: {
    about: 'Make a line for the password file.',
    load: async () => {
      const { PASSWORD_HELP: help, password: run } = await import('./password.ts');
      return { help, run };
    },
  },
  token: {
    about: 'Make an API token with scopes.',
    load: async () => {
      const { TOKEN_HELP: help, token: run } = await import('./token.ts');
      return { help, run };
    },
  },
  completion: {
    about: 'Print what completes commands and flags in bash, zsh or fish.',
    load: async () => {
      const { COMPLETION_HELP: help, completion } = await import('./completion.ts');
      return { help, run: (args) => completion(args, COMMANDS) };
    },
  },
};

export function overview(): string {
  const width = Math.max(...Object.keys(COMMANDS).map((name) => name.length));
  const rows = Object.entries(COMMANDS).map(
    ([name, { about }]) => `  ${name.padEnd(width)}  ${about}`,
  );
  return `Usage: headwater COMMAND [flags]\n\nSensor readings from devices to dashboards: an ack means fsync, nothing acknowledged is lost or counted twice.\n\n${rows.join('\n')}\n\nheadwater help COMMAND says more; headwater --version says which this is. Exit codes: 0 done, 1 failed or refused, 2 the command line is wrong; a command that has others says so in its help.\n`;
}

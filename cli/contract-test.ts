/**
 * `headwater contract-test PACKAGE`: runs the contracts' suites on anybody's adapter, and says what holds, what does not
 * and what was left out, with its figures. Ends with 1 when something does not hold.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AdapterContext } from '../contracts/context.ts';
import {
  KINDS,
  type AnyDefinition,
  type BatchEngineDefinition,
  type CodecDefinition,
  type Kind,
  type LogDefinition,
  type ObjectStoreDefinition,
  type StoreDefinition,
} from '../contracts/define.ts';
import type { Log } from '../contracts/log.ts';
import type { OptionsOf, OptionsSpec } from '../contracts/options.ts';
import type { Result } from '../contracts/suite/runner.ts';
import { definitions, optionsOf } from '../collector/adapters.ts';
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { adapterName } from '../shared/config/spec.ts';
import { HeadwaterError } from '../shared/errors.ts';

const FLAGS: Flags = {
  option: {
    value: 'NAME=VALUE',
    about: 'An option of the adapter. May be repeated.',
    multiple: true,
  },
  kind: { value: 'KIND', about: `Only this kind: ${KINDS.join(', ')}.`, default: 'all it has' },
  only: { value: 'TEXT', about: 'Only cases whose name holds this.' },
  crash: {
    value: 'COMMAND',
    about:
      'Shell command that ends the server as a power cut would, starts it again and returns when it answers; without it those cases are skipped.',
  },
};

export const CONTRACT_TEST_HELP = helpText(
  'contract-test PACKAGE[://ADDRESS] [flags]',
  'Runs the suites of the contracts on an adapter: a package, or a file. Secrets come from the environment (HEADWATER_NAME_OPTION). What it writes on a server begins with contract-, and is left there.',
  FLAGS,
  `Example: headwater contract-test ./my-store/index.js`,
);

interface Subject {
  address: string;
  options: OptionsOf<OptionsSpec>;
  crash: (() => Promise<void>) | undefined;
  only: string;
}

interface Report {
  results: Result[];
  figures: string[];
}

type Tell = (result: Result) => void;

function shell(command: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, { shell: true, stdio: ['ignore', 'inherit', 'inherit'] });
    child.on('error', reject);
    child.on('exit', (code) =>
      code === 0 ? resolve() : reject(new Error(`--crash '${command}' ended with ${code}`)),
    );
  });
}

/** Suites are loaded when they are run: a command that needs none of them does not pay for them. */
const SUITES: Record<
  Kind,
  (definition: AnyDefinition, subject: Subject, tell: Tell) => Promise<Report>
> = {
  log: async (definition, { address, options, crash, only }, tell) => {
    const { logFigures, runLogSuite } = await import('../contracts/suite/log.ts');
    // `kind` says what it is: the package's own types are checked where it is compiled.
    const { supports, create } = definition as unknown as LogDefinition;
    const tested = {
      supports,
      create: (place: object): Log =>
        create({
          address,
          options,
          notify: () => undefined,
          nowMs: () => Date.now(),
          retired: [],
          ...(place as Pick<
            Parameters<LogDefinition['create']>[0],
            'namespace' | 'folder' | 'topics' | 'partitions'
          >),
        }),
      ...(crash === undefined ? {} : { crash }),
    };
    const results = await runLogSuite(tested, tell, only);
    return { results, figures: only === '' ? await logFigures(tested) : [] };
  },
  store: async (definition, subject, tell) => {
    const { runStoreSuite } = await import('../contracts/suite/store.ts');
    const { supports, create } = definition as unknown as StoreDefinition;
    const { crash, only } = subject;
    const crashing = crash === undefined ? {} : { crash };
    return await onDisk(subject, async (context) => ({
      results: await runStoreSuite(
        { supports, create: () => create(context), ...crashing },
        tell,
        only,
      ),
      figures: [],
    }));
  },
  objectStore: async (definition, subject, tell) => {
    const { runObjectStoreSuite } = await import('../contracts/suite/object-store.ts');
    const { create } = definition as unknown as ObjectStoreDefinition;
    const { crash, only } = subject;
    const crashing = crash === undefined ? {} : { crash };
    return await onDisk(subject, async (context) => ({
      results: await runObjectStoreSuite(
        { create: () => create(context), ...crashing },
        tell,
        only,
      ),
      figures: [],
    }));
  },
  batchEngine: async (definition, subject, tell) => {
    const { runBatchEngineSuite } = await import('../contracts/suite/batch-engine.ts');
    const { writeBatchData } = await import('./batch-data.ts');
    const { supports, create } = definition as unknown as BatchEngineDefinition;
    return await onDisk(subject, async (context) => {
      const data = await writeBatchData(join(context.folder, 'lake'));
      const tested = { supports, data, create: () => create(context) };
      return { results: await runBatchEngineSuite(tested, tell, subject.only), figures: [] };
    });
  },
  codec: async (definition, subject, tell) => {
    const { runCodecSuite } = await import('../contracts/suite/codec.ts');
    const { supports, create } = definition as unknown as CodecDefinition;
    return await onDisk(subject, async (context) => ({
      results: await runCodecSuite({ supports, create: () => create(context) }, tell, subject.only),
      figures: [],
    }));
  },
};

/** With a folder that is gone afterwards. */
async function onDisk(
  { address, options }: Subject,
  work: (context: AdapterContext) => Promise<Report>,
): Promise<Report> {
  const folder = await mkdtemp(join(tmpdir(), 'headwater-contract-'));
  try {
    return await work({
      address,
      options,
      folder,
      notify: () => undefined,
      nowMs: () => Date.now(),
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function line({ name, outcome, reason, ms }: Result): string {
  if (outcome === 'passed') return `  ok      ${name} (${ms} ms)\n`;
  if (outcome === 'skipped') return `  skipped ${name}: ${reason}\n`;
  return `  FAILED  ${name} (${ms} ms)\n          ${reason.replaceAll('\n', '\n          ')}\n`;
}

/** Throws USAGE. */
function query(texts: readonly string[]): URLSearchParams {
  const found = new URLSearchParams();
  for (const text of texts) {
    const at = text.indexOf('=');
    if (at < 1) throw new HeadwaterError('USAGE', `--option ${text}: it is NAME=VALUE`);
    found.set(text.slice(0, at), text.slice(at + 1));
  }
  return found;
}

export async function contractTest(args: string[]): Promise<void> {
  const { values, lists, positionals, help } = parseFlags('contract-test', args, FLAGS, 1);
  if (help) {
    process.stdout.write(CONTRACT_TEST_HELP);
    return;
  }
  const [value] = positionals;
  if (value === undefined)
    throw new HeadwaterError('USAGE', 'name a package or a file: headwater contract-test PACKAGE');
  const [reference = '', address = ''] = value.split('://');
  const command = values['crash'];
  const given = query(lists['option'] ?? []);
  const wanted = (await definitions(reference, 'contract-test')).filter(
    ({ kind }) => values['kind'] === undefined || values['kind'] === kind,
  );
  let failed = wanted.length === 0 ? 1 : 0;
  for (const definition of wanted) {
    const { kind, name, contract } = definition;
    const suite = SUITES[kind];
    process.stdout.write(`${kind} ${name}, written for version ${contract} of the contract\n`);
    const sources = { environment: process.env, values: new Map() };
    const subject: Subject = {
      address,
      options: optionsOf(adapterName(reference), definition.options, given, sources),
      crash: typeof command === 'string' ? () => shell(command) : undefined,
      only: typeof values['only'] === 'string' ? values['only'] : '',
    };
    const tell: Tell = (result) => process.stdout.write(line(result));
    const { results, figures } = await suite(definition, subject, tell);
    const count = (outcome: Result['outcome']): number =>
      results.filter((each) => each.outcome === outcome).length;
    for (const figure of figures) process.stdout.write(`  ${figure}\n`);
    process.stdout.write(
      `${kind} ${name}: ${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped\n`,
    );
    failed += count('failed') + (results.length === 0 ? 1 : 0);
  }
  process.exit(failed === 0 ? 0 : 1);
}

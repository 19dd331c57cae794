/** `headwater doctor`: looks at what the servers will stand on and says what is not as it should be. */
import { open, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder } from '../shared/config/folder.ts';
import { COLLECTOR_CONFIG } from '../collector/config.ts';
import { createObjectStore } from '../collector/lake/open.ts';
import { createLog } from '../collector/log/open.ts';
import { createStore } from '../collector/store/open.ts';
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { loadConfig } from '../shared/config/spec.ts';
import { messageOf } from '../shared/errors.ts';

const FLAGS: Flags = {
  data: { value: 'DIR', about: 'Data folder to try.', default: './headwater-data' },
  log: { value: 'LOG', about: 'Log to try, such as kafka://HOST:PORT.' },
  store: { value: 'STORE', about: 'Store to try, such as influxdb://HOST:PORT/ORG/BUCKET.' },
  lake: { value: 'LAKE', about: 'Lake to try, such as s3://BUCKET/PREFIX.' },
  http: { value: 'HOST:PORT', about: 'A running collector to ask for its warnings.' },
};

export const DOCTOR_HELP = helpText(
  'doctor [flags]',
  'Checks what Headwater stands on: Node, disk, fsync, clock, log, store and lake. Ends non-zero when something fails.',
  FLAGS,
);

type Finding = { level: 'ok' | 'warn' | 'fail'; text: string };

const FSYNCS = 20;
/** Slower than an SD card should be. */
const FSYNC_MS_MAX = 100;
const FREE_BYTES_MIN = 256 * 1024 * 1024;

function node(): Finding {
  const major = Number(process.versions.node.split('.')[0]);
  return major >= 20
    ? { level: 'ok', text: `Node ${process.versions.node}` }
    : { level: 'fail', text: `Node ${process.versions.node}: 20 or newer is needed` };
}

function clock(): Finding {
  const now = new Date();
  return now.getUTCFullYear() >= 2025
    ? { level: 'ok', text: `the clock says ${now.toISOString()}` }
    : {
        level: 'warn',
        text: `the clock says ${now.toISOString()}: devices without a time of their own would be stored there`,
      };
}

async function disk(folder: string): Promise<Finding[]> {
  const path = join(folder, `doctor-${process.pid}`);
  try {
    await makeFolder(folder);
    const { bavail, bsize } = await statfs(folder);
    const free = bavail * bsize;
    const file = await open(path, 'w');
    const times: number[] = [];
    try {
      for (let i = 0; i < FSYNCS; i++) {
        await file.write(Buffer.alloc(4096, i));
        const before = performance.now();
        await file.datasync();
        times.push(performance.now() - before);
      }
    } finally {
      await file.close();
      await rm(path, { force: true });
    }
    const median = times.sort((a, b) => a - b)[FSYNCS / 2] ?? 0;
    return [
      free < FREE_BYTES_MIN
        ? { level: 'warn', text: `${folder}: only ${Math.round(free / 1e6)} MB free` }
        : { level: 'ok', text: `${folder}: ${Math.round(free / 1e6)} MB free` },
      median > FSYNC_MS_MAX
        ? {
            level: 'warn',
            text: `${folder}: an fsync takes ${median.toFixed(1)} ms (median of ${FSYNCS}): a lone message waits that long`,
          }
        : {
            level: 'ok',
            text: `${folder}: an fsync takes ${median.toFixed(1)} ms (median of ${FSYNCS})`,
          },
    ];
  } catch (error) {
    return [{ level: 'fail', text: `${folder} cannot be written: ${messageOf(error)}` }];
  }
}

async function server(
  flags: Record<string, string | boolean | undefined>,
  part: 'log' | 'store' | 'lake',
): Promise<Finding[]> {
  const name = flags[part];
  if (typeof name !== 'string' || ['embedded', 'local', 'none'].includes(name)) return [];
  const config = loadConfig(COLLECTOR_CONFIG, {
    flags: { [part]: name },
    environment: process.env,
  });
  const said: string[] = [];
  const context = {
    config,
    notify: ({ text }: { text: string }) => said.push(text),
    nowMs: () => Date.now(),
    token: process.env['HEADWATER_INFLUXDB_TOKEN'],
  };
  try {
    if (part === 'log') {
      const log = await createLog(context);
      await log.open();
      const warnings = log.warnings();
      await log.close();
      return [
        { level: 'ok', text: `log ${name} answers` },
        ...warnings.map((text): Finding => ({ level: 'warn', text })),
      ];
    }
    if (part === 'lake') {
      const lake = await createObjectStore(context);
      await lake.open();
      await lake.close();
      return [{ level: 'ok', text: `lake ${lake.address} answers` }];
    }
    const store = await createStore(context);
    await store.open();
    await store.latest({ measurement: 'doctor' });
    const warnings = store.warnings();
    await store.close();
    return [
      { level: 'ok', text: `store ${name} answers` },
      ...warnings.map((text): Finding => ({ level: 'warn', text })),
    ];
  } catch (error) {
    return [{ level: 'fail', text: messageOf(error) }];
  }
}

async function collector(address: string | boolean | undefined): Promise<Finding[]> {
  if (typeof address !== 'string') return [];
  try {
    const { ask } = await import('./api.ts');
    const {
      warnings,
      blocked,
      waiting = [],
    } = (await ask(address, '/api/v1/status')) as {
      warnings: string[];
      blocked: string | null;
      /** Not from a collector of an older version. */
      waiting?: { name: string; why: string }[];
    };
    const findings: Finding[] = [{ level: 'ok', text: `collector ${address} answers` }];
    if (blocked !== null) findings.push({ level: 'fail', text: blocked });
    // What blocks all is one of them.
    for (const { name, why } of waiting)
      if (why !== blocked) findings.push({ level: 'fail', text: `${name} waits: ${why}` });
    return [...findings, ...warnings.map((text): Finding => ({ level: 'warn', text }))];
  } catch (error) {
    return [{ level: 'fail', text: messageOf(error) }];
  }
}

export async function doctor(args: string[]): Promise<void> {
  const { values, help } = parseFlags('doctor', args, FLAGS, 0);
  if (help) {
    process.stdout.write(DOCTOR_HELP);
    return;
  }
  const findings = [
    node(),
    clock(),
    ...(await disk(String(values['data'] ?? './headwater-data'))),
    ...(await server(values, 'log')),
    ...(await server(values, 'store')),
    ...(await server(values, 'lake')),
    ...(await collector(values['http'])),
  ];
  for (const { level, text } of findings) process.stdout.write(`${level.padEnd(4)}  ${text}\n`);
  process.exit(findings.some(({ level }) => level === 'fail') ? 1 : 0);
}

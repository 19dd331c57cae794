/** What an attack does to the servers' event loops and processors, by the probe in each of them. */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { temporaryFolder, type Headwater } from '../support/process.ts';

export interface Watched {
  /** The longest block, processor milliseconds of the main thread; of all processes. */
  blockMs: number;
  /** Those of more than 50 ms. */
  blocks: number;
  /** Of a core: the main threads', and all threads'. */
  mainLoad: number;
  load: number;
  /** Of JavaScript, and what it holds outside of its heap, when there was most memory; the rest is native. Bytes. */
  heapTotal: number;
  external: number;
}

/** As the probe writes it. */
interface Found {
  blockMs: number;
  blocks: number;
  mainMs: number;
  heapTotal: number;
  external: number;
}

const TICK_MS = 10;
/** In /proc/ID/stat behind the command: user and system. */
const [USER, SYSTEM] = [11, 12];

function spentMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(') ') + 2).split(' ');
  return (Number(fields[USER]) + Number(fields[SYSTEM])) * TICK_MS;
}

export class Watch {
  private readonly folder = temporaryFolder();
  private readonly profile: string;

  /** `profile`: a folder for CPU profiles, or ''. */
  constructor(profile: string) {
    this.profile = profile;
    if (profile !== '') mkdirSync(profile, { recursive: true });
  }

  environment(): Record<string, string> {
    const probe = fileURLToPath(new URL('probe.mjs', import.meta.url));
    return {
      NODE_OPTIONS: `--import=${probe}`,
      HEADWATER_PROBE: this.folder,
      ...(this.profile === '' ? {} : { HEADWATER_PROBE_PROFILE: '1' }),
    };
  }

  /** Ends with what is called. */
  begin(processes: readonly Headwater[], name: string): () => Promise<Watched> {
    const began = performance.now();
    const before = processes.map(({ pid }) => spentMs(pid));
    for (const { pid } of processes) process.kill(pid, 'SIGUSR2');
    return async () => {
      const passed = performance.now() - began;
      const after = processes.map(({ pid }) => spentMs(pid));
      for (const { pid } of processes) process.kill(pid, 'SIGUSR2');
      const found = await Promise.all(processes.map(({ pid }) => this.found(pid, name)));
      return {
        blockMs: Math.max(...found.map(({ blockMs }) => blockMs)),
        blocks: found.reduce((sum, { blocks }) => sum + blocks, 0),
        mainLoad: found.reduce((sum, { mainMs }) => sum + mainMs, 0) / passed,
        heapTotal: found.reduce((sum, each) => sum + each.heapTotal, 0),
        external: found.reduce((sum, each) => sum + each.external, 0),
        load: after.reduce((sum, ms, at) => sum + ms - (before[at] ?? 0), 0) / passed,
      };
    };
  }

  private async found(pid: number, name: string): Promise<Found> {
    const file = join(this.folder, String(pid));
    for (let tries = 0; !existsSync(`${file}.json`) && tries < 1000; tries++)
      await new Promise((resolve) => setTimeout(resolve, 20));
    const found = JSON.parse(readFileSync(`${file}.json`, 'utf8')) as Found;
    rmSync(`${file}.json`);
    if (this.profile !== '')
      renameSync(
        `${file}.cpuprofile`,
        join(this.profile, `${name.replaceAll(/\W+/g, '-')}.${pid}.cpuprofile`),
      );
    return found;
  }
}

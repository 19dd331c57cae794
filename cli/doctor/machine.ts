/**
 * What the machine gives: Node, the clock, and a folder to write to. A folder is tried with a file that has no name
 * (O_TMPFILE), so that nothing is ever seen there, and nothing stays when the command is killed.
 */
import { constants } from 'node:fs';
import { access, open, stat, statfs, type FileHandle } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { builtMs } from '../../shared/env/build.ts';
import { codeOf, messageOf } from '../../shared/errors.ts';
import { fail, ok, warn, type Finding } from './finding.ts';

const FSYNCS = 20;
/** Slower than an SD card should be. */
const FSYNC_MS_MAX = 100;
const FREE_BYTES_WISHED = 256 * 1024 * 1024;
/** Linux's number, which Node does not name; the folder's own flag differs between processors. */
const NAMELESS = 0o20000000 | constants.O_DIRECTORY | constants.O_RDWR;
/** Of file systems that have no files without a name. */
const NO_NAMELESS = new Set(['EOPNOTSUPP', 'ENOTSUP', 'EISDIR', 'EINVAL', 'ENOENT']);

export function node(version = process.versions.node): Finding {
  return Number(version.split('.')[0]) >= 20
    ? ok(`Node ${version}`)
    : fail(`Node ${version}: 20 or newer is needed`);
}

/** `getsTime`: a gateway that nobody answers for learns the time from its collector. */
export function clock(nowMs: number, getsTime: boolean): Finding {
  const now = new Date(nowMs).toISOString();
  if (nowMs >= builtMs()) return ok(`the clock says ${now}`);
  const why = `the clock says ${now}, which is before this version was made`;
  return getsTime
    ? warn(`${why}: readings wait at the collector until the uplink has shown the time; set it`)
    : fail(`${why}: readings would be stored at wrong times; set it (timedatectl, NTP)`);
}

/** The folder, or the nearest above it that is there. Rejects with the file system's error. */
async function standing(folder: string): Promise<string> {
  for (let at = resolve(folder); ; at = dirname(at)) {
    try {
      if (!(await stat(at)).isDirectory()) throw new Error(`${at} is not a folder`);
      return at;
    } catch (error) {
      if (codeOf(error) !== 'ENOENT' || dirname(at) === at) throw error;
    }
  }
}

/** Median of some fsyncs, milliseconds; undefined where only the permission could be asked. */
async function fsyncMs(folder: string): Promise<number | undefined> {
  await access(folder, constants.W_OK | constants.X_OK);
  // Elsewhere the number means something else.
  if (process.platform !== 'linux') return undefined;
  let file: FileHandle;
  try {
    file = await open(folder, NAMELESS, 0o600);
  } catch (error) {
    if (NO_NAMELESS.has(codeOf(error))) return undefined;
    throw error;
  }
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
  }
  return times.sort((a, b) => a - b)[FSYNCS / 2];
}

/** Whether a folder is there or can be made, can be written, and has room. `freeMin`: with less the server stops. */
export async function writable(folder: string, freeMin: number): Promise<Finding[]> {
  try {
    const at = await standing(folder);
    const { bavail, bsize } = await statfs(at);
    const free = bavail * bsize;
    const median = await fsyncMs(at);
    const mb = `${Math.round(free / 1e6)} MB free`;
    const there = at === resolve(folder) ? 'can be written' : `is not there yet and can be made`;
    const findings = [ok(`${folder} ${there}`)];
    if (free <= freeMin) findings.push(fail(`${folder}: only ${mb}: make room, or choose another`));
    else if (free < FREE_BYTES_WISHED)
      findings.push(warn(`${folder}: only ${mb}: make room before it fills`));
    else findings.push(ok(`${folder}: ${mb}`));
    if (median === undefined) return findings;
    const took = `${folder}: an fsync takes ${median.toFixed(1)} ms (median of ${FSYNCS})`;
    return [
      ...findings,
      median > FSYNC_MS_MAX ? warn(`${took}: a lone message waits that long`) : ok(took),
    ];
  } catch (error) {
    return [
      fail(
        `${folder} cannot be written: ${messageOf(error)}; make it writable for this user, or choose another with --data`,
      ),
    ];
  }
}

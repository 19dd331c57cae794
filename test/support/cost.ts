/** What a test file costs: processor time of its worker and of all children that it started, as Linux counts it. */
import { readFileSync } from 'node:fs';

/** A tick of the kernel's clocks, which /proc counts in. */
const TICK_MS = 10;
/** In /proc/ID/stat after the command: user, system, and both of the children that have ended and were waited for. */
const [FIRST, TIMES] = [11, 4];

function processorMs(id: number | string): number {
  try {
    const stat = readFileSync(`/proc/${id}/stat`, 'latin1');
    const times = stat
      .slice(stat.lastIndexOf(') ') + 2)
      .split(' ')
      .slice(FIRST, FIRST + TIMES);
    return times.reduce((sum, ticks) => sum + Number(ticks) * TICK_MS, 0);
  } catch {
    return 0; // It has just ended, or this is no Linux.
  }
}

/** Of this process and its children, those that still run as well. */
export function spentMs(): number {
  let children: string[] = [];
  try {
    const list = readFileSync(`/proc/self/task/${process.pid}/children`, 'latin1');
    children = list.split(' ').filter(Boolean);
  } catch {
    // No Linux, or one without this file.
  }
  return ['self', ...children].reduce((sum, id) => sum + processorMs(id), 0);
}

let told = 0;

/** What was spent since the last call: a worker runs several files, and its start is its first one's. */
export function spentSince(): number {
  const spent = spentMs() - told;
  told += spent;
  return spent;
}

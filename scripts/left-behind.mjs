// What a run of tests has started and not stopped: found by a mark in its environment, which every child inherits.
import { readFileSync, readdirSync } from 'node:fs';

export const MARK = 'HEADWATER_TEST_RUN';

/** Processes of this user with that mark, but for this one: id and command. Elsewhere than on Linux: none. */
export function leftBehind(mark) {
  let ids;
  try {
    ids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  } catch {
    return [];
  }
  return ids.flatMap((id) => {
    if (Number(id) === process.pid) return [];
    try {
      const environment = readFileSync(`/proc/${id}/environ`, 'latin1').split('\0');
      if (!environment.includes(`${MARK}=${mark}`)) return [];
      // A process that has ended and is not yet waited for has no command.
      const command = readFileSync(`/proc/${id}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
      return command === '' ? [] : [{ id: Number(id), command }];
    } catch {
      return []; // It has ended meanwhile, or is somebody else's.
    }
  });
}

/** Waits a moment for what is about to end, then names what stays and ends it by its id. */
export async function endLeftBehind(mark, say, graceMs = 3000) {
  const deadline = Date.now() + graceMs;
  let left = leftBehind(mark);
  while (left.length > 0 && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    left = leftBehind(mark);
  }
  for (const { id, command } of left) {
    say(`left behind and killed: ${id} ${command.slice(0, 200)}`);
    try {
      process.kill(id, 'SIGKILL');
    } catch {
      // It has just ended.
    }
  }
  return left.length;
}

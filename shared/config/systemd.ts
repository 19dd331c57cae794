/**
 * What systemd wants to hear of a unit with Type=notify and WatchdogSec. Node has no datagram sockets of the file system,
 * so systemd's own command speaks (the unit needs NotifyAccess=all). Elsewhere nothing is done.
 */
import { execFile } from 'node:child_process';

const say = (state: string): void => {
  // It is best effort: what systemd does not hear it takes for a process that hangs.
  execFile('systemd-notify', [state], () => undefined);
};

/** Ready now, and alive as long as the event loop turns: a process that hangs is started again. */
export function tellSystemd(environment: NodeJS.ProcessEnv): void {
  if (environment['NOTIFY_SOCKET'] === undefined) return;
  say('READY=1');
  const everyMs = Number(environment['WATCHDOG_USEC'] ?? 0) / 1000 / 3;
  if (everyMs > 0) setInterval(() => say('WATCHDOG=1'), everyMs).unref();
}

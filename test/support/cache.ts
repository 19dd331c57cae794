import { homedir } from 'node:os';
import { join } from 'node:path';

/** What is fetched once a machine: servers, clients, guests (test/services/install.sh). */
export const CACHE =
  process.env['HEADWATER_CACHE'] ??
  join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'headwater');

/** Python with paho. */
export const PAHO_PYTHON = join(CACHE, 'paho-2.1.0', 'bin', 'python');

/** How a server process says what it says: settings of both sides. */
import { LEVELS, LOG_FORMATS } from '../telemetry/log.ts';
import type { ConfigSpec } from './spec.ts';

/** `log` is the collector's log of records: this one has a name of its own. */
export const LOGGING_SETTINGS = {
  'logging.format': {
    type: 'string',
    default: 'text',
    flag: 'log-format',
    choices: LOG_FORMATS,
    about:
      'Lines on standard error: `text`, or `json` with time, level, part, event and text. Where systemd reads them, each begins with its priority.',
  },
  'logging.level': {
    type: 'string',
    default: 'info',
    flag: 'log-level',
    choices: LEVELS,
    about: 'The least that is written: `info`, `warn` or `error`.',
  },
} as const satisfies ConfigSpec;

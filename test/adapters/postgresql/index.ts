/** What the package exports: `--log postgresql://HOST:PORT/DATABASE`. */
import { defineLog } from '@headwater/contracts';
import { PostgresLog } from './log.ts';

export default defineLog({
  name: 'postgresql',
  about: 'The log in a schema of PostgreSQL.',
  options: {
    user: { type: 'string', default: 'headwater', about: 'Who it connects as.' },
    password: { type: 'string', default: '', secret: true, about: 'Of that user.' },
    leaseMs: {
      type: 'integer',
      default: 10_000,
      min: 1000,
      max: 600_000,
      unit: 'milliseconds',
      about: 'After so long without a sign of life a member’s partitions go to others.',
    },
  },
  supports: {
    atomicStep: true,
    partitions: true,
    processes: true,
    recordBytesMax: 128 * 1024 * 1024,
  },
  create: (context) => new PostgresLog(context),
});

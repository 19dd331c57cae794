/** What the package exports: `--log postgresql://HOST:PORT/DATABASE`, and the same behind `--store`. */
import { defineLog, defineStore } from '@headwater/contracts';
import { PostgresLog } from './log.ts';
import { PostgresStore } from './store.ts';

const ACCOUNT = {
  user: { type: 'string', default: 'headwater', about: 'Who it connects as.' },
  password: { type: 'string', default: '', secret: true, about: 'Of that user.' },
} as const;

export default defineLog({
  name: 'postgresql',
  about: 'The log in a schema of PostgreSQL.',
  options: {
    ...ACCOUNT,
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

export const postgresqlStore = defineStore({
  name: 'postgresql',
  about: 'Readings in a schema of PostgreSQL.',
  options: {
    ...ACCOUNT,
    schema: { type: 'string', default: 'headwater', about: 'Where its tables are.' },
  },
  supports: { progress: true, remove: 'rows', aggregates: false },
  create: (context) => new PostgresStore(context),
});

/** What the package exports: `--log redis://HOST:PORT`. */
import { defineLog } from '@headwater/contracts';
import { RedisLog } from './log.ts';

export const REDIS_RECORD_BYTES_MAX = 128 * 1024 * 1024;

export default defineLog({
  name: 'redis',
  about: 'The log on Redis Streams.',
  options: {
    user: { type: 'string', default: '', about: 'Who it says it is, where Redis has ACLs.' },
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
    recordBytesMax: REDIS_RECORD_BYTES_MAX,
  },
  create: (context) => new RedisLog(context),
});

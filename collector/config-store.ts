/** The store's own settings, beside its address. */
import type { ConfigSpec } from '../shared/config/spec.ts';

const MIB = 1024 * 1024;

export const STORE_SETTINGS = {
  'store.tokenFile': {
    type: 'string',
    default: '',
    about:
      "File (mode 0600) with InfluxDB's token, instead of HEADWATER_INFLUXDB_TOKEN; read again when it changes.",
  },
  'store.caFile': {
    type: 'string',
    default: '',
    about:
      'Certificates (PEM) of authorities that may vouch for the server of `influxdbs://`, beside the usual ones.',
  },
  'store.fillReadingsPerSecond': {
    type: 'integer',
    default: 20_000,
    min: 1,
    max: 10_000_000,
    unit: 'readings',
    about:
      'How fast a store that lacks what the log no longer has is filled from the lake at most, a second; what comes in goes first.',
  },
  'store.memoryBytes': {
    type: 'integer',
    default: 256 * MIB,
    min: 64 * MIB,
    max: 2 ** 50,
    unit: 'bytes',
    about: 'Memory that the embedded store may take.',
  },
} as const satisfies ConfigSpec;

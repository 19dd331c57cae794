/** How gateways come to a collector: a part of its table of settings. */
import type { ConfigSpec } from '../shared/config/spec.ts';

export const UPLINK_SETTINGS = {
  'uplink.listen': {
    type: 'address',
    default: '127.0.0.1:1884',
    flag: 'uplink',
    about: 'Where gateways connect.',
  },
  'uplinks.listen': {
    type: 'address',
    default: '',
    flag: 'uplinks',
    about:
      "Where gateways connect by TLS. One that shows a certificate speaks as that certificate's common name and as nobody else. Empty: nowhere.",
  },
  'uplink.secretFile': {
    type: 'string',
    default: '',
    flag: 'uplink-secret-file',
    about: 'File (mode 0600) with the secret that gateways send. Needed beyond loopback.',
  },
  'enroll.listen': {
    type: 'address',
    default: '',
    flag: 'enroll',
    about:
      'Where gateways trade a join token for a certificate, and renew it (HTTPS, RFC 7030). With it the collector has an authority of its own, whose certificates `uplinks.listen` shows and takes. Empty: nowhere.',
  },
  'enroll.names': {
    type: 'list',
    default: [],
    flag: 'enroll-names',
    about:
      'Host names and addresses under which gateways reach this collector; its certificate has them, join tokens name the first. Empty: the address of `enroll.listen`.',
  },
  'enroll.certificateDays': {
    type: 'integer',
    default: 365,
    min: 1,
    max: 3650,
    unit: 'days',
    about: "How long a gateway's certificate is good for; it is renewed at two thirds of that.",
  },
  'enroll.graceDays': {
    type: 'integer',
    default: 730,
    min: 0,
    max: 36_500,
    unit: 'days',
    about:
      'How long after its end a certificate can still be renewed by the gateway that has its key.',
  },
} as const satisfies ConfigSpec;

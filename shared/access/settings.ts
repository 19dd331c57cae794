/** Settings of who may come that gateway and collector have alike, and what is made of them. */
import type { ConfigOf, ConfigSpec } from '../config/spec.ts';
import { optionalSecret } from '../config/secrets.ts';
import type { Notify } from '../telemetry/log.ts';
import { CLIENT_CERTIFICATES, ServerTls, type ClientCertificates } from './tls.ts';
import { Tokens } from './tokens.ts';

/** `who` shows certificates: devices to a gateway, gateways to a collector. */
export const accessSettings = (who: string) =>
  ({
    'tls.certFile': {
      type: 'string',
      default: '',
      flag: 'tls-cert',
      about:
        'Certificate (PEM, with its chain) that this server shows. A new file is taken within seconds, and no connection is dropped for it.',
    },
    'tls.keyFile': {
      type: 'string',
      default: '',
      flag: 'tls-key',
      about: 'Its key (PEM, mode 0600).',
    },
    'tls.clientCaFile': {
      type: 'string',
      default: '',
      flag: 'tls-client-ca',
      about: `Authorities (PEM) whose certificates ${who} may show to say who they are.`,
    },
    'tls.crlFile': {
      type: 'string',
      default: '',
      about: 'Certificates of these authorities that no longer count (PEM).',
    },
    'tls.clientCertificates': {
      type: 'string',
      default: 'optional',
      choices: CLIENT_CERTIFICATES,
      about: `With authorities given: whether ${who} must show a certificate (required), may (optional), or are not asked (none).`,
    },
    'http.tls': {
      type: 'boolean',
      default: false,
      flag: 'http-tls',
      about: 'Serve the page and the API by HTTPS, with the certificate of `tls.certFile`.',
    },
    'http.tokensFile': {
      type: 'string',
      default: '',
      flag: 'tokens-file',
      about:
        'File (mode 0600) with API tokens and what each may do, a line each as `headwater token` prints it. Changes are taken within seconds.',
    },
    'http.tokenFile': {
      type: 'string',
      default: '',
      flag: 'token-file',
      about:
        'File (mode 0600) with the API token that HTTP clients send as `Authorization: Bearer`. Needed beyond loopback.',
    },
    'http.corsOrigins': {
      type: 'list',
      default: [],
      about:
        "Origins (`https://dash.example.org`, exactly) whose pages may call the API from a browser, with a token that they send themselves. Where no token is asked for, they may do all that it can. Empty: this server's own page alone.",
    },
    allowPlaintext: {
      type: 'boolean',
      default: false,
      flag: 'allow-plaintext',
      about:
        'Serve addresses beyond loopback, and send secrets to other machines, without TLS. Whoever shares the network can read and change everything.',
    },
  }) as const satisfies ConfigSpec;

export type AccessSettings = ConfigOf<ReturnType<typeof accessSettings>>;

export interface ServerAccess {
  /** Undefined where no certificate is given. */
  tls: ServerTls | undefined;
  clientCertificates: ClientCertificates;
  tokens: Tokens;
}

/** Throws CONFIG_INVALID for any file that is not as it has to be. */
export function openAccess(config: AccessSettings, notify: Notify): ServerAccess {
  const files = {
    certFile: config['tls.certFile'],
    keyFile: config['tls.keyFile'],
    caFile: config['tls.clientCaFile'],
    crlFile: config['tls.crlFile'],
  };
  return {
    tls:
      files.certFile === '' && files.keyFile === ''
        ? undefined
        : new ServerTls(files, 'TLS certificate', notify),
    clientCertificates:
      files.caFile === '' ? 'none' : (config['tls.clientCertificates'] as ClientCertificates), // One of the setting's choices.
    tokens: new Tokens(
      optionalSecret(config['http.tokenFile'], 'API token'),
      config['http.tokensFile'],
    ),
  };
}

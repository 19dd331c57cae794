/**
 * Certificates from files, taken anew when the files change without dropping a connection. TLS 1.2 is the least.
 * A key must be readable by its owner alone.
 */
import { X509Certificate, constants } from 'node:crypto';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { readPrivateFile } from '../config/secrets.ts';
import { readSettingFile } from '../config/user-file.ts';
import { processTime, wallMs } from '../env/env.ts';
import { HeadwaterError, messageOf } from '../errors.ts';
import type { Notify } from '../telemetry/log.ts';
import { WatchedFiles } from './watched.ts';

/** Whether clients are asked for a certificate. */
export const CLIENT_CERTIFICATES = ['none', 'optional', 'required'] as const;
export type ClientCertificates = (typeof CLIENT_CERTIFICATES)[number];

export interface TlsFiles {
  certFile: string;
  keyFile: string;
  /** Authorities for the other side's certificate; '' for none. */
  caFile: string;
  /** Certificates of the other side that no longer count; '' for none. */
  crlFile: string;
}

const MIN_VERSION = 'TLSv1.2';
/**
 * Of a server that looks at certificates. A resumed session brings none: Node takes one of TLS 1.3 that was begun without a
 * certificate for an authorized one, and none looks again whether the certificate of the first has expired. So there is a
 * whole handshake each time, and none in the middle of a connection.
 */
const WHOLE_HANDSHAKES = constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION;
/** Whether it has ended is looked at so often. */
const LOOK_MS = 5000;

/** Certificates of a PEM file. Throws CONFIG_INVALID. */
export function readCertificates(path: string, what: string): X509Certificate[] {
  const text = readSettingFile(path, what).toString('latin1');
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0)
    throw new HeadwaterError('CONFIG_INVALID', `${what}: ${path} holds no certificate`);
  try {
    return blocks.map((block) => new X509Certificate(block));
  } catch (error) {
    throw new HeadwaterError('CONFIG_INVALID', `${what}: ${path}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** One for each authority: of a text with several Node takes the first alone. Throws CONFIG_INVALID. */
function readLists(path: string, what: string): string[] {
  const text = readSettingFile(path, what).toString('latin1');
  const lists = text.match(/-----BEGIN X509 CRL-----[\s\S]+?-----END X509 CRL-----/g);
  if (lists !== null) return lists;
  throw new HeadwaterError('CONFIG_INVALID', `${what}: ${path} holds no list of certificates`);
}

/** Throws CONFIG_INVALID, naming the file. */
export function secureOptions(files: TlsFiles, what: string): SecureContextOptions {
  const { certFile, keyFile, caFile, crlFile } = files;
  if ((certFile === '') !== (keyFile === ''))
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `${what}: a certificate and its key go together; ${certFile === '' ? 'the certificate' : 'the key'} is missing`,
    );
  const options: SecureContextOptions = { minVersion: MIN_VERSION };
  if (certFile !== '') {
    options.cert = readSettingFile(certFile, `${what}: certificate`);
    options.key = readPrivateFile(keyFile, `${what}: key`);
  }
  if (caFile !== '') options.ca = readSettingFile(caFile, `${what}: authorities`);
  if (crlFile !== '') options.crl = readLists(crlFile, `${what}: revoked certificates`);
  try {
    createSecureContext(options);
  } catch (error) {
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `${what}: ${[certFile, keyFile, caFile, crlFile].filter(Boolean).join(', ')}: ${messageOf(error)}`,
      { cause: error },
    );
  }
  return options;
}

const serverOptions = (files: TlsFiles, what: string): SecureContextOptions => {
  const options = secureOptions(files, what);
  return files.caFile === '' ? options : { ...options, secureOptions: WHOLE_HANDSHAKES };
};

/** A server that takes new certificates. */
interface Renewable {
  setSecureContext(options: SecureContextOptions): void;
}

/** The certificate of servers; undefined files mean no TLS. */
export class ServerTls {
  private readonly files: TlsFiles;
  private readonly what: string;
  private readonly watched: WatchedFiles;
  private readonly notify: Notify;
  private readonly looking: NodeJS.Timeout;
  private ends: number | undefined;
  /** Why nobody who checks it believes the certificate in force; undefined while it is valid. */
  expired: string | undefined;
  private readonly servers = new Set<Renewable>();
  options: SecureContextOptions;
  /** Called when other certificates are revoked than before: who came in with one has to show it again. */
  onRevocation: () => void = () => undefined;

  /** Throws CONFIG_INVALID. */
  constructor(files: TlsFiles, what: string, notify: Notify) {
    this.files = files;
    this.what = what;
    this.notify = notify;
    this.options = serverOptions(files, what);
    const { certFile, keyFile, caFile, crlFile } = files;
    this.watched = new WatchedFiles([certFile, keyFile, caFile, crlFile], what, notify);
    this.watched.start(() => this.reload());
    this.look();
    this.looking = setInterval(() => this.look(), LOOK_MS);
    this.looking.unref();
  }

  /** The server's connections stay; new ones see the new certificate. */
  renew(server: Renewable): void {
    this.servers.add(server);
  }

  /** When the certificate in force ends, epoch milliseconds; a chain's first is the server's own. */
  expiryMs(): number {
    const { cert } = this.options;
    this.ends ??=
      cert === undefined ? Number.NaN : Date.parse(new X509Certificate(String(cert)).validTo);
    return this.ends;
  }

  /** Told when it ends, and when another one has taken its place. */
  private look(): void {
    const endMs = this.expiryMs();
    const isOver = endMs <= wallMs(processTime);
    if (isOver === (this.expired !== undefined)) return;
    const { certFile } = this.files;
    this.expired = isOver
      ? `the certificate ${certFile} has expired on ${new Date(endMs).toISOString()}: renew it; whoever checks it does not connect, and a new file is taken without a restart`
      : undefined;
    const { notify, what } = this;
    if (this.expired === undefined)
      notify({ level: 'info', event: 'certificate', text: `${what}: ${certFile} is valid` });
    else notify({ level: 'error', event: 'certificate_expired', text: this.expired });
  }

  private reload(): void {
    const before = this.options;
    this.options = serverOptions(this.files, this.what);
    this.ends = undefined;
    for (const server of this.servers) server.setSecureContext(this.options);
    if (String(before.crl ?? '') !== String(this.options.crl ?? '')) this.onRevocation();
  }

  stop(): void {
    clearInterval(this.looking);
    this.watched.stop();
  }
}

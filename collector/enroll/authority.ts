/**
 * The collector's own certificate authority, in `enroll/` of its data folder: it signs the certificates of gateways, and
 * the one that this collector shows to them. Its key is the owner's alone; whoever has it can be any gateway.
 */
import { X509Certificate, createPrivateKey, randomBytes, webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { makeFolder } from '../../shared/config/folder.ts';
import { readUserFile } from '../../shared/config/user-file.ts';
import { writeWhole } from '../../shared/config/whole-file.ts';
import { NOT_BEFORE_US, builtMs } from '../../shared/env/build.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { KEY_ALGORITHM, keyPem, newKey, x509Library } from '../../shared/access/x509.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import {
  CA_CERTIFICATE,
  belongTogether,
  hadAuthority,
  keepAuthority,
  keptAuthority,
} from './authority-files.ts';

const DAY_MS = 86_400_000;
const AUTHORITY_DAYS = 20 * 365;
const SERVER_DAYS = 397;
/** Clocks of other machines are a little behind. */
export const EARLIER_MS = 3_600_000;

interface Issue {
  name: string;
  publicKey: webcrypto.CryptoKey;
  use: 'serverAuth' | 'clientAuth';
  hosts: readonly string[];
  fromMs: number;
  toMs: number;
}

export class Authority {
  readonly folder: string;
  readonly certificate: X509Certificate;
  /** Made just now: it knows nobody. */
  readonly isNew: boolean;
  private readonly key: webcrypto.CryptoKey;

  private constructor(
    folder: string,
    certificate: X509Certificate,
    key: webcrypto.CryptoKey,
    isNew: boolean,
  ) {
    this.folder = folder;
    this.certificate = certificate;
    this.key = key;
    this.isNew = isNew;
  }

  /** Opens the one in `folder`, or makes it where there never was one. Throws CONFIG_INVALID for half an authority. */
  static async open(folder: string, nowMs: number, notify: Notify): Promise<Authority> {
    await makeFolder(folder, 0o700);
    const isNew = !hadAuthority(folder);
    if (isNew) await make(folder, nowMs);
    try {
      const { key, certificate, mended } = await keptAuthority(folder);
      for (const text of mended) notify({ level: 'warn', event: 'authority_damaged', text });
      const own = await importKey(key.export({ type: 'pkcs8', format: 'der' }));
      return new Authority(folder, certificate, own, isNew);
    } catch (error) {
      throw new HeadwaterError(
        'CONFIG_INVALID',
        `the authority in ${folder} cannot be used (${messageOf(error)}): put ca.key and ca.pem back from a copy; a new one would know none of the gateways`,
        { cause: error },
      );
    }
  }

  get certPath(): string {
    return join(this.folder, CA_CERTIFICATE);
  }

  /** Whether it has signed this one; its dates are another matter. */
  hasSigned(certificate: X509Certificate): boolean {
    return (
      certificate.checkIssued(this.certificate) && certificate.verify(this.certificate.publicKey)
    );
  }

  /** A gateway's certificate, PEM. `publicKey` is SPKI DER, which the caller has looked at. */
  async issueClient(name: string, publicKey: Buffer, nowMs: number, days: number): Promise<string> {
    const key = await webcrypto.subtle.importKey(
      'spki',
      publicKey,
      { name: 'ECDSA', namedCurve: 'P-256' },
      true,
      ['verify'],
    );
    const [fromMs, toMs] = [nowMs - EARLIER_MS, nowMs + days * DAY_MS];
    return await this.issue({ name, publicKey: key, use: 'clientAuth', hosts: [], fromMs, toMs });
  }

  /**
   * The certificate that this collector shows, in `server.pem` and `server.key`: made anew for other names, and in time. A
   * clock that cannot be right (a board without a battery) has no say in it.
   */
  async serverFiles(
    hosts: readonly string[],
    nowMs: number,
  ): Promise<{ certFile: string; keyFile: string }> {
    const [certFile, keyFile] = [join(this.folder, 'server.pem'), join(this.folder, 'server.key')];
    if (!this.isGood(certFile, keyFile, hosts, nowMs)) {
      const keys = await newKey();
      const [name = ''] = hosts;
      const sinceMs = Math.max(nowMs, builtMs());
      const [fromMs, toMs] = [sinceMs - EARLIER_MS, sinceMs + SERVER_DAYS * DAY_MS];
      const { publicKey } = keys;
      const own = await this.issue({ name, publicKey, use: 'serverAuth', hosts, fromMs, toMs });
      await writeWhole(keyFile, await keyPem(keys));
      // With the authority: who comes for the first time knows its fingerprint alone.
      await writeWhole(certFile, `${own}${this.certificate.toString()}`);
    }
    return { certFile, keyFile };
  }

  private isGood(
    certFile: string,
    keyFile: string,
    hosts: readonly string[],
    nowMs: number,
  ): boolean {
    try {
      const text = readUserFile(certFile).toString('latin1');
      const certificate = new X509Certificate(text);
      const [from, to] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)];
      const isInTime = nowMs > from && nowMs < from + ((to - from) * 2) / 3;
      return (
        belongTogether(createPrivateKey(readUserFile(keyFile)), certificate) &&
        this.hasSigned(certificate) &&
        text.endsWith(this.certificate.toString()) &&
        (isInTime || nowMs < builtMs()) &&
        hosts.every(
          (host) => (isIP(host) ? certificate.checkIP(host) : certificate.checkHost(host)) != null,
        )
      );
    } catch {
      return false; // Not there, or damaged: another is made.
    }
  }

  private async issue({ name, publicKey, use, hosts, fromMs, toMs }: Issue): Promise<string> {
    const library = await x509Library();
    const extensions = [
      new library.BasicConstraintsExtension(false, undefined, true),
      new library.KeyUsagesExtension(library.KeyUsageFlags.digitalSignature, true),
      new library.ExtendedKeyUsageExtension([library.ExtendedKeyUsage[use]]),
      await library.SubjectKeyIdentifierExtension.create(publicKey),
      ...(hosts.length === 0
        ? []
        : [
            new library.SubjectAlternativeNameExtension(
              hosts.map((host) => ({ type: isIP(host) ? 'ip' : 'dns', value: host })),
            ),
          ]),
    ];
    const made = await library.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      issuer: new library.X509Certificate(this.certificate.raw).subject,
      subject: `CN=${name}`,
      notBefore: new Date(fromMs),
      notAfter: new Date(toMs),
      signingAlgorithm: KEY_ALGORITHM,
      publicKey,
      signingKey: this.key,
      extensions,
    });
    return `${made.toString('pem')}\n`;
  }
}

/** Positive, and of one length. */
const serialNumber = (): string => {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
};

const importKey = (pkcs8: Buffer): Promise<webcrypto.CryptoKey> =>
  webcrypto.subtle.importKey('pkcs8', pkcs8, KEY_ALGORITHM, false, ['sign']);

async function make(folder: string, nowMs: number): Promise<void> {
  const library = await x509Library();
  const keys = await newKey();
  const { keyCertSign, cRLSign } = library.KeyUsageFlags;
  const certificate = await library.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: `CN=Headwater ${randomBytes(4).toString('hex')}`,
    // Nobody can make another without enrolling all gateways again: one that is made by a wrong clock has to be good as well.
    notBefore: new Date(Math.min(nowMs, NOT_BEFORE_US / 1000) - DAY_MS),
    notAfter: new Date(Math.max(nowMs, builtMs()) + AUTHORITY_DAYS * DAY_MS),
    signingAlgorithm: KEY_ALGORITHM,
    keys,
    extensions: [
      new library.BasicConstraintsExtension(true, 0, true),
      new library.KeyUsagesExtension(keyCertSign | cRLSign, true),
      await library.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  await keepAuthority(folder, await keyPem(keys), `${certificate.toString('pem')}\n`);
}

/**
 * The collector's own certificate authority, in `enroll/` of its data folder: it signs the certificates of gateways, and
 * the one that this collector shows to them. Its key is the owner's alone; whoever has it can be any gateway.
 */
import { X509Certificate, createPrivateKey, randomBytes, webcrypto } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { makeFolder } from '../../shared/config/folder.ts';
import { readPrivateFile } from '../../shared/config/secrets.ts';
import { writeWhole } from '../../shared/config/whole-file.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { KEY_ALGORITHM, keyPem, newKey, x509Library } from '../../shared/access/x509.ts';

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
  private readonly key: webcrypto.CryptoKey;

  private constructor(folder: string, certificate: X509Certificate, key: webcrypto.CryptoKey) {
    this.folder = folder;
    this.certificate = certificate;
    this.key = key;
  }

  /** Opens the one in `folder`, or makes it. Throws CONFIG_INVALID for half an authority. */
  static async open(folder: string, nowMs: number): Promise<Authority> {
    await makeFolder(folder, 0o700);
    const [keyPath, certPath] = [join(folder, 'ca.key'), join(folder, 'ca.pem')];
    // The certificate is written last: a key without one is a start that was cut short.
    if (!existsSync(certPath)) await make(keyPath, certPath, nowMs);
    try {
      const certificate = new X509Certificate(readFileSync(certPath));
      const der = createPrivateKey(readPrivateFile(keyPath, 'key of the authority'));
      if (!certificate.checkPrivateKey(der)) throw new Error('key and certificate do not match');
      const key = await importKey(der.export({ type: 'pkcs8', format: 'der' }));
      return new Authority(folder, certificate, key);
    } catch (error) {
      throw new HeadwaterError(
        'CONFIG_INVALID',
        `the authority in ${folder} cannot be used (${messageOf(error)}): put ca.key and ca.pem back from a copy; a new one would know none of the gateways`,
        { cause: error },
      );
    }
  }

  get certPath(): string {
    return join(this.folder, 'ca.pem');
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

  /** The certificate that this collector shows, in `server.pem` and `server.key`: made anew for other names, and in time. */
  async serverFiles(
    hosts: readonly string[],
    nowMs: number,
  ): Promise<{ certFile: string; keyFile: string }> {
    const [certFile, keyFile] = [join(this.folder, 'server.pem'), join(this.folder, 'server.key')];
    if (!this.isGood(certFile, keyFile, hosts, nowMs)) {
      const keys = await newKey();
      const [name = ''] = hosts;
      const [fromMs, toMs] = [nowMs - EARLIER_MS, nowMs + SERVER_DAYS * DAY_MS];
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
      const certificate = new X509Certificate(readFileSync(certFile));
      const [from, to] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)];
      return (
        certificate.checkPrivateKey(createPrivateKey(readFileSync(keyFile))) &&
        this.hasSigned(certificate) &&
        nowMs > from &&
        nowMs < from + ((to - from) * 2) / 3 &&
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

async function make(keyPath: string, certPath: string, nowMs: number): Promise<void> {
  const library = await x509Library();
  const keys = await newKey();
  const { keyCertSign, cRLSign } = library.KeyUsageFlags;
  const certificate = await library.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: `CN=Headwater ${randomBytes(4).toString('hex')}`,
    notBefore: new Date(nowMs - DAY_MS),
    notAfter: new Date(nowMs + AUTHORITY_DAYS * DAY_MS),
    signingAlgorithm: KEY_ALGORITHM,
    keys,
    extensions: [
      new library.BasicConstraintsExtension(true, 0, true),
      new library.KeyUsagesExtension(keyCertSign | cRLSign, true),
      await library.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  await writeWhole(keyPath, await keyPem(keys));
  await writeWhole(certPath, `${certificate.toString('pem')}\n`);
}

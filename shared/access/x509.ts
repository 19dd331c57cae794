/** The X.509 library, loaded when a certificate is made: once in a gateway's year. */
import { webcrypto } from 'node:crypto';

/** P-256: every board, TLS stack and OpenSSL takes it. */
export const KEY_ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

export async function x509Library() {
  // The library finds its parts by decorators' metadata, whose polyfill has to be there first.
  await import('reflect-metadata');
  const library = await import('@peculiar/x509');
  library.cryptoProvider.set(webcrypto);
  return library;
}

/** A new key, which leaves its machine in its owner's file alone. */
export async function newKey(): Promise<webcrypto.CryptoKeyPair> {
  return await webcrypto.subtle.generateKey(KEY_ALGORITHM, true, ['sign', 'verify']);
}

const pem = (label: string, der: ArrayBuffer): string =>
  `-----BEGIN ${label}-----\n${(
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  ).join('\n')}\n-----END ${label}-----\n`;

export async function keyPem(key: webcrypto.CryptoKeyPair): Promise<string> {
  return pem('PRIVATE KEY', await webcrypto.subtle.exportKey('pkcs8', key.privateKey));
}

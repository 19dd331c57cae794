/**
 * Asks a collector for a certificate (RFC 7030, simpleenroll and simplereenroll). The key is made here and stays here. It
 * is on disk before it is asked for, and the same one is asked for until the answer has come: a request whose answer was
 * lost costs no second token.
 */
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { request, type IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { KEY_ALGORITHM, keyPem, newKey, x509Library } from '../../shared/access/x509.ts';
import { makeFolder } from '../../shared/config/folder.ts';
import { readPrivateFile } from '../../shared/config/secrets.ts';
import { writeWhole } from '../../shared/config/whole-file.ts';
import { HeadwaterError, assert, hasCode, messageOf } from '../../shared/errors.ts';
import { AskAgain, restOf, retryAfterMs } from '../../shared/http/retry-after.ts';
import { connectSecurely, type UplinkTls } from './secure.ts';
import { keepStanding, type Standing } from '../standing.ts';

const TIMEOUT_MS = 20_000;
const ANSWER_BYTES_MAX = 64 * 1024;

/** Milliseconds since 1970 if anybody knows them. */
type Now = () => number | undefined;

interface Asked {
  socket: TLSSocket;
  url: URL;
  path: string;
  body: string;
  token: string | undefined;
}

function ask({ socket, url, path, body, token }: Asked): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        createConnection: () => socket,
        method: 'POST',
        path,
        headers: {
          host: url.host,
          accept: 'application/pem-certificate-chain',
          'content-type': 'application/pkcs10',
          'content-transfer-encoding': 'base64',
          'content-length': Buffer.byteLength(body),
          connection: 'close',
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        },
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (part: string) => {
          text += part;
          if (text.length > ANSWER_BYTES_MAX) response.destroy(new Error('the answer is too long'));
        });
        response.on('error', reject);
        response.on('end', () => {
          if (response.statusCode === 200) return resolve(text);
          return reject(refusedBy(response, text));
        });
      },
    );
    sent.setTimeout(TIMEOUT_MS, () => sent.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)));
    sent.on('error', reject);
    sent.end(body);
  });
}

/** With the collector's own sentence, where there is one. */
function refusedBy({ statusCode: status, headers }: IncomingMessage, text: string): Error {
  let said: unknown;
  try {
    said = (JSON.parse(text) as { message?: unknown }).message;
  } catch {
    // Not a collector's answer.
  }
  const why = typeof said === 'string' ? said : `it answers with HTTP ${status}`;
  if (status === 401 || status === 403) return new HeadwaterError('ENROLL_REFUSED', why);
  const code = status === 202 ? 'ENROLL_WAITS' : 'UNREACHABLE';
  return new AskAgain(code, why, retryAfterMs(headers['retry-after'], headers.date));
}

/** The key for the next certificate, PEM: made once, and used until its certificate is there. */
async function nextKey({ paths }: Standing): Promise<string> {
  await makeFolder(paths.folder, 0o700);
  if (existsSync(paths.nextKey)) {
    try {
      const text = readPrivateFile(paths.nextKey, 'key').toString('utf8');
      createPrivateKey(text);
      return text;
    } catch {
      // Damaged: nobody has a certificate for it yet.
    }
  }
  const text = await keyPem(await newKey());
  await writeWhole(paths.nextKey, text);
  return text;
}

async function requestFor(gateway: string, pem: string): Promise<string> {
  const { subtle } = globalThis.crypto;
  const { Pkcs10CertificateRequestGenerator } = await x509Library();
  const pkcs8 = createPrivateKey(pem).export({ type: 'pkcs8', format: 'der' });
  const privateKey = await subtle.importKey('pkcs8', pkcs8, KEY_ALGORITHM, true, ['sign']);
  const { d: _secret, key_ops: _uses, ...open } = await subtle.exportKey('jwk', privateKey);
  const publicKey = await subtle.importKey('jwk', open, KEY_ALGORITHM, true, ['verify']);
  const made = await Pkcs10CertificateRequestGenerator.create({
    name: `CN=${gateway}`,
    keys: { privateKey, publicKey },
    signingAlgorithm: KEY_ALGORITHM,
  });
  return Buffer.from(made.rawData).toString('base64');
}

/** The certificate if it is one for this key. Throws UNREACHABLE. */
function checked(answer: string, key: string): X509Certificate {
  try {
    const certificate = new X509Certificate(answer);
    if (!certificate.checkPrivateKey(createPrivateKey(key)))
      throw new Error('it is of another key');
    return certificate;
  } catch (error) {
    throw new HeadwaterError(
      'UNREACHABLE',
      `what it answers is no certificate for this gateway: ${messageOf(error)}`,
      { cause: error },
    );
  }
}

/** Tries the addresses in turn; what refuses ends it. Rejects with one sentence. */
async function first<T>(urls: readonly string[], attempt: (url: URL) => Promise<T>): Promise<T> {
  const problems: string[] = [];
  let afterMs = 0;
  for (const text of urls) {
    const url = new URL(text);
    try {
      return await attempt(url);
    } catch (error) {
      problems.push(`${url.host}: ${messageOf(error)}`);
      if (hasCode(error, 'ENROLL_REFUSED') || hasCode(error, 'ENROLL_WAITS')) throw error;
      afterMs = Math.max(afterMs, restOf(error));
    }
  }
  throw new AskAgain('UNREACHABLE', problems.join('; '), afterMs);
}

const dial = (url: URL, tls: UplinkTls, now: Now) =>
  connectSecurely(
    url.hostname.replaceAll(/[[\]]/g, ''),
    Number(url.port || 443),
    tls,
    now,
    TIMEOUT_MS,
  );

/** Trades the token for a certificate. Rejects with ENROLL_REFUSED, ENROLL_WAITS or UNREACHABLE. */
export async function enroll(standing: Standing, now: Now): Promise<void> {
  const { token, gateway, urls } = standing;
  if (token === undefined) return;
  const key = await nextKey(standing);
  const body = await requestFor(gateway, key);
  const { fingerprint: pin, secret } = token;
  await first(urls, async (url) => {
    const none = { caFile: '', certFile: '', keyFile: '' };
    const { socket, chain } = await dial(url, { ...none, pin }, now);
    const authority = chain.find(({ fingerprint256 }) => fingerprint256 === pin);
    assert(authority !== undefined, 'a chain that was accepted has the pinned authority');
    const path = '/.well-known/est/simpleenroll';
    const answer = await ask({ socket, url, path, body, token: secret });
    const own = `${key}${checked(answer, key).toString()}`;
    await keepStanding(standing, token, own, authority.toString());
  });
}

/**
 * Where to ask for a certificate: as the token said, and at the hosts that the uplink goes to by now, on the same port. A
 * collector that has moved is not asked at its old address alone.
 */
export function urlsOf({ urls }: Standing, collectors: readonly string[]): string[] {
  const ports = urls.map((url) => new URL(url).port || '443');
  const moved = collectors
    .filter((url) => url.startsWith('mqtts://'))
    .flatMap((url) => ports.map((port) => `https://${new URL(url).hostname}:${port}`));
  return [...new Set([...urls, ...moved].map((url) => new URL(url).origin))];
}

/** A new certificate for the one that is there, expired or not. Rejects as `enroll`. */
export async function renew(
  standing: Standing,
  collectors: readonly string[],
  now: Now,
): Promise<void> {
  const { gateway, paths } = standing;
  const urls = urlsOf(standing, collectors);
  const key = await nextKey(standing);
  const body = await requestFor(gateway, key);
  const tls = { caFile: paths.authority, certFile: paths.own, keyFile: paths.own };
  await first(urls, async (url) => {
    const { socket } = await dial(url, tls, now);
    const path = '/.well-known/est/simplereenroll';
    const answer = await ask({ socket, url, path, body, token: undefined });
    await writeWhole(paths.own, `${key}${checked(answer, key).toString()}`);
    await rm(paths.nextKey, { force: true });
  });
}

/** The certificate in force. */
export function ownCertificate({ paths }: Standing): X509Certificate | undefined {
  try {
    return new X509Certificate(
      readFileSync(paths.own, 'utf8').replace(/^[\s\S]*?(?=-----BEGIN CERTIFICATE)/, ''),
    );
  } catch {
    return undefined; // Not enrolled yet.
  }
}

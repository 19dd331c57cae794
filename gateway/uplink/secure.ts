/**
 * The uplink's TLS. A board without a battery boots in 1970, and every certificate seems to be of the future: a gateway
 * that refused it would never reach the collector from which it learns the time. So while its clock is not trusted, the
 * dates of a certificate are held against one thing alone, when this software was built; chain, name and authority are
 * checked as always, and the authority has to be the pinned one. The time then comes over the link itself.
 *
 * The handshake is complete and checked before the first byte of MQTT, which holds the secret, is written.
 */
import { X509Certificate } from 'node:crypto';
import { checkServerIdentity, connect, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { readCertificates, secureOptions } from '../../shared/access/tls.ts';
import { messageOf } from '../../shared/errors.ts';
import { NOT_BEFORE_US } from '../../shared/env/build.ts';
import { distrustOfCode } from '../../shared/net/distrust.ts';

export interface UplinkTls {
  /** Authorities; '' for those of the system, which only a trusted clock may use. */
  caFile: string;
  /** The gateway's own certificate and key; '' for none. */
  certFile: string;
  keyFile: string;
  /** SHA-256 of the one authority that counts, before its certificate is known: the other side has to send it. */
  pin?: string;
}

const DATE_ERRORS = new Set(['CERT_NOT_YET_VALID', 'CERT_HAS_EXPIRED']);
const UNKNOWN_AUTHORITY = /SELF_SIGNED_CERT|UNABLE_TO_(?:GET_ISSUER|VERIFY_LEAF)/;
const CHAIN_MAX = 10;
/** Extended key usages serverAuth and any (RFC 5280). */
const SERVER_USES = ['1.3.6.1.5.5.7.3.1', '2.5.29.37.0'];

/** What is wrong with a certificate's dates. Without knowing the time: only what is surely past. */
function dateProblem(
  { subject, validFrom, validTo }: X509Certificate,
  nowMs: number | undefined,
): string | undefined {
  if (Date.parse(validTo) < (nowMs ?? NOT_BEFORE_US / 1000))
    return nowMs === undefined
      ? `'${subject}' had expired before this software was built`
      : `'${subject}' has expired`;
  return nowMs !== undefined && Date.parse(validFrom) > nowMs
    ? `'${subject}' is not valid yet`
    : undefined;
}

const STRANGER =
  'no pinned authority has signed it: another server answers there (another collector, a login page of the network), or it has a new authority (a new join token makes this gateway its own, or uplink.caFile names that authority)';

const signerOf = (certificate: X509Certificate, authorities: readonly X509Certificate[]) =>
  authorities.find(
    (each) => each.ca && certificate.checkIssued(each) && certificate.verify(each.publicKey),
  );

/** Why a chain is not to be believed; undefined: it is. `nowMs` is undefined while nobody knows the time. */
export function chainProblem(
  chain: readonly X509Certificate[],
  authorities: readonly X509Certificate[],
  nowMs: number | undefined,
): string | undefined {
  const [leaf] = chain;
  if (leaf === undefined) return 'no certificate was shown';
  // First of all: what else is wrong with a stranger's certificate is no matter.
  if (!chain.some((each) => signerOf(each, authorities) !== undefined)) return STRANGER;
  if (leaf.ca) return 'its certificate is an authority, not a server';
  // RFC 5280, 4.2.1.12: a certificate that names purposes is good for no other.
  if (leaf.keyUsage?.some((use) => SERVER_USES.includes(use)) === false)
    return 'its certificate is not for servers';
  for (const [index, certificate] of chain.slice(0, CHAIN_MAX).entries()) {
    const outdated = dateProblem(certificate, nowMs);
    if (outdated !== undefined) return outdated;
    const authority = signerOf(certificate, authorities);
    if (authority !== undefined) return dateProblem(authority, nowMs);
    const issuer = chain[index + 1];
    if (issuer === undefined || issuer.fingerprint256 === certificate.fingerprint256) break;
    if (!issuer.ca || !certificate.checkIssued(issuer) || !certificate.verify(issuer.publicKey))
      return `'${certificate.subject}' is not signed by what it names`;
  }
  return STRANGER;
}

/** What the other side has sent, its own certificate first. */
function chainOf(socket: TLSSocket): X509Certificate[] {
  const chain: X509Certificate[] = [];
  let next = socket.getPeerX509Certificate();
  while (next !== undefined && chain.length < CHAIN_MAX) {
    chain.push(next);
    const issuer: X509Certificate | undefined = next.issuerCertificate;
    if (issuer === undefined || issuer.fingerprint256 === next.fingerprint256) break;
    next = issuer;
  }
  return chain;
}

/** OpenSSL's sentence is the part before the file and line of its source. */
function tlsProblem(error: unknown): string {
  const said = /^[0-9A-F]+:error:[^:]*:[^:]*:[^:]*:([^:]+):/.exec(messageOf(error))?.[1];
  if (said === undefined) return messageOf(error);
  const other =
    said === 'wrong version number' ? ', as of another server or a login page of the network' : '';
  return `no TLS: ${said}${other}`;
}

/** A connection, and what the other side has shown: asked again later, Node gives no issuers any more. */
interface Secured {
  socket: TLSSocket;
  chain: X509Certificate[];
}

/** Connects, and resolves when the other side has been checked. Rejects with one sentence. */
export function connectSecurely(
  host: string,
  port: number,
  tls: UplinkTls,
  nowMs: () => number | undefined,
  timeoutMs: number,
): Promise<Secured> {
  return new Promise((resolve, reject) => {
    // Read anew for every connection: a renewed certificate is used from the next one on.
    const context = secureOptions(
      { caFile: tls.caFile, certFile: tls.certFile, keyFile: tls.keyFile, crlFile: '' },
      'uplink',
    );
    const options: ConnectionOptions = {
      ...context,
      host,
      port,
      servername: /^[\d.]+$|:/.test(host) ? '' : host,
      // Checked below, where dates can be told from everything else.
      rejectUnauthorized: false,
    };
    const socket = connect(options);
    const fail = (why: string): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(new Error(why));
    };
    const timer = setTimeout(() => fail(`no TLS handshake within ${timeoutMs} ms`), timeoutMs);
    socket.once('error', (error) => fail(tlsProblem(error)));
    socket.once('close', () => fail('the collector closed the connection'));
    socket.once('secureConnect', () => {
      // In this order: once Node has given the chain, it has no names of the certificate any more.
      const misnamed = checkServerIdentity(host, socket.getPeerCertificate())?.message;
      const chain = chainOf(socket);
      const problem = misnamed ?? problemOf({ socket, chain }, tls, nowMs());
      if (problem !== undefined) {
        fail(`the collector's certificate is not accepted: ${problem}`);
        return;
      }
      clearTimeout(timer);
      socket.removeAllListeners('error');
      socket.removeAllListeners('close');
      socket.setNoDelay(true);
      resolve({ socket, chain });
    });
  });
}

function problemOf(
  { socket, chain }: Secured,
  { caFile, pin }: UplinkTls,
  nowMs: number | undefined,
): string | undefined {
  if (pin !== undefined)
    return chainProblem(
      chain,
      chain.filter(({ fingerprint256 }) => fingerprint256 === pin),
      nowMs,
    );
  if (socket.authorized) {
    // By this machine's clock, which may be another than the one that is believed.
    const [leaf] = chain;
    return leaf === undefined ? 'no certificate was shown' : dateProblem(leaf, nowMs);
  }
  const code = String(socket.authorizationError);
  if (!DATE_ERRORS.has(code) && (caFile === '' || !UNKNOWN_AUTHORITY.test(code)))
    return distrustOfCode(code) ?? code;
  if (caFile === '')
    return `${code}; with a clock that is not right only a pinned authority (uplink.caFile) counts`;
  // OpenSSL names one problem, and a date may hide another: everything else is checked here.
  return chainProblem(chain, readCertificates(caFile, 'uplink: authorities'), nowMs);
}

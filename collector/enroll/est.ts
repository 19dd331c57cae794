/**
 * Enrolment over HTTPS in the shape of RFC 7030 (EST): cacerts, simpleenroll, simplereenroll. Who enrols sends its join
 * token as a bearer or as the password of Basic; who renews shows its certificate. Nothing is read or computed for anybody
 * before one of the two is right.
 */
import type { Audit } from '../../shared/access/audit.ts';
import type { FailureLimiter } from '../../shared/access/failures.ts';
import { x509Library } from '../../shared/access/x509.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import {
  json,
  type Endpoint,
  type Reply,
  type Request,
  type Route,
} from '../../shared/http/route.ts';
import { TEXT, object } from '../../shared/http/schema.ts';
import { commonName, type Enrolment } from './enrolment.ts';

export interface Est {
  enrolment: Enrolment;
  failures: FailureLimiter;
  audit: Audit;
}

const REQUEST_BYTES_MAX = 8192;
const PKCS7 = 'application/pkcs7-mime; smime-type=certs-only';
/** When who waits for a person asks again. */
const AGAIN_SECONDS = 30;
const PEM = 'application/pem-certificate-chain';

/** As RFC 7030 wants it, or as PEM for who asks for that. */
async function certificates({ headers }: Request, pems: readonly string[]): Promise<Reply> {
  if (headers.accept?.includes(PEM) === true) return { type: PEM, body: pems.join('') };
  const { X509Certificates, X509Certificate } = await x509Library();
  const bag = new X509Certificates(pems.map((pem) => new X509Certificate(pem)));
  const base64 = bag.export('base64').match(/.{1,64}/g) ?? [];
  return {
    type: PKCS7,
    headers: { 'content-transfer-encoding': 'base64' },
    body: `${base64.join('\r\n')}\r\n`,
  };
}

/** Base64 of DER, or PEM. */
async function requestOf(request: Request): Promise<Buffer> {
  const text = (await request.body(REQUEST_BYTES_MAX)).toString('latin1');
  return Buffer.from(text.replaceAll(/-----[A-Z ]+-----/g, ''), 'base64');
}

function presented({ authorization = '' }: Request['headers']): string {
  const bearer = /^Bearer (.+)$/.exec(authorization)?.[1];
  if (bearer !== undefined) return bearer;
  const basic = /^Basic (.+)$/.exec(authorization)?.[1] ?? '';
  return /:(.*)$/s.exec(Buffer.from(basic, 'base64').toString('utf8'))?.[1] ?? '';
}

/**
 * Counts what is refused, so that guessing ends. Who shows something that is known is not refused for the guesses that
 * came from the same address: looking costs a hash, or one signature.
 */
async function counted<T>(
  { failures, audit }: Est,
  { address }: Request,
  about: string,
  decide: () => Promise<T>,
): Promise<T> {
  try {
    return await decide();
  } catch (error) {
    const { code } = error as { code?: unknown };
    if (code !== 'ENROLL_REFUSED' && code !== 'UNAUTHORIZED') throw error;
    const isBlocked = failures.isBlocked(address);
    failures.fail(address);
    audit.say({ event: 'refused', address, about, reason: messageOf(error) });
    if (!isBlocked || code === 'ENROLL_REFUSED') throw error;
    throw new HeadwaterError(
      'TOO_MANY_REQUESTS',
      'too many refused requests from this address: try again in a minute',
    );
  }
}

async function enroll(est: Est, request: Request): Promise<Reply> {
  const { enrolment, audit } = est;
  const enrolled = await counted(est, request, 'simpleenroll', async () => {
    const token = enrolment.tokenOf(presented(request.headers));
    if (token === undefined)
      throw new HeadwaterError(
        'UNAUTHORIZED',
        "this join token is not known here: it is of another collector, was taken back or is long over; make one with 'headwater enroll'",
      );
    const { address } = request;
    const given = await enrolment.enroll(token, await requestOf(request), address);
    if ('pem' in given) audit.say({ event: 'enrolled', user: token.gateway, address });
    return given;
  });
  if ('pem' in enrolled) return await certificates(request, [enrolled.pem]);
  // RFC 7030, 4.2.3: the same request is sent again later.
  const reply = json({ message: enrolled.waits });
  return { ...reply, status: 202, headers: { 'retry-after': String(AGAIN_SECONDS) } };
}

async function renew(est: Est, request: Request): Promise<Reply> {
  const { enrolment, audit } = est;
  const pem = await counted(est, request, 'simplereenroll', async () => {
    const shown = request.certificate();
    if (shown === undefined)
      throw new HeadwaterError('UNAUTHORIZED', 'show the certificate that is to be renewed');
    // Before the body is read: a stranger's is not.
    if (!enrolment.authority.hasSigned(shown))
      throw new HeadwaterError(
        'ENROLL_REFUSED',
        'the certificate that was shown is of another authority',
      );
    const given = await enrolment.renew(shown, await requestOf(request));
    audit.say({ event: 'renewed', user: commonName(shown), address: request.address });
    return given;
  });
  return await certificates(request, [pem]);
}

const shared = {
  right: 'open',
  body: { type: 'application/pkcs10', schema: { type: 'string' } },
  replies: { 200: { about: 'The certificate.', type: PKCS7 } },
} as const;

export const EST_ROUTES: readonly Route<Est>[] = [
  {
    method: 'GET',
    path: '/.well-known/est/cacerts',
    about: 'The authority.',
    right: 'open',
    replies: { 200: { about: 'Its certificate.', type: PKCS7 } },
    handle: ({ enrolment }, request) =>
      certificates(request, [enrolment.authority.certificate.toString()]),
  },
  {
    method: 'POST',
    path: '/.well-known/est/simpleenroll',
    about: 'Trades a join token and a certificate request for a certificate.',
    ...shared,
    replies: {
      ...shared.replies,
      202: { about: 'A person has to let it in: ask again.', schema: object({ message: TEXT }) },
    },
    handle: enroll,
  },
  {
    method: 'POST',
    path: '/.well-known/est/simplereenroll',
    about: 'A new certificate for who shows an older one.',
    ...shared,
    handle: renew,
  },
];

export const estEndpoints = (running: Est): Endpoint[] =>
  EST_ROUTES.map((route) => ({ route, running, absent: '' }));

/** Certificate requests (PKCS #10, RFC 2986) of gateways. */
import { createHash, createPublicKey } from 'node:crypto';
import { x509Library } from '../../shared/access/x509.ts';
import { messageOf } from '../../shared/errors.ts';
import { GATEWAY_ID } from '../../shared/wire/wire.ts';
import { refuse } from './refuse.ts';

/** A certificate request whose key is one that we sign for. */
export interface Wish {
  gateway: string;
  publicKey: Buffer;
  key: string;
}

/** Reads a PKCS #10 request and checks that its sender has the key. Throws ENROLL_REFUSED. */
export async function wishOf(request: Buffer): Promise<Wish> {
  const { Pkcs10CertificateRequest } = await x509Library();
  let parsed: InstanceType<typeof Pkcs10CertificateRequest>;
  let details: ReturnType<typeof createPublicKey>;
  let isOwn = false;
  let name: string | undefined;
  try {
    parsed = new Pkcs10CertificateRequest(request);
    const key = Buffer.from(parsed.publicKey.rawData);
    details = createPublicKey({ key, format: 'der', type: 'spki' });
    // Only after its kind: a key of another is not worked with.
    isOwn = details.asymmetricKeyDetails?.namedCurve === 'prime256v1' && (await parsed.verify());
    const names = parsed.subjectName.getField('CN');
    if (names.length === 1) [name] = names;
  } catch (error) {
    return refuse(`the body is no certificate request (PKCS #10): ${messageOf(error)}`);
  }
  if (details.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
    return refuse('the key of the request is not one on the curve P-256');
  if (!isOwn) return refuse('the request is not signed with its own key');
  if (name === undefined || !GATEWAY_ID.test(name))
    return refuse("the request's common name is no gateway's name, or not the only one");
  const publicKey = details.export({ type: 'spki', format: 'der' });
  const hash = createHash('sha256').update(publicKey).digest('hex');
  return { gateway: name, publicKey, key: hash };
}

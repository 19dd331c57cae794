/**
 * Why the other side of a TLS link is not believed, in one sentence for every link and whatever library speaks over it:
 * webhook, mail, MQTT, InfluxDB, S3, HDFS, Kafka, the uplink, our own commands. Certificate and name are checked by Node
 * before the first byte of a request, so nothing was sent, and a secret least of all.
 */
import { codeOf, messageOf } from '../errors.ts';

const CAUSES_MAX = 5;

interface Kind {
  /** Node's codes (those of OpenSSL's X509_V_ERR_… and its own). */
  codes: RegExp;
  /** OpenSSL's words, for libraries that put codes of their own in the place of these. */
  words: RegExp;
  why: string;
  help: string;
}

const KINDS: readonly Kind[] = [
  {
    codes: /^(ERR_TLS_CERT_ALTNAME_INVALID|HOSTNAME_MISMATCH)$/,
    words: /does not match certificate's altnames|is not in the cert's list|is not cert's CN/,
    why: 'it is for another name',
    help: 'use the name that it was made for, or have one made for this one',
  },
  {
    codes: /^CERT_HAS_EXPIRED$/,
    words: /certificate has expired/,
    why: 'it has expired',
    help: "renew it, or set this machine's clock",
  },
  {
    codes: /^CERT_NOT_YET_VALID$/,
    words: /certificate is not yet valid/,
    why: 'it is not valid yet',
    help: "set this machine's clock, or wait",
  },
  {
    codes: /^DEPTH_ZERO_SELF_SIGNED_CERT$/,
    words: /self-signed certificate(?! in)/,
    why: 'it is signed by itself',
    help: 'have one signed by an authority, or name its own file where this link is set up (caFile, --ca or NODE_EXTRA_CA_CERTS)',
  },
  {
    codes:
      /^(SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_GET_ISSUER_CERT(_LOCALLY)?|UNABLE_TO_VERIFY_LEAF_SIGNATURE|CERT_SIGNATURE_FAILURE|CERT_UNTRUSTED)$/,
    words:
      /self-signed certificate in|unable to (verify the first|get (local )?issuer) certificate|certificate signature failure/,
    why: 'it is not signed by an authority that is known here',
    help: "name that authority's file where this link is set up (caFile, --ca or NODE_EXTRA_CA_CERTS)",
  },
  {
    codes: /^INVALID_PURPOSE$/,
    words: /uns(uitable|upported) certificate purpose/,
    why: 'it is not one for servers',
    help: 'have one issued that is',
  },
  {
    codes: /^(CERT_REVOKED|CERT_REJECTED|CERT_CHAIN_TOO_LONG|INVALID_CA|PATH_LENGTH_EXCEEDED)$/,
    words: /certificate (revoked|rejected|chain too long)|invalid CA certificate/,
    why: 'it was taken back, or its authority may not sign it',
    help: 'have another one issued',
  },
];

/** What it was caused by, the first cause first, and what several attempts at once have failed by. */
function causes(error: unknown, depth = 0): unknown[] {
  if (error === undefined || error === null || depth > CAUSES_MAX) return [];
  const { cause, errors } = error as { cause?: unknown; errors?: unknown };
  const several = Array.isArray(errors) ? (errors as unknown[]) : [];
  return [...[cause, ...several].flatMap((each) => causes(each, depth + 1)), error];
}

/** Of a code alone, as `authorizationError` of a socket; undefined for none of a certificate. */
export function distrustOfCode(code: string): string | undefined {
  const kind = KINDS.find(({ codes }) => codes.test(code));
  return kind === undefined ? undefined : `${kind.why} (${code}): ${kind.help}`;
}

/**
 * "its certificate is not accepted, so nothing was sent: it has expired (CERT_HAS_EXPIRED): renew it, …", to be put behind
 * the name of the other side. Undefined when the error is about something else.
 */
export function distrust(error: unknown): string | undefined {
  for (const each of causes(error)) {
    const [code, text] = [codeOf(each), messageOf(each)];
    const kind = KINDS.find(({ codes, words }) => codes.test(code) || words.test(text));
    if (kind === undefined) continue;
    const said = kind.codes.test(code) ? code : text;
    // Node says for which names it is.
    const names = /altnames: (.*)$/s.exec(text)?.[1];
    return `its certificate is not accepted, so nothing was sent: ${kind.why} (${names ?? said}): ${kind.help}`;
  }
  return undefined;
}

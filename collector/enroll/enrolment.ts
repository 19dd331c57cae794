/**
 * The rules of who becomes and stays a gateway of this collector.
 *
 * - A token counts for one name, once. The same key may ask again with it: its answer may have got lost.
 * - A certificate that is newer than another is in force from its first use on; the older one then means that there are two
 *   machines (a copied card). Both go on sending, for nothing is to be lost; it is said, and a person decides.
 * - Who was away for long renews with the expired certificate, as long as its key is shown and a grace has not passed.
 * - A token that was made so lets nobody in before a person has said yes to the very key that asked.
 * - Who is revoked gets nothing more; a new token for the name lets it in again, with a new key.
 */
import { X509Certificate, createHash, randomBytes } from 'node:crypto';
import { joinTokenText } from '../../shared/access/join-token.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { GATEWAY_ID } from '../../shared/wire/wire.ts';
import { Approvals } from './approval.ts';
import { EARLIER_MS, type Authority } from './authority.ts';
import { refuse } from './refuse.ts';
import type { Asked, Certificate, Member, Registry, TokenRecord } from './registry.ts';
import { wishOf, type Wish } from './request.ts';

const DAY_MS = 86_400_000;
const OLDER_CAME = 'it came with an older certificate after a newer one';
const TOKENS_MAX = 20_000;
/** Each is two lines on stable storage, and a signature: more within so long are no renewals. */
const RENEWALS_MAX = 4;
const RENEWALS_MS = 3_600_000;
const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex');
const day = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

export interface EnrolmentOptions {
  certificateDays: number;
  graceDays: number;
  /** A name that no gateway may have. */
  reserved: string;
  nowMs: () => number;
  /** The clock of this machine is not to be earlier. */
  notBeforeMs: number;
}

/** `waits`: the sentence that says for what. */
export type Enrolled = { pem: string } | { waits: string };

export interface TokenWish {
  gateways: readonly string[];
  site: string;
  labels: Record<string, string>;
  hours: number;
  urls: string[];
  collectors: string[];
  /** A person lets each in. */
  approval: boolean;
}

/** What a gateway has shown on its uplink; `raw` is DER. */
export interface ShownCertificate {
  serial: string;
  fromMs: number;
  raw: Buffer;
}

export class Enrolment {
  readonly authority: Authority;
  readonly registry: Registry;
  readonly approvals: Approvals;
  /** Certificates given out. */
  given = 0;
  /** Called with the name of a gateway whose older certificates are not in force any more. */
  onRevoked: (gateway: string) => void = () => undefined;
  private readonly options: EnrolmentOptions;
  private readonly notify: Notify;
  /** Name → what is being decided of it. */
  private readonly turns = new Map<string, Promise<unknown>>();

  constructor(authority: Authority, registry: Registry, options: EnrolmentOptions, notify: Notify) {
    this.authority = authority;
    this.registry = registry;
    this.options = options;
    this.notify = notify;
    this.approvals = new Approvals(registry, notify);
  }

  /** One decision about a name after the other: a token cannot be used twice at once. */
  private async inTurn<T>(gateway: string, decide: () => Promise<T>): Promise<T> {
    const turn = (this.turns.get(gateway) ?? Promise.resolve()).catch(() => undefined).then(decide);
    this.turns.set(gateway, turn);
    try {
      return await turn;
    } finally {
      if (this.turns.get(gateway) === turn) this.turns.delete(gateway);
    }
  }

  /** Makes tokens, on stable storage before anybody has them. Throws QUERY_INVALID. */
  async makeTokens(wish: TokenWish): Promise<{ gateway: string; token: string }[]> {
    const { gateways, site, labels, hours, urls, collectors, approval } = wish;
    const { registry, authority, options } = this;
    const bad = gateways.find((each) => !GATEWAY_ID.test(each) || each === options.reserved);
    if (bad !== undefined || gateways.length === 0)
      throw new HeadwaterError(
        'QUERY_INVALID',
        `'${bad ?? ''}' cannot be a gateway's name: letters, digits, '_', '-' and '.', at most 64, the first a letter or digit`,
      );
    if (registry.tokens.size + gateways.length > TOKENS_MAX)
      throw new HeadwaterError('QUERY_INVALID', `there are at most ${TOKENS_MAX} join tokens`);
    const expiresMs = options.nowMs() + hours * 3_600_000;
    const { fingerprint256: fingerprint } = authority.certificate;
    const made = gateways.map((gateway) => ({
      gateway,
      secret: randomBytes(24).toString('base64url'),
    }));
    await registry.addTokens(
      made.map(({ gateway, secret }) => ({
        hash: sha256(secret),
        gateway,
        site,
        labels,
        madeMs: options.nowMs(),
        expiresMs,
        ...(approval ? { approval: { asked: [] } } : {}),
      })),
    );
    return made.map(({ gateway, secret }) => ({
      gateway,
      token: joinTokenText({ gateway, urls, collectors, fingerprint, secret }),
    }));
  }

  /** The record of a token, whatever has become of it. No work: this comes before anything else of a request. */
  tokenOf(secret: string): TokenRecord | undefined {
    return this.registry.tokens.get(sha256(secret));
  }

  /** Trades a token and a request for a certificate, or for the word that a person has to let it in. Throws ENROLL_REFUSED. */
  async enroll(record: TokenRecord, request: Buffer, address: string): Promise<Enrolled> {
    const wish = await wishOf(request);
    return await this.inTurn(record.gateway, async () => {
      const nowMs = this.checkedNowMs();
      const { gateway, site, labels } = record;
      if (wish.gateway !== gateway)
        refuse(`the token is for '${gateway}', and the request for '${wish.gateway}'`);
      const token = this.registry.tokens.get(record.hash);
      if (token === undefined) refuse('the token was taken back');
      const member = this.registry.members.get(gateway);
      if (token.usedMs !== undefined) {
        const given = member?.certificates.find(({ key }) => key === wish.key);
        if (token.key === wish.key && given !== undefined && member?.revokedMs === undefined)
          return { pem: given.pem };
        refuse(
          `the token for '${gateway}' was used on ${day(token.usedMs)} by another machine, or by this one before it was flashed anew: make another with 'headwater enroll ${gateway}'`,
        );
      }
      // Who asked in time is not shut out by how long a person took.
      const isLetIn = token.approval?.key === wish.key;
      if (nowMs > token.expiresMs && !isLetIn)
        refuse(
          `the token for '${gateway}' was good until ${day(token.expiresMs)}: make another with 'headwater enroll ${gateway}'`,
        );
      if (token.approval !== undefined && !isLetIn)
        return { waits: await this.approvals.ask(token, { key: wish.key, atMs: nowMs, address }) };
      const certificate = await this.certificateFor(wish, nowMs);
      // What the name had before is not in force any more: the card was flashed anew, or the gateway was revoked.
      const next: Member = {
        gateway,
        site,
        labels,
        enrolledMs: nowMs,
        certificates: [certificate],
      };
      await this.registry.put(next, { ...token, usedMs: nowMs, key: wish.key });
      if (member !== undefined) this.onRevoked(gateway);
      return { pem: certificate.pem };
    });
  }

  /** Lets in who waits under this name. Throws NOT_FOUND, QUERY_INVALID. */
  async approve(gateway: string, key: string): Promise<Asked> {
    return await this.inTurn(gateway, () => this.approvals.letIn(gateway, key));
  }

  /** A new certificate for who shows an older one. Throws ENROLL_REFUSED. */
  async renew(shown: X509Certificate, request: Buffer): Promise<string> {
    if (!this.authority.hasSigned(shown))
      refuse('the certificate that was shown is of another authority');
    const wish = await wishOf(request);
    return await this.inTurn(wish.gateway, async () => {
      const nowMs = this.checkedNowMs();
      const { gateway } = wish;
      if (commonName(shown) !== gateway)
        refuse(`the certificate is of '${commonName(shown)}', and the request for '${gateway}'`);
      const refused = this.refusal(gateway, {
        serial: shown.serialNumber,
        fromMs: Date.parse(shown.validFrom),
      });
      if (refused !== undefined) refuse(refused);
      const { graceDays } = this.options;
      const overMs = Date.parse(shown.validTo);
      if (nowMs > overMs + graceDays * DAY_MS)
        refuse(
          `the certificate of '${gateway}' expired on ${day(overMs)}, more than ${graceDays} days ago: make a token with 'headwater enroll ${gateway}'`,
        );
      const member = this.memberOf(gateway, shown);
      const newest = member.certificates.at(-1);
      if (newest?.key === wish.key && newest.toMs > nowMs) return newest.pem;
      if (newest?.seenMs !== undefined && newest.serial !== shown.serialNumber) {
        const why = 'an older certificate was to be renewed after a newer one had been used';
        await this.noteDoubled(member, why);
        refuse(
          `another machine has renewed the certificate of '${gateway}' before: a copied card? Look at 'headwater gateways', and give one of the two a name of its own`,
        );
      }
      const fourth = member.certificates.at(-RENEWALS_MAX);
      if (fourth !== undefined && nowMs - (fourth.fromMs + EARLIER_MS) < RENEWALS_MS)
        throw new HeadwaterError(
          'TOO_MANY_REQUESTS',
          `'${gateway}' has got ${RENEWALS_MAX} certificates within the hour: try again later`,
        );
      const certificate = await this.certificateFor(wish, nowMs);
      const certificates = [...member.certificates, certificate];
      await this.registry.put({ ...member, certificates });
      return certificate.pem;
    });
  }

  /** Why this certificate is not let in; undefined: it is. */
  refusal(gateway: string, { serial, fromMs }: Omit<ShownCertificate, 'raw'>): string | undefined {
    const member = this.registry.members.get(gateway);
    if (member === undefined) return undefined;
    if (member.revokedMs !== undefined)
      return `'${gateway}' was revoked on ${day(member.revokedMs)}: a token from 'headwater enroll ${gateway}' lets it in again`;
    // One that is not known was given after this registry was copied and put back, or before the name was enrolled anew.
    const isKnown = member.certificates.some((each) => each.serial === serial);
    if (isKnown || fromMs + EARLIER_MS >= member.enrolledMs) return undefined;
    return `'${gateway}' was enrolled anew on ${day(member.enrolledMs)}, and this certificate is of before`;
  }

  /** A gateway has come in with this certificate. */
  async seen(gateway: string, certificate: ShownCertificate): Promise<void> {
    await this.inTurn(gateway, async () => {
      const member = this.registry.members.get(gateway);
      const index = member?.certificates.findIndex(({ serial }) => serial === certificate.serial);
      if (member === undefined || index === undefined || index < 0)
        return await this.adopt(gateway, certificate.raw);
      const newer = member.certificates.slice(index + 1).some(({ seenMs }) => seenMs !== undefined);
      if (newer) {
        await this.noteDoubled(member, OLDER_CAME);
        return;
      }
      if (member.certificates[index]?.seenMs !== undefined) return;
      const seenMs = this.options.nowMs();
      const certificates = member.certificates.map((each, at) =>
        at === index ? { ...each, seenMs } : each,
      );
      await this.registry.put({ ...member, certificates });
    });
  }

  /**
   * Takes in who comes with a certificate that was given after this registry was copied and put back. The token that bought it
   * stands there as unused: who has a copy of it is not to be let in by it a second time.
   */
  private async adopt(gateway: string, raw: Buffer): Promise<void> {
    const shown = new X509Certificate(raw);
    // One of an authority of the user's own (uplinks.clientCaFile) is none of ours.
    if (!this.authority.hasSigned(shown)) return;
    const before = this.registry.members.get(gateway);
    const newest = before?.certificates.at(-1);
    if (
      before !== undefined &&
      newest !== undefined &&
      newest.fromMs > Date.parse(shown.validFrom)
    ) {
      // So old that it is not noted any more.
      if (newest.seenMs !== undefined) await this.noteDoubled(before, OLDER_CAME);
      return;
    }
    const { certificates, ...member } = this.memberOf(gateway, shown);
    const own = certificates.at(-1);
    if (own === undefined) return;
    const givenMs = own.fromMs + EARLIER_MS;
    const bought = [...this.registry.tokens.values()].filter(
      (token) =>
        token.gateway === gateway && token.usedMs === undefined && (token.madeMs ?? 0) <= givenMs,
    );
    const [first] = bought;
    const known = before !== undefined || first === undefined ? {} : labelsOf(first);
    const seen = { ...own, seenMs: this.options.nowMs() };
    await this.registry.put(
      { ...member, ...known, certificates: [...certificates.slice(0, -1), seen] },
      ...bought.map((token) => ({ ...token, usedMs: givenMs, key: own.key })),
    );
    this.notify({
      level: 'warn',
      event: 'gateway_adopted',
      text: `gateway ${gateway} came with a certificate that this collector gave and had no note of: its data folder was put back from an older copy? The gateway is taken in again as it was; what was revoked since that copy has to be revoked again`,
    });
  }

  /** Throws NOT_FOUND. */
  async revoke(gateway: string): Promise<void> {
    await this.inTurn(gateway, async () => {
      const nowMs = this.options.nowMs();
      const member = this.registry.members.get(gateway);
      const hasToken = [...this.registry.tokens.values()].some((each) => each.gateway === gateway);
      if (member === undefined && !hasToken)
        throw new HeadwaterError('NOT_FOUND', `no gateway '${gateway}' was enrolled here`);
      const none = { gateway, site: '', labels: {}, enrolledMs: nowMs, certificates: [] };
      await this.registry.revoke(member ?? none, nowMs);
      this.onRevoked(gateway);
    });
  }

  /** Of a registry that was put back from a copy a certificate may be newer: the authority's word counts. */
  private memberOf(gateway: string, shown: X509Certificate): Member {
    const known = this.registry.members.get(gateway);
    if (known?.certificates.some(({ serial }) => serial === shown.serialNumber) === true)
      return known;
    const adopted = recordOf(shown.toString(), keyOf(shown.publicKey));
    const base = known ?? { gateway, site: '', labels: {}, enrolledMs: adopted.fromMs };
    return { ...base, certificates: [...(known?.certificates ?? []), adopted] };
  }

  private async noteDoubled(member: Member, why: string): Promise<void> {
    if (member.doubled !== undefined) return;
    this.notify({
      level: 'error',
      event: 'gateway_doubled',
      text: `two machines have the identity of gateway ${member.gateway} (${why}): a copied card? What each sends is kept apart by its epoch and nothing is lost; give one of them a name of its own with a new token`,
    });
    await this.registry.put({ ...member, doubled: { atMs: this.options.nowMs(), why } });
  }

  private async certificateFor(wish: Wish, nowMs: number): Promise<Certificate> {
    const { authority, options } = this;
    for (let attempt = 0; ; attempt++) {
      const pem = await authority.issueClient(
        wish.gateway,
        wish.publicKey,
        nowMs,
        options.certificateDays,
      );
      // A signature that OpenSSL does not take would shut a gateway out for good; libraries have made such, rarely.
      if (authority.hasSigned(new X509Certificate(pem))) {
        this.given++;
        return recordOf(pem, wish.key);
      }
      if (attempt === 3) throw new Error('a certificate was made that OpenSSL does not take');
    }
  }

  /** A certificate with wrong dates would shut a gateway out. Throws ENROLL_REFUSED. */
  private checkedNowMs(): number {
    const { nowMs, notBeforeMs } = this.options;
    const now = nowMs();
    if (now < notBeforeMs)
      throw new HeadwaterError(
        'CLOCK_DOUBTED',
        `the collector's clock says ${day(now)}, which cannot be: set it, and enrolling goes on`,
      );
    return now;
  }
}

const labelsOf = ({ site, labels }: TokenRecord) => ({ site, labels });

function recordOf(pem: string, key: string): Certificate {
  const certificate = new X509Certificate(pem);
  const { serialNumber: serial, validFrom, validTo } = certificate;
  return { serial, key, fromMs: Date.parse(validFrom), toMs: Date.parse(validTo), pem };
}

const keyOf = (key: X509Certificate['publicKey']): string =>
  sha256(key.export({ type: 'spki', format: 'der' }));

export const commonName = ({ subject }: X509Certificate): string =>
  /^CN=(.+)$/m.exec(subject)?.[1] ?? '';

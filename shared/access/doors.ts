/**
 * Every listener of both servers, in one table: what it is set by, what it speaks, and by what whoever comes says who he
 * is. The check at the start goes over it, and so does the test of all doors and guards: a listener without a row is an
 * error of the run.
 */
import { checkExposure } from '../config/exposure.ts';
import { HeadwaterError } from '../errors.ts';
import type { Address } from '../net/listen.ts';
import type { Notify } from '../telemetry/log.ts';

export interface Door {
  side: 'gateway' | 'collector';
  setting: string;
  flag: string;
  speaks: 'mqtt' | 'websocket' | 'http';
  /** A setting: where that is on. */
  tls: boolean | 'http.tls';
  /** Its certificate is of the collector's own authority, and comes with it. */
  certifiesItself?: true;
  asks: 'password' | 'secret' | 'token' | 'join';
  /** What a browser can open has the guard of Host and Origin. */
  isWeb: boolean;
}

const mqtt = { speaks: 'mqtt', isWeb: false } as const;
const http = { setting: 'http.listen', speaks: 'http', tls: 'http.tls', isWeb: true } as const;

export const DOORS: readonly Door[] = [
  {
    side: 'gateway',
    setting: 'mqtt.listen',
    flag: '--mqtt',
    tls: false,
    asks: 'password',
    ...mqtt,
  },
  {
    side: 'gateway',
    setting: 'mqtts.listen',
    flag: '--mqtts',
    tls: true,
    asks: 'password',
    ...mqtt,
  },
  {
    side: 'gateway',
    setting: 'ws.listen',
    flag: '--ws',
    speaks: 'websocket',
    tls: false,
    asks: 'password',
    isWeb: true,
  },
  {
    side: 'gateway',
    setting: 'wss.listen',
    flag: '--wss',
    speaks: 'websocket',
    tls: true,
    asks: 'password',
    isWeb: true,
  },
  { side: 'gateway', flag: '--gateway-http', asks: 'token', ...http },
  {
    side: 'collector',
    setting: 'uplink.listen',
    flag: '--uplink',
    tls: false,
    asks: 'secret',
    ...mqtt,
  },
  {
    side: 'collector',
    setting: 'uplinks.listen',
    flag: '--uplinks',
    tls: true,
    asks: 'secret',
    ...mqtt,
  },
  {
    side: 'collector',
    setting: 'enroll.listen',
    flag: '--enroll',
    speaks: 'http',
    tls: true,
    certifiesItself: true,
    asks: 'join',
    isWeb: false,
  },
  { side: 'collector', flag: '--http', asks: 'token', ...http },
];

const CREDENTIAL_FLAGS: Record<Door['asks'], string> = {
  password: '--password-file FILE',
  secret: '--uplink-secret-file FILE',
  token: '--token-file FILE or --tokens-file FILE',
  join: '--uplinks HOST:PORT',
};
/** The door of the same side that speaks by TLS what this one speaks in clear, and what else that needs. */
function tlsFlags({ side, flag, tls, speaks }: Door, hasCertificate: boolean): string {
  const other =
    tls === 'http.tls'
      ? '--http-tls'
      : `${DOORS.find((each) => each.side === side && each.speaks === speaks && each.tls === true)?.flag} HOST:PORT in the place of ${flag}`;
  return hasCertificate ? other : `${other}, with --tls-cert FILE and --tls-key FILE`;
}
const CERTIFICATES =
  ', or authorities for client certificates with --tls-client-ca FILE and tls.clientCertificates: required';

export interface DoorAccess {
  /** Whether credentials of each kind are asked for. */
  asked: Readonly<Partial<Record<Door['asks'], boolean>>>;
  /** On TLS a certificate of a known authority is asked for; not by HTTP. */
  asksCertificate: boolean;
  hasCertificate: boolean;
  allowPlaintext: boolean;
}

/** Throws CONFIG_INVALID for TLS without a certificate, and ADDRESS_NOT_LOOPBACK for what would be open. */
export function checkDoors(
  doors: readonly Door[],
  config: Readonly<Record<string, unknown>>,
  { asked, asksCertificate, hasCertificate, allowPlaintext }: DoorAccess,
  notify: Notify,
): void {
  const isOn = (setting: string): boolean =>
    config[setting] !== undefined && config[setting] !== false;
  const isSecure = ({ tls }: Door): boolean => (tls === 'http.tls' ? isOn(tls) : tls);
  for (const door of doors)
    if (
      !hasCertificate &&
      isSecure(door) &&
      isOn(door.setting) &&
      door.certifiesItself !== true &&
      !(door.setting === 'uplinks.listen' && isOn('enroll.listen'))
    )
      throw new HeadwaterError(
        'CONFIG_INVALID',
        `${door.tls === true ? door.flag : '--http-tls'} needs a certificate: give --tls-cert FILE and --tls-key FILE`,
      );
  checkExposure(
    doors.map((door) => {
      const takesCertificate = door.tls === true;
      return {
        address: config[door.setting] as Address | undefined, // An address, by its type in the settings.
        flag: door.flag,
        protected: asked[door.asks] === true || (takesCertificate && asksCertificate),
        secure: isSecure(door),
        tlsFlags: tlsFlags(door, hasCertificate),
        credentialFlag: `${CREDENTIAL_FLAGS[door.asks]}${takesCertificate ? CERTIFICATES : ''}`,
      };
    }),
    allowPlaintext,
    notify,
  );
}

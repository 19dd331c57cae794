/** Who may come to a gateway, as its first part: a configuration that would be open is refused before anything else. */
import { checkExposure } from '../../shared/config/exposure.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { GatewayConfig } from '../config.ts';
import type { GatewayPart } from '../part.ts';
import { Guard } from './guard.ts';

/** Throws CONFIG_INVALID and ADDRESS_NOT_LOOPBACK. */
function check(
  { passwords, tokens, tls, clientCertificates }: Guard,
  config: GatewayConfig,
  notify: Notify,
): void {
  const needsTls: [keyof GatewayConfig, string][] = [
    ['mqtts.listen', '--mqtts'],
    ['wss.listen', '--wss'],
    ['http.tls', '--http-tls'],
  ];
  for (const [key, flag] of needsTls)
    if (tls === undefined && config[key] !== undefined && config[key] !== false)
      throw new HeadwaterError(
        'CONFIG_INVALID',
        `${flag} needs a certificate: give --tls-cert FILE and --tls-key FILE`,
      );
  const credentialFlag = '--password-file FILE';
  const known = passwords !== undefined;
  const certified = known || clientCertificates === 'required';
  checkExposure(
    [
      { address: config['mqtt.listen'], flag: '--mqtt', protected: known, credentialFlag },
      { address: config['ws.listen'], flag: '--ws', protected: known, credentialFlag },
      {
        address: config['mqtts.listen'],
        flag: '--mqtts',
        protected: certified,
        secure: true,
        credentialFlag: `${credentialFlag}, or authorities for client certificates with --tls-client-ca FILE and tls.clientCertificates: required`,
      },
      {
        address: config['wss.listen'],
        flag: '--wss',
        protected: certified,
        secure: true,
        credentialFlag,
      },
      {
        address: config['http.listen'],
        flag: '--gateway-http',
        protected: tokens.areNeeded,
        secure: config['http.tls'],
        credentialFlag: '--token-file FILE or --tokens-file FILE',
      },
    ],
    config.allowPlaintext,
    notify,
  );
}

export const guardPart: GatewayPart<Guard> = {
  name: 'guard',
  open: ({ context: { config, env, notify } }) => {
    const guard = new Guard(config, env, notify);
    check(guard, config, notify);
    return guard;
  },
  close: (guard) => guard.close(),
};

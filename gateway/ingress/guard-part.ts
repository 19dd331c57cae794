/** Who may come to a gateway, as its first part: a configuration that would be open is refused before anything else. */
import { CERTIFICATE_METRICS, certificateHealth } from '../../shared/access/tls-metrics.ts';
import { DOORS, checkDoors } from '../../shared/access/doors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import type { GatewayConfig } from '../config.ts';
import type { GatewayPart } from '../part.ts';
import { Guard } from './guard.ts';

/** Throws CONFIG_INVALID and ADDRESS_NOT_LOOPBACK. */
export function checkGateway(config: GatewayConfig, guard: Guard, notify: Notify): void {
  const { passwords, tokens, tls, clientCertificates } = guard;
  checkDoors(
    DOORS.filter(({ side }) => side === 'gateway'),
    config,
    {
      asked: { password: passwords !== undefined, token: tokens.areNeeded },
      asksCertificate: clientCertificates === 'required',
      hasCertificate: tls !== undefined,
      allowPlaintext: config.allowPlaintext,
    },
    notify,
  );
}

export const guardPart: GatewayPart<Guard> = {
  name: 'guard',
  open: ({ context: { config, env, notify } }) => {
    const guard = new Guard(config, env, notify);
    checkGateway(config, guard, notify);
    return guard;
  },
  metrics: CERTIFICATE_METRICS,
  health: certificateHealth,
  close: (guard) => guard.close(),
};

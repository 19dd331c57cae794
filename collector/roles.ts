/** What a collector process does, checked. */
import { HeadwaterError } from '../shared/errors.ts';
import { ROLES, type CollectorConfig, type Role } from './config.ts';

/** Throws CONFIG_INVALID. */
export function parseRoles(names: readonly string[]): Set<Role> {
  const roles = new Set<Role>();
  for (const name of names) {
    if (!(ROLES as readonly string[]).includes(name)) {
      throw new HeadwaterError(
        'CONFIG_INVALID',
        `--roles: '${name}' is no role; known are ${ROLES.join(', ')}`,
      );
    }
    roles.add(name as Role);
  }
  if (roles.size === 0)
    throw new HeadwaterError('CONFIG_INVALID', `--roles: name at least one of ${ROLES.join(', ')}`);
  return roles;
}

/** Roles apart need a log and a store that several processes can use. Throws ROLES_CONFLICT. */
export function checkRoles(roles: Set<Role>, config: CollectorConfig): void {
  const missing = ROLES.filter((role) => !roles.has(role));
  if (missing.length === 0) return;
  if (config.log === 'embedded') {
    throw new HeadwaterError(
      'ROLES_CONFLICT',
      `--roles without ${missing.join(', ')}: the embedded log is one process's own, so no other could do the rest; use --log kafka://HOST:PORT`,
    );
  }
  if (config.store === 'embedded' && roles.has('store') !== roles.has('query')) {
    throw new HeadwaterError(
      'ROLES_CONFLICT',
      "the embedded store is one process's own: roles store and query go together, or use --store influxdb://HOST:PORT/ORG/BUCKET",
    );
  }
}

/** The words that a gateway's settings choose between: known to the configuration and to the rooms that they are for. */

export const CLIENT_ID_RULES = ['owner', 'user', 'any'] as const;
/** owner: an id in use is its user's; user: an id must also begin with the user's name; any: neither. */
export type ClientIdRule = (typeof CLIENT_ID_RULES)[number];

/** What a full buffer does: withhold acknowledgements, thin what is old, drop what is oldest. */
export const POLICIES = ['block', 'shed', 'dropOldest'] as const;
export type Policy = (typeof POLICIES)[number];

/** From whom settings are taken: a collector that proved itself (TLS, or this machine), any, nobody. */
export const REMOTE_ACCEPTANCES = ['secure', 'any', 'never'] as const;
export type RemoteAcceptance = (typeof REMOTE_ACCEPTANCES)[number];

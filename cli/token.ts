/** `headwater token NAME`: a new API token, and the line for the file of --tokens-file. */
import { randomBytes } from 'node:crypto';
import { SCOPES, hashOf } from '../shared/access/tokens.ts';
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { HeadwaterError } from '../shared/errors.ts';
import { GATEWAY_ID } from '../shared/wire/wire.ts';

const FLAGS: Flags = {
  scopes: {
    value: 'A,B',
    about: `What it may do: ${SCOPES.join(', ')}. admin includes the others.`,
    default: 'read',
  },
  gateways: { value: 'A,B', about: 'The gateways that it may see.', default: 'all of them' },
};

export const TOKEN_HELP = helpText(
  'token NAME [flags] >> FILE',
  'Makes an API token. Prints the line for the file of --tokens-file on standard output, and the token itself, which is kept nowhere, on standard error.',
  FLAGS,
  `Example: headwater token grafana --scopes read >> tokens`,
);

export function token(args: string[]): void {
  const { values, positionals, help } = parseFlags('token', args, FLAGS, 1);
  if (help) {
    process.stdout.write(TOKEN_HELP);
    return;
  }
  const [name] = positionals;
  if (name === undefined || !/^[\w.-]{1,64}$/.test(name))
    throw new HeadwaterError(
      'USAGE',
      'give a name of letters, digits, dots, dashes and underscores: headwater token NAME',
    );
  const scopes = String(values['scopes'] ?? 'read').split(',');
  const unknown = scopes.find((scope) => !(SCOPES as readonly string[]).includes(scope));
  if (unknown !== undefined)
    throw new HeadwaterError('USAGE', `--scopes: '${unknown}' is not one of ${SCOPES.join(', ')}`);
  const gateways = typeof values['gateways'] === 'string' ? values['gateways'] : '*';
  if (gateways !== '*' && !gateways.split(',').every((gateway) => GATEWAY_ID.test(gateway)))
    throw new HeadwaterError('USAGE', `--gateways: '${gateways}' are not gateways' ids`);
  const secret = randomBytes(32).toString('base64url');
  process.stderr.write(`token: ${secret}\n`);
  process.stdout.write(
    `${name}:${scopes.join(',')}:${gateways}:${hashOf(secret).toString('hex')}\n`,
  );
}

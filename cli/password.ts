/** `headwater password USER`: a line for the password file. */
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { passwordLine } from '../shared/config/secrets.ts';
import { HeadwaterError } from '../shared/errors.ts';

const FLAGS: Flags = {};

export const PASSWORD_HELP = helpText(
  'password USER < FILE',
  'Reads a password from standard input and prints the line for the password file of --password-file.',
  FLAGS,
  `Example: headwater password sensor-7 < secret.txt >> passwords`,
);

export async function password(args: string[]): Promise<void> {
  const { positionals, help } = parseFlags('password', args, FLAGS, 1);
  if (help) {
    process.stdout.write(PASSWORD_HELP);
    return;
  }
  const [user] = positionals;
  if (user === undefined)
    throw new HeadwaterError('USAGE', 'give a user name: headwater password USER < FILE');
  const parts: Buffer[] = [];
  for await (const part of process.stdin as AsyncIterable<Buffer>) parts.push(part);
  const text = Buffer.concat(parts)
    .toString('utf8')
    .replace(/\r?\n$/, '');
  if (text.length < 8)
    throw new HeadwaterError(
      'USAGE',
      'a password of at least 8 characters is needed on standard input',
    );
  process.stdout.write(`${await passwordLine(user, Buffer.from(text))}\n`);
}

/** What a check of `headwater doctor` says. */
import { messageOf } from '../../shared/errors.ts';

export interface Finding {
  level: 'ok' | 'warn' | 'fail';
  text: string;
}

export const ok = (text: string): Finding => ({ level: 'ok', text });
export const warn = (text: string): Finding => ({ level: 'warn', text });
export const fail = (text: string): Finding => ({ level: 'fail', text });

/** What `look` says, or that it failed, in its error's own sentence; `doing` stands in front of it where that helps. */
export async function tried(
  look: () => Finding[] | Promise<Finding[]>,
  doing = '',
): Promise<Finding[]> {
  try {
    return await look();
  } catch (error) {
    return [fail(`${doing === '' ? '' : `${doing}: `}${messageOf(error)}`)];
  }
}

/** How enrolment says no. */
import { HeadwaterError } from '../../shared/errors.ts';

/** Throws ENROLL_REFUSED. */
export function refuse(why: string): never {
  throw new HeadwaterError('ENROLL_REFUSED', why);
}

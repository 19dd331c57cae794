/** At the end of a long trial's name: `npm run test:long` finds them by it. */
export const LONG = '[long]';

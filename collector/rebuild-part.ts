/** The rebuild as a part of a collector: where there is a lake, and replays can be asked for. */
import { BOOLEAN, INTEGER, TEXT, maybe, object } from '../shared/http/schema.ts';
import type { Audit } from '../shared/access/audit.ts';
import { ADMIN_ALL, READ_ALL, json } from '../shared/http/route.ts';
import { replaysPart } from './decode/replay-part.ts';
import { NO_LAKE, lakePart } from './lake/part.ts';
import { logPart } from './log/part.ts';
import { guardPart } from './ops/parts.ts';
import type { CollectorPart } from './part.ts';
import { Rebuild } from './rebuild.ts';
import { storeStagePart } from './store/part.ts';

const STATE = object({
  running: BOOLEAN,
  step: TEXT,
  restoredFrames: INTEGER,
  results: INTEGER,
  replay: TEXT,
  failure: maybe(TEXT),
});

export const rebuildPart: CollectorPart<{ rebuild: Rebuild; audit: Audit }> = {
  name: 'rebuild',
  absent: NO_LAKE,
  open: (site) => {
    const lake = site.find(lakePart);
    const replays = site.find(replaysPart);
    if (lake === undefined || replays === undefined) return undefined;
    const rebuild = new Rebuild(site.get(logPart), lake, replays.jobs, site.context.newId);
    const storing = site.find(storeStagePart);
    if (storing !== undefined) storing.fill.rebuild = () => rebuild.whole();
    return { rebuild, audit: site.get(guardPart).audit };
  },
  routes: [
    {
      method: 'GET',
      path: '/api/v1/rebuild',
      about: 'The rebuild that runs, or ran last.',
      right: READ_ALL,
      replies: { 200: { about: 'Its state.', schema: STATE } },
      handle: ({ rebuild }) => json(rebuild.status),
    },
    {
      method: 'POST',
      path: '/api/v1/rebuild',
      about: 'Makes readings, store and results again from raw.',
      right: ADMIN_ALL,
      body: { fields: {} },
      replies: { 202: { about: 'Begun.', schema: STATE } },
      handle: ({ rebuild, audit }, { identity, address }) => {
        rebuild.begin();
        audit.say({ event: 'rebuild', user: identity.name, address });
        return json(rebuild.status, 202);
      },
    },
  ],
  close: ({ rebuild }) => rebuild.close(),
};

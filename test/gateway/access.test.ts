/** What access rules grant, without a broker; over sockets: `test/e2e/hostile-access.test.ts`. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { AccessRules } from '../../gateway/ingress/access.ts';
import { temporaryFolder } from '../support/process.ts';

function rules(text: string): AccessRules {
  const path = join(temporaryFolder(), 'acl.yaml');
  writeFileSync(path, text);
  return new AccessRules(path);
}

it("nobody joins another's shared subscription where the rules name who may", () => {
  const access = rules(`rules:
  - users: [worker-*]
    subscribe: ['jobs/#']
    shares: ['crew-*', 'own-{user}']
  - users: [guest]
    subscribe: ['jobs/#']
    shares: []
  - users: [anyone]
    subscribe: ['jobs/#']
`);
  const may = (user: string, filter: string) => access.maySubscribe({ user, client: 'c' }, filter);
  expect(may('worker-1', '$share/crew-a/jobs/#')).toBe(true);
  expect(may('worker-1', '$share/own-worker-1/jobs/1')).toBe(true);
  expect(may('worker-1', '$share/own-worker-2/jobs/1')).toBe(false);
  expect(may('worker-1', '$share/else/jobs/#')).toBe(false);
  // The filter behind the name is asked as well, and a name with a star in it is no pattern.
  expect(may('worker-1', '$share/crew-a/other/#')).toBe(false);
  expect(may('worker-*', '$share/own-worker-1/jobs/1')).toBe(false);
  expect(may('worker-1', 'jobs/#')).toBe(true);
  expect(may('guest', '$share/crew-a/jobs/#')).toBe(false);
  expect(may('guest', 'jobs/#')).toBe(true);
  expect(may('anyone', '$share/crew-a/jobs/#')).toBe(true);
});

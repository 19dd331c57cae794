/** The files that take longest begin first, so that none of them runs alone at the end of a project. */
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** As the last runs had them ("slowest files"); others follow in the order of their sizes. */
const LONGEST = [
  'e2e/processing',
  'e2e/lake',
  'e2e/outage',
  'e2e/process-kill',
  'e2e/rebuild',
  'integration/log-kafka',
  'e2e/replay',
  'e2e/hostile-access',
  'e2e/start-pages',
  'integration/kafka-faults',
  'e2e/http',
  'e2e/real-servers',
  'e2e/store-disk',
  'e2e/store-whole',
  'e2e/lake-servers',
  'e2e/hostile-data',
  'collector/lake-damage',
  'collector/adapter-outside',
  'collector/lake-identity',
  'contributing',
];

const place = ({ moduleId }: TestSpecification): number => {
  const at = LONGEST.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
  return at < 0 ? LONGEST.length : at;
};

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    return sorted.toSorted((a, b) => place(a) - place(b));
  }
}

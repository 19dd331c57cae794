/** Makes the archive of Kafka's classes that `startKafka` uses: what a Kafka has loaded once it is up. By install.sh. */
import { renameSync } from 'node:fs';
import { JAVA_FOR_A_MINUTE, KAFKA_CLASSES, startKafka } from './servers.ts';

// As the tests start it: an archive goes with its collector of garbage.
process.env['JAVA_TOOL_OPTIONS'] ??= JAVA_FOR_A_MINUTE;
const made = `${KAFKA_CLASSES}.${process.pid}`;
const kafka = await startKafka(undefined, '', [`-XX:ArchiveClassesAtExit=${made}`]);
await kafka.kill('SIGTERM');
renameSync(made, KAFKA_CLASSES);
